"""How long a provider asks to be left alone, in whichever header or body it says so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec

#: Longer waits are taken for a mistake of the provider's (s).
LONGEST_S = 3600.0

_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def retry_after_s(headers: Mapping[bytes, bytes], body: bytes, wall: float) -> float | None:
    """Seconds to wait, 0–3600; None when nothing was said.

    Read, the first that is there: `retry-after-ms`, `retry-after` (seconds or an HTTP date, RFC 9110 §10.2.3), Google's
    `RetryInfo.retryDelay` in the body (google/rpc/error_details.proto), then the latest reset among the exhausted
    `x-ratelimit-reset-*` (OpenAI: "1s", "6m0s") and `anthropic-ratelimit-*-reset` (RFC 3339) limits.
    """
    wait = _explicit(headers, wall)
    if wait is None and b"retryDelay" in body:
        wait = _retry_info(body)
    if wait is None:
        wait = _latest_reset(headers, wall)
    return None if wait is None else min(max(wait, 0.0), LONGEST_S)


def _explicit(headers: Mapping[bytes, bytes], wall: float) -> float | None:
    milliseconds = _number(headers.get(b"retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get(b"retry-after")
    if value is None:
        return None
    seconds = _number(value)
    if seconds is not None:
        return seconds
    try:
        at = parsedate_to_datetime(value.decode("latin-1"))
        # An HTTP date is in GMT, said or not.
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - wall
    except (ValueError, OverflowError):
        return None


class _RetryDetail(msgspec.Struct):
    retryDelay: str | None = None


class _GoogleError(msgspec.Struct):
    details: list[_RetryDetail] = []


class _GoogleBody(msgspec.Struct):
    error: _GoogleError


def _retry_info(body: bytes) -> float | None:
    try:
        details = msgspec.json.decode(body, type=_GoogleBody).error.details
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return next((_span(detail.retryDelay) for detail in details if detail.retryDelay), None)


def _latest_reset(headers: Mapping[bytes, bytes], wall: float) -> float | None:
    waits: list[float] = []
    for kind in (b"requests", b"tokens", b"input-tokens", b"output-tokens"):
        if headers.get(b"x-ratelimit-remaining-" + kind) == b"0":
            waits.append(_span(headers.get(b"x-ratelimit-reset-" + kind, b"").decode("latin-1")) or 0.0)
        if headers.get(b"anthropic-ratelimit-" + kind + b"-remaining") == b"0":
            waits.append(_until(headers.get(b"anthropic-ratelimit-" + kind + b"-reset", b"").decode("latin-1"), wall))
    return max(waits) if waits and max(waits) > 0 else None


def _span(text: str) -> float | None:
    """ "6m0s", "1.5s", "20ms", "3"."""
    parts = _SPAN.findall(text)
    if parts:
        return sum(float(number) * _UNIT_S[unit] for number, unit in parts)
    return _number(text.encode())


def _until(moment: str, wall: float) -> float:
    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        return 0.0
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - wall


def _number(value: bytes | None) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
