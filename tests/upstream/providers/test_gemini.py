"""Where Gemini is asked: model and method stand in the path."""

from __future__ import annotations

import pytest

from agent_gateway.core.call import Call
from agent_gateway.core.clock import SYSTEM_CLOCK
from agent_gateway.core.route import Deployment
from agent_gateway.upstream.providers.gemini import ENDPOINTS_MAX, GeminiProvider, GeminiSettings
from agent_gateway.upstream.transport import Transport

GOOGLE = "https://generativelanguage.googleapis.com"


def provider(base_url: str = GOOGLE) -> GeminiProvider:
    return GeminiProvider(GeminiSettings(base_url=base_url), Transport(environ={}), SYSTEM_CLOCK)


def path(made: GeminiProvider, model: str = "m", *, stream: bool = False) -> str:
    return made.endpoint(Call("gemini", "as asked", b"{}", stream=stream), Deployment(f"p/{model}", "p", model), "gemini").path


@pytest.mark.parametrize(
    ("base_url", "root"),
    [
        (GOOGLE, "/v1beta"),
        (f"{GOOGLE}/", "/v1beta"),
        (f"{GOOGLE}/v1beta", "/v1beta"),
        (f"{GOOGLE}/v1beta/", "/v1beta"),
        (f"{GOOGLE}/v1", "/v1"),
        ("http://127.0.0.1:9/google", "/google/v1beta"),
    ],
)
def test_the_version_may_stand_in_the_address_or_not(base_url: str, root: str) -> None:
    made = provider(base_url)
    assert path(made) == f"{root}/models/m:generateContent"
    embeddings = made.endpoint(Call("openai_embeddings", "m", b"{}"), Deployment("p/m", "p", "m"), "openai_embeddings")
    assert (embeddings.path, embeddings.key_header) == (f"{root}/openai/embeddings", "authorization: Bearer ")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gemini-2.5-flash", "gemini-2.5-flash"),
        ("models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("a/b", "a%2Fb"),
        ("a b?c#d", "a%20b%3Fc%23d"),
        ("..", ".."),
        ("x:streamGenerateContent", "x%3AstreamGenerateContent"),
    ],
)
def test_a_models_name_is_one_segment_of_the_path(model: str, name: str) -> None:
    assert path(provider(), model) == f"/v1beta/models/{name}:generateContent"


def test_the_call_says_whether_it_streams() -> None:
    assert path(provider(), stream=True) == "/v1beta/models/m:streamGenerateContent?alt=sse"


def test_names_that_clients_make_up_are_not_all_remembered() -> None:
    made = provider()
    for number in range(ENDPOINTS_MAX + 10):
        path(made, f"model-{number}")
    assert made._generation.cache_info().currsize == ENDPOINTS_MAX
