"""Which of OpenAI's protocols a call goes out in, and how its keys and paths look."""

from __future__ import annotations

import pytest

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.clock import SYSTEM_CLOCK
from agent_gateway.core.errors import NotExpressible
from agent_gateway.core.route import Deployment
from agent_gateway.upstream.providers.openai import OpenAIProvider, OpenAISettings
from agent_gateway.upstream.transport import Transport

OPENAI = "https://api.openai.com/v1"
AZURE = "https://r.openai.azure.com/openai/v1"
OWN = "http://127.0.0.1:9/v1"
PLAIN = Deployment("p/m", "p", "m")
ONLY_RESPONSES = Deployment("p/o3-pro", "p", "o3-pro", only_responses=True)


def provider(**settings: object) -> OpenAIProvider:
    return OpenAIProvider(OpenAISettings(**settings), Transport(environ={}), SYSTEM_CLOCK)  # type: ignore[arg-type]


def spoken(made: OpenAIProvider, dialect: Dialect, deployment: Deployment = PLAIN) -> Dialect:
    return made.speaks(Call(dialect, "m", b"{}"), deployment)


@pytest.mark.parametrize("base_url", [OPENAI, AZURE, OWN])
@pytest.mark.parametrize("dialect", ["openai_chat", "openai_completions", "openai_embeddings"])
def test_a_clients_own_protocol_passes_through(base_url: str, dialect: Dialect) -> None:
    assert spoken(provider(base_url=base_url), dialect) == dialect


@pytest.mark.parametrize("dialect", ["anthropic", "gemini"])
def test_other_conversations_go_out_as_chat(dialect: Dialect) -> None:
    assert spoken(provider(), dialect) == "openai_chat"


@pytest.mark.parametrize(
    ("base_url", "api", "goes_out"),
    [
        (OPENAI, "auto", "openai_responses"),
        (AZURE, "auto", "openai_responses"),
        ("https://api.groq.com/openai/v1", "auto", "openai_chat"),
        (OWN, "auto", "openai_chat"),
        (OWN, "responses", "openai_responses"),
        (OPENAI, "chat", "openai_chat"),
    ],
)
def test_responses_stay_so_where_they_are_known_or_said_to_be(base_url: str, api: str, goes_out: Dialect) -> None:
    assert spoken(provider(base_url=base_url, api=api), "openai_responses") == goes_out


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_completions", "openai_responses", "anthropic", "gemini"])
def test_a_model_that_only_responses_has_is_asked_there(dialect: Dialect) -> None:
    assert spoken(provider(), dialect, ONLY_RESPONSES) == "openai_responses"
    assert spoken(provider(api="responses"), dialect) == "openai_responses"
    assert spoken(provider(api="chat"), dialect, ONLY_RESPONSES) != "openai_responses", "what is configured rules"


def test_what_a_server_lacks_is_translated_or_cannot_be_had() -> None:
    bare = provider(base_url=OWN, lacks=("completions", "embeddings"))
    assert spoken(bare, "openai_completions") == "openai_chat"
    with pytest.raises(NotExpressible) as caught:
        spoken(bare, "openai_embeddings")
    assert caught.value.param == "model"


def test_tokens_are_counted_by_nobody_here() -> None:
    with pytest.raises(NotExpressible):
        spoken(provider(), "anthropic_count")


@pytest.mark.parametrize(
    ("settings", "path", "key_header"),
    [
        ({}, "/v1/chat/completions", "authorization: Bearer "),
        ({"base_url": "http://h"}, "/chat/completions", "authorization: Bearer "),
        ({"base_url": "http://h/a/b/"}, "/a/b/chat/completions", "authorization: Bearer "),
        ({"base_url": AZURE, "key_header": "api-key"}, "/openai/v1/chat/completions", "api-key: "),
        ({"key_header": "Authorization"}, "/v1/chat/completions", "authorization: Bearer "),
    ],
)
def test_where_a_call_goes_and_what_shows_its_key(settings: dict[str, str], path: str, key_header: str) -> None:
    endpoint = provider(**settings).endpoint(Call("openai_chat", "m", b"{}"), PLAIN, "openai_chat")
    assert (endpoint.path, endpoint.key_header) == (path, key_header)
