"""The messages of a WebSocket: which are taken, how a wrong one is told, and that answers go in as they stand."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.core.errors import RateLimited
from agent_gateway.edge.websocket_frames import Cancel, NotAFrame, NotReadable, Request, Writer, read
from agent_gateway.protocols.openai_chat.client import write_error, write_stream_error
from agent_gateway.wire.sse import data_frame
from tests.kit import samples

NAME = st.text(st.characters(codec="utf-8"), min_size=1, max_size=128)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8")),
    lambda children: st.lists(children) | st.dictionaries(st.text(st.characters(codec="utf-8")), children),
)
ERROR = RateLimited("Too fast.", retry_after_s=3)


@given(NAME, JSON)
def test_a_request_keeps_its_body_as_it_came(name: str, body: Any) -> None:
    text = msgspec.json.format(msgspec.json.encode(body), indent=2)
    assert read(b'{ "body" : %b, "request": %b }' % (text, msgspec.json.encode(name))) == Request(name, text)


@given(NAME)
def test_a_cancel(name: str) -> None:
    assert read(msgspec.json.encode({"cancel": name})) == Cancel(name)


@pytest.mark.parametrize(
    ("frame", "name", "param"),
    [
        ("[]", None, None),
        ("7", None, None),
        ("{}", None, "request"),
        ('{"body": {}}', None, "request"),
        ('{"request": null, "body": {}}', None, "request"),
        ('{"request": {"a": 1}, "body": {}}', None, "request"),
        ('{"request": "a"}', "a", "body"),
        ('{"request": "a", "body": {}, "stream": true}', "a", "stream"),
        ('{"request": "a", "cancel": "a"}', "a", "cancel"),
        ('{"cancel": "a", "body": {}}', None, "cancel"),
        ('{"cancel": 1}', None, "cancel"),
    ],
)
def test_what_is_no_frame(frame: str, name: str | None, param: str | None) -> None:
    with pytest.raises(NotAFrame) as wrong:
        read(frame.encode())
    assert (wrong.value.name, wrong.value.error.param, wrong.value.error.status) == (name, param, 400)


@given(st.binary())
def test_bytes_that_are_no_json_are_told_apart(data: bytes) -> None:
    with pytest.raises((NotReadable, NotAFrame)):
        read(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"nul",
        b'{"cancel": "a"} x',
        b'{"cancel": "\xff"}',
        b'{"request": "a", "body": "\xc3"}',
        b'{"a":' + b"[" * 10_000,
    ],
)
def test_what_cannot_be_read(data: bytes) -> None:
    with pytest.raises(NotReadable):
        read(data)


@given(NAME, st.lists(JSON, min_size=1))
def test_events_become_messages(name: str, values: list[Any]) -> None:
    frames = b": heartbeat\n\n" + b"".join(samples.sse(value) for value in values) + samples.DONE
    messages = [msgspec.json.decode(message) for message in Writer(name).events(frames)]
    assert messages == [{"request": name, "data": value} for value in values]


def test_an_event_of_several_lines_is_one_message() -> None:
    pretty = msgspec.json.format(msgspec.json.encode(samples.delta({"content": "x"})), indent=2)
    [message] = Writer("a").events(data_frame(pretty))
    assert msgspec.json.decode(message) == {"request": "a", "data": msgspec.json.decode(pretty)}


def test_the_error_of_a_stream_is_an_error() -> None:
    [message] = Writer("a").events(write_stream_error(ERROR, "backup"))
    told = {
        "message": "Too fast.",
        "type": "rate_limit_error",
        "code": "rate_limit_exceeded",
        "retry_after": 3,
        "fallback_model": "backup",
    }
    assert msgspec.json.decode(message) == {"request": "a", "error": told}


def test_a_chunk_that_only_mentions_errors_is_none() -> None:
    values: list[dict[str, Any]] = [{"error": None, "choices": []}, {"choices": [], "error": {"message": "x"}}]
    for value in values:
        [message] = Writer("a").events(samples.sse(value))
        assert msgspec.json.decode(message) == {"request": "a", "data": value}


@pytest.mark.parametrize("name", ["a", None])
def test_the_error_of_a_whole_answer_has_what_http_says_beside_it(name: str | None) -> None:
    told = {"message": "Too fast.", "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded"}
    message = Writer(name).error(write_error(ERROR), 429, 3)
    assert msgspec.json.decode(message) == {"request": name, "error": told, "status": 429, "retry_after": 3}


def test_the_last_message() -> None:
    assert msgspec.json.decode(Writer('"').done()) == {"request": '"', "done": True}
