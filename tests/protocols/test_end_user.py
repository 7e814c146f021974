"""Who a request is for, as providers of other protocols are told."""

from __future__ import annotations

import pytest

from agent_gateway.core.conversation import Conversation, Text, Turn
from agent_gateway.core.route import Deployment
from agent_gateway.protocols.base import codec_of
from agent_gateway.protocols.end_user import user_of_anthropic, user_of_openai

LONG = '{"device_id":"' + "0" * 64 + '","account_uuid":"","session_id":""}'


@pytest.mark.parametrize("user", ["u", "a" * 64, "someone@example.com", "", None])
def test_openai_takes_any_id_that_is_short(user: str | None) -> None:
    assert user_of_openai(user) == user


@pytest.mark.parametrize("user", ["user_1", "a" * 256, "01996d2e-5a3c-7cc1-b34a-9f0dd11d1f3e", "", None])
def test_anthropic_takes_ids_that_are_opaque(user: str | None) -> None:
    assert user_of_anthropic(user) == user


@pytest.mark.parametrize("user", ["someone@example.com", "+49 30 123456", "030123456", LONG, "ü", "a" * 257, " "])
def test_anthropic_gets_the_hash_of_any_other(user: str) -> None:
    hashed = user_of_anthropic(user)
    assert hashed is not None
    assert len(hashed) == 64
    assert hashed == user_of_anthropic(user) != user_of_anthropic(user + "x")


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_responses", "openai_completions"])
def test_a_long_id_goes_to_openai_as_its_hash(dialect: str) -> None:
    conversation = Conversation(model="m", turns=(Turn("user", (Text("Hi"),)),), user=LONG)
    body = codec_of(dialect).write_request(conversation, Deployment("p/m", "p", "m"))  # type: ignore[arg-type]
    hashed = user_of_openai(LONG)
    assert hashed is not None
    assert len(hashed) == 64
    assert hashed.encode() in body
