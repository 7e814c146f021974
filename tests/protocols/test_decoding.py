"""What is wrong with a request, in words that name the field and what it may be."""

from __future__ import annotations

from typing import Literal

import msgspec
import pytest
from msgspec import Struct

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.errors import BadRequest
from agent_gateway.protocols.base import codec_of
from agent_gateway.protocols.decoding import decode


class Inner(Struct):
    role: Literal["a", "b"]
    place: Literal[1, 2] | None = None


class Outer(Struct, rename="camel"):
    many_things: list[Inner] | None = None
    by_name: dict[str, Inner] = {}
    deep: list[list[Inner]] = []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"manyThings": [{"role": "a"}, {"role": "sys"}]}', "manyThings[1].role: 'sys' is not one of a, b."),
        (b'{"deep": [[], [{"role": "sys"}]]}', "deep[1][0].role: 'sys' is not one of a, b."),
        (b'{"byName": {"x": {"role": "sys"}}}', "byName[...].role: 'sys' is not one of a, b."),
        (b'{"manyThings": [{"role": "a", "place": 3}]}', "manyThings[0].place: 3 is not one of 1, 2."),
    ],
)
def test_words_that_there_are(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        decode(msgspec.json.Decoder(Outer), body)
    assert caught.value.message == message
    assert caught.value.param == message.partition(":")[0]


@pytest.mark.parametrize(
    ("dialect", "messages", "roles"),
    [
        ("anthropic", "messages", "assistant, system, user"),
        ("openai_chat", "messages", "developer, system, user, assistant, tool, function"),
        ("openai_responses", "input", "assistant, developer, system, user"),
    ],
)
def test_the_roles_are_named(dialect: Dialect, messages: str, roles: str) -> None:
    body = msgspec.json.encode({"model": "m", "max_tokens": 1, messages: [{"role": "sys", "content": "x"}]})
    with pytest.raises(BadRequest) as caught:
        codec_of(dialect).read_conversation(Call(dialect, "m", body))
    assert caught.value.message == f"{messages}[0].role: 'sys' is not one of {roles}."
