"""How long to wait, in whichever of the providers' ways it is said."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.upstream.retry_after import LONGEST_S, retry_after_s

WALL = 1_700_000_000.0
HEADERS = (
    b"retry-after-ms",
    b"retry-after",
    b"x-ratelimit-remaining-requests",
    b"x-ratelimit-reset-requests",
    b"anthropic-ratelimit-tokens-remaining",
    b"anthropic-ratelimit-tokens-reset",
)


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(WALL + seconds, UTC)


def google(delay: object) -> bytes:
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    other = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []}
    return msgspec.json.encode({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [other, retry]}})


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({b"retry-after": b"30"}, 30),
        ({b"retry-after": b"0"}, 0),
        ({b"retry-after": b"1.5"}, 1.5),
        ({b"retry-after-ms": b"250"}, 0.25),
        ({b"retry-after-ms": b"250", b"retry-after": b"30"}, 0.25),
        ({b"retry-after": format_datetime(at(45), usegmt=True).encode()}, 45),
        ({b"retry-after": at(45).strftime("%a, %d %b %Y %H:%M:%S").encode()}, 45),
        ({b"retry-after": at(45).strftime("%a, %d %b %Y %H:%M:%S -0000").encode()}, 45),
        ({b"retry-after": format_datetime(at(-45), usegmt=True).encode()}, 0),
        ({b"retry-after": b"999999"}, LONGEST_S),
        ({b"x-ratelimit-remaining-requests": b"0", b"x-ratelimit-reset-requests": b"1s"}, 1),
        ({b"x-ratelimit-remaining-tokens": b"0", b"x-ratelimit-reset-tokens": b"6m0s"}, 360),
        ({b"x-ratelimit-remaining-tokens": b"0", b"x-ratelimit-reset-tokens": b"120ms"}, 0.12),
        ({b"x-ratelimit-remaining-tokens": b"0", b"x-ratelimit-reset-tokens": b"1h1m1.5s"}, LONGEST_S),
        ({b"x-ratelimit-remaining-tokens": b"7", b"x-ratelimit-reset-tokens": b"6m0s"}, None),
        (
            {
                b"x-ratelimit-remaining-requests": b"0",
                b"x-ratelimit-reset-requests": b"2s",
                b"x-ratelimit-remaining-tokens": b"0",
                b"x-ratelimit-reset-tokens": b"8s",
            },
            8,
        ),
        ({b"anthropic-ratelimit-requests-remaining": b"0", b"anthropic-ratelimit-requests-reset": at(20).isoformat().encode()}, 20),
        (
            {
                b"anthropic-ratelimit-input-tokens-remaining": b"0",
                b"anthropic-ratelimit-input-tokens-reset": at(9).strftime("%Y-%m-%dT%H:%M:%SZ").encode(),
            },
            9,
        ),
        (
            {
                b"anthropic-ratelimit-output-tokens-remaining": b"0",
                b"anthropic-ratelimit-output-tokens-reset": at(9).strftime("%Y-%m-%dT%H:%M:%S").encode(),
            },
            9,
        ),
        ({b"retry-after": b"3", b"x-ratelimit-remaining-requests": b"0", b"x-ratelimit-reset-requests": b"9s"}, 3),
        ({}, None),
    ],
)
def test_every_header(headers: dict[bytes, bytes], seconds: float | None) -> None:
    assert retry_after_s(headers, b"", WALL) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(("delay", "seconds"), [("34s", 34), ("34.074824224s", 34.074824224), ("0s", 0), (None, None), (5, None)])
def test_retry_info(delay: object, seconds: float | None) -> None:
    assert retry_after_s({}, google(delay), WALL) == (None if seconds is None else pytest.approx(seconds))


def test_a_header_comes_before_the_body() -> None:
    assert retry_after_s({b"retry-after": b"2"}, google("34s"), WALL) == 2


@pytest.mark.parametrize("value", [b"", b"soon", b"nan", b"inf", b"-1", b"\xff", b"Mon, 99 Foo 2023", b"1e999", b"Thu, 01 Jan 1 00:00:00"])
def test_nonsense_says_nothing(value: bytes) -> None:
    assert retry_after_s({b"retry-after": value}, b"", WALL) in (None, 0)
    headers = {b"x-ratelimit-remaining-requests": b"0", b"x-ratelimit-reset-requests": value}
    assert retry_after_s(headers, b"", WALL) in (None, 0)


@pytest.mark.parametrize("body", [b"retryDelay", b'{"retryDelay": "\xff"}', b"retryDelay" + b"[" * 100_000, b"[" * 100_000 + b"retryDelay"])
def test_a_broken_body_says_nothing(body: bytes) -> None:
    assert retry_after_s({}, body, WALL) is None


@given(st.dictionaries(st.sampled_from(HEADERS), st.binary(max_size=30) | st.sampled_from([b"0", b"6m0s", b"1700000000"])), st.binary())
def test_whatever_is_said_the_wait_is_bounded(headers: dict[bytes, bytes], body: bytes) -> None:
    wait = retry_after_s(headers, body, WALL)
    assert wait is None or 0 <= wait <= LONGEST_S
