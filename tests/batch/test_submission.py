"""Input files, line by line."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_gateway.batch import submission
from agent_gateway.batch.submission import ENDPOINTS, LineError, Submission
from agent_gateway.stores.batches import NewItem

CHAT = "/v1/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def line(custom_id: str = "a", url: str = CHAT, body: Any = None, **more: Any) -> bytes:
    return msgspec.json.encode({"custom_id": custom_id, "method": "POST", "url": url, "body": BODY if body is None else body, **more})


def read(*pieces: bytes, endpoint: str = CHAT, **options: Any) -> tuple[list[NewItem], list[LineError]]:
    reading = Submission(endpoint, **options)
    items = [item for piece in pieces for item in reading.feed(piece) if item is not None]
    if (last := reading.finish()) is not None:
        items.append(last)
    return items, reading.errors


def test_every_line_is_an_item_with_its_number_and_its_body_verbatim() -> None:
    spaced = (
        b'{"custom_id": "b", "url": "/v1/chat/completions", "body": {"model": "n",  "messages": [{"role":"user","content":"\xc3\xbc"}]}}'
    )
    items, errors = read(line() + b"\r\n\n" + spaced)
    assert not errors
    assert [(item.number, item.custom_id, item.model) for item in items] == [(1, "a", "m"), (3, "b", "n")]
    assert items[1].body == b'{"model": "n",  "messages": [{"role":"user","content":"\xc3\xbc"}]}'


def test_an_item_says_whose_result_it_shares_and_how_it_begins() -> None:
    long = {"model": "m", "seed": 1, "messages": [{"role": "user", "content": "hello " * 1000}]}
    lines = b"\n".join([b"", line("a", body=long), line("b"), line("c", body=long), line("d")])
    shared = [(item.number, item.twin, len(item.prefix)) for item in read(lines)[0]]
    assert shared == [(2, None, 20), (3, None, 0), (4, 2, 20), (5, None, 0)]
    wanted = [[item.twin for item in read(lines, deduplicate=wanted)[0]] for wanted in (True, False)]
    assert wanted == [[None, None, 2, 3], [None] * 4]


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/v1/completions", {"model": "m", "prompt": "hello"}),
        ("/v1/embeddings", {"model": "m", "input": ["hello"]}),
        ("/v1/responses", {"model": "m", "input": "hello"}),
        ("/v1/messages", {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]}),
        (CHAT, BODY),
    ],
)
def test_each_endpoint_reads_its_own_protocol(endpoint: str, body: dict[str, Any]) -> None:
    assert endpoint in ENDPOINTS
    items, errors = read(line(url=endpoint, body=body), endpoint=endpoint)
    assert (len(items), errors) == (1, [])


@pytest.mark.parametrize(
    ("bad", "code", "param"),
    [
        (b"{", "invalid_json_line", None),
        (b"[]", "invalid_request", None),
        (b'{"custom_id":"x","url":"/v1/chat/completions"}', "invalid_request", None),
        (line(""), "invalid_custom_id", "custom_id"),
        (line("x" * 513), "invalid_custom_id", "custom_id"),
        (line("a\0"), "invalid_custom_id", "custom_id"),
        (line("x", body={"model": "m\0", "messages": [{"role": "user", "content": "Hi"}]}), "bad_request", "body.model"),
        (line("a"), "duplicate_custom_id", "custom_id"),
        (line("x", method="GET"), "invalid_method", "method"),
        (line("x", "/v1/embeddings"), "invalid_url", "url"),
        (line("x", body={"messages": []}), "bad_request", "body.model"),
        (line("x", body=[1]), "bad_request", "body"),
        (line("x", body={**BODY, "stream": True}), "bad_request", "body.stream"),
        (b'{"custom_id":"x","url":"/v1/chat/completions","body":{"model":"m","pad":"' + b"x" * 3000 + b'"}}', "line_too_long", None),
    ],
)
def test_a_bad_line_is_told_with_its_number(bad: bytes, code: str, param: str | None) -> None:
    items, errors = read(line("a") + b"\n" + bad + b"\n" + line("c"), line_bytes_max=2000)
    assert [item.custom_id for item in items] == ["a", "c"]
    (error,) = errors
    assert (error.code, error.line, error.param) == (code, 2, param)
    assert error.message


@pytest.mark.parametrize("empty", [b"", b"\n \n\r\n"])
def test_a_file_without_a_line_is_refused(empty: bytes) -> None:
    assert [error.code for error in read(empty)[1]] == ["empty_file"]


def test_more_items_or_models_than_are_allowed_are_refused_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = b"\n".join(line(str(number), body={**BODY, "model": f"m{number}"}) for number in range(10))
    assert [(error.code, error.line) for error in read(lines, items_max=5)[1]] == [("too_many_requests", 6)]
    monkeypatch.setattr(submission, "MODELS_MAX", 3)
    assert [(error.code, error.line) for error in read(lines)[1]] == [("too_many_models", 4)]


def test_a_file_of_nothing_but_errors_is_read_no_further_than_they_are_told() -> None:
    reading = Submission(CHAT)
    assert list(reading.feed(b"{\n" * 1000)) == [None] * 1000
    assert reading.hopeless
    assert len(reading.errors) == submission.ERRORS_MAX


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_however_a_file_is_cut_the_same_items_come_out(data: st.DataObject) -> None:
    whole = b"\n".join([line("a"), b"", b"nonsense", line("b", body={**BODY, "user": "ü"}), line("c"), b""])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert read(*pieces) == read(whole)
