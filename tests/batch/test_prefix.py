"""The beginnings of requests, as words that sort."""

from __future__ import annotations

from itertools import takewhile
from random import Random
from typing import Any

import msgspec
import pytest

from agent_gateway.batch.prefix import BLOCK_BYTES, BLOCKS_MAX, prefix_of
from agent_gateway.batch.submission import read_call

CHAT = "/v1/chat/completions"


def text(seed: int, size: int) -> str:
    return "".join(Random(seed).choices("abcdefgh ", k=size))


def prefix(endpoint: str = CHAT, **body: Any) -> str:
    return prefix_of(read_call(endpoint, msgspec.json.encode({"model": "m", **body})))


def asked(system: str, question: str) -> str:
    return prefix(messages=[{"role": "system", "content": system}, {"role": "user", "content": question}])


def shared_blocks(one: str, other: str) -> int:
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))) // 4


def test_what_shares_a_beginning_stands_side_by_side() -> None:
    systems = [text(seed, 3 * BLOCK_BYTES) for seed in range(3)]
    words = sorted((asked(systems[n % 3], text(100 + n, 2000)), n % 3) for n in range(30))
    assert [of for _, of in words] == sorted((of for _, of in words), key=[of for _, of in words].index)
    assert len({word for word, _ in words}) == 30


def test_of_two_more_blocks_in_common_are_more_characters() -> None:
    document = text(1, 20 * BLOCK_BYTES)
    whole = asked("Answer.", document)
    assert len(whole) == 4 * BLOCKS_MAX
    for shared in (0, 1, 3, 7):
        other = asked("Answer.", document[: (shared + 1) * BLOCK_BYTES - 100] + text(2, 20 * BLOCK_BYTES))
        assert shared_blocks(whole, other) == shared
    assert asked("Answer.", document + "and more") == whole


def test_what_is_left_over_is_not_compared() -> None:
    system = text(1, BLOCK_BYTES)
    assert asked("short", "a") == ""
    assert asked(system, "a") == asked(system, "b") != ""


@pytest.mark.parametrize(
    ("endpoint", "first", "then"),
    [
        (CHAT, {"tools": [{"type": "function", "function": {"name": "f", "description": text(1, 1500)}}]}, "messages"),
        ("/v1/responses", {"instructions": text(1, 1500)}, "input"),
        ("/v1/messages", {"max_tokens": 5, "system": text(1, 1500)}, "messages"),
    ],
)
def test_tools_and_instructions_come_first_wherever_they_stand(endpoint: str, first: dict[str, Any], then: str) -> None:
    said: list[Any] = [text(seed, 2000) if then == "input" else [{"role": "user", "content": text(seed, 2000)}] for seed in (2, 3)]
    one, other = prefix(endpoint, **first, **{then: said[0]}), prefix(endpoint, **{then: said[1]}, **first)
    assert shared_blocks(one, other) == 1
    assert one != other


def test_a_plain_text_is_a_beginning_and_a_vector_has_none() -> None:
    assert len(prefix("/v1/completions", prompt=text(1, 3000))) == 8
    assert prefix("/v1/embeddings", input=text(1, 3000)) == ""
