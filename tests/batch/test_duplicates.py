"""Which requests of a batch are run once for several."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent_gateway.batch import duplicates
from agent_gateway.batch.duplicates import Duplicates, is_deterministic
from agent_gateway.batch.submission import read_call
from agent_gateway.core.call import Call

CHAT = "/v1/chat/completions"
ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
#: A request of each endpoint, without what would make it deterministic.
PLAIN: dict[str, dict[str, Any]] = {
    CHAT: ASKED,
    "/v1/completions": {"model": "m", "prompt": "hello"},
    "/v1/responses": {"model": "m", "input": "hello"},
    "/v1/messages": {**ASKED, "max_tokens": 5},
}


def call(body: dict[str, Any] | bytes, endpoint: str = CHAT) -> Call:
    return read_call(endpoint, body if isinstance(body, bytes) else msgspec.json.encode(body))


def twins(*bodies: dict[str, Any] | bytes, endpoint: str = CHAT, wanted: bool | None = None) -> list[int | None]:
    """Of items 1, 2, 3, … each."""
    seen = Duplicates(wanted)
    return [seen.twin_of(number, call(body, endpoint)) for number, body in enumerate(bodies, 1)]


@pytest.mark.parametrize("endpoint", PLAIN)
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (b'"temperature":0', True),
        (b'"temperature": 0.00 ', True),
        (b'"temperature":-0.0', True),
        (b'"temperature":0e0', True),
        (b'"temperature":0.01', False),
        (b'"temperature":1', False),
        (b'"temperature":null', False),
        (b'"seed":7', True),
        (b'"seed": null', False),
        (b'"seed":0,"temperature":1', True),
        (b'"metadata":{"temperature":"0"}', False),
    ],
)
def test_a_request_is_deterministic_at_temperature_0_or_with_a_seed(endpoint: str, asked: bytes, said: bool) -> None:
    body = msgspec.json.encode(PLAIN[endpoint])[:-1] + b"," + asked + b"}"
    assert is_deterministic(call(body, endpoint)) is said
    assert twins(body, body, endpoint=endpoint) == [None, 1 if said else None]


def test_vectors_are_always_the_same() -> None:
    asked = [{"model": "m", "input": text} for text in ("a", "b", "a", "a")]
    assert twins(*asked, endpoint="/v1/embeddings") == [None, None, 1, 1]
    assert twins(*asked, endpoint="/v1/embeddings", wanted=False) == [None] * 4


def test_who_asks_for_it_has_all_that_are_the_same_run_once_or_none() -> None:
    asked = [ASKED, {**ASKED, "temperature": 0}, ASKED, {**ASKED, "temperature": 0}]
    assert twins(*asked) == [None, None, None, 2]
    assert twins(*asked, wanted=True) == [None, None, 1, 2]
    assert twins(*asked, wanted=False) == [None] * 4


def test_members_in_another_order_and_white_space_are_no_difference_but_values_and_lists_are() -> None:
    assert twins(
        b'{"model":"m","temperature":0,"messages":[{"role":"user","content":"\xc3\xbc"}]}',
        b'{"temperature": 0, "messages": [\n{"content": "\\u00fc", "role": "user"}], "model": "m"}',
        b'{"model":"n","temperature":0,"messages":[{"role":"user","content":"\xc3\xbc"}]}',
        b'{"model":"m","temperature":0,"messages":[{"role":"user","content":"\xc3\xbc"}],"user":"ann"}',
        b'{"model":"m","temperature":0,"messages":[{"role":"user","content":"\xc3\xbc"}],"stop":["a","b"]}',
        b'{"model":"m","temperature":0,"messages":[{"role":"user","content":"\xc3\xbc"}],"stop":["b","a"]}',
    ) == [None, 1, None, None, None, None]  # fmt: skip


def test_what_goes_on_in_a_conversation_is_never_left_out() -> None:
    asked = {"model": "m", "input": "and then?", "temperature": 0}
    assert twins({**asked, "conversation": "conv_1"}, {**asked, "conversation": "conv_1"}, endpoint="/v1/responses", wanted=True) == [
        None,
        None,
    ]
    assert twins({**asked, "previous_response_id": "resp_1"}, {**asked, "previous_response_id": "resp_1"}, endpoint="/v1/responses") == [
        None,
        1,
    ]


def test_large_ones_and_such_as_cannot_be_taken_apart_are_compared_byte_for_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = b'{"model":"m","temperature":0,"messages":[{"role":"user","content":"a"}],"more":%s}'
    huge = odd % (b"1" + b"0" * 5000)
    assert twins(huge, huge, huge.replace(b"}", b" }", 1)) == [None, 1, None]
    plain = odd % b"1"
    assert twins(plain, plain[:-1] + b" }") == [None, 1]
    monkeypatch.setattr(duplicates, "SORTED_BYTES_MAX", 10)
    assert twins(plain, plain, plain[:-1] + b" }") == [None, 1, None]
