"""Moments, as the admin API and the commands write and read them: RFC 3339 in UTC, with milliseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from agent_gateway.core.clock import told as told
from agent_gateway.core.errors import BadRequest

UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def moment(text: str, name: str, now: float) -> float:
    """Unix seconds of `2025-01-31`, `2025-01-31T08:00:00Z`, or so long before now: `45m`, `24h`, `7d`. Raises `BadRequest`."""
    if match := re.fullmatch(r"(\d{1,6})([smhdw])", text, re.ASCII):
        return now - int(match[1]) * UNIT_S[match[2]]
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        what = "expected a moment such as 2025-01-31 or 2025-01-31T08:00:00Z, or so long before now: 45m, 24h, 7d"
        raise BadRequest(f"{name}: {what}; not {text[:40]!r}.", param=name) from None


def span(since: str | None, until: str | None, now: float) -> tuple[float | None, float | None]:
    """Two moments of a query. Raises `BadRequest`, also where the second is before the first."""
    begins = None if since is None else moment(since, "since", now)
    ends = None if until is None else moment(until, "until", now)
    if begins is not None and ends is not None and ends < begins:
        raise BadRequest(f"until: {told(ends)} is before since, {told(begins)}.", param="until")
    return begins, ends
