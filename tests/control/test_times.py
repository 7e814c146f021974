"""Moments are written in one way and read in the few that people write."""

from __future__ import annotations

import pytest

from agent_gateway.control.times import moment, told
from agent_gateway.core.errors import BadRequest

NOW = 1_760_000_000.0


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("45m", NOW - 2_700),
        ("24h", NOW - 86_400),
        ("1w", NOW - 604_800),
        ("1970-01-02", 86_400.0),
        ("1970-01-01T00:00:01.5Z", 1.5),
        ("1970-01-01T02:00:00+02:00", 0.0),
    ],
)
def test_moments_are_read(text: str, at: float) -> None:
    assert moment(text, "since", NOW) == at


@pytest.mark.parametrize("text", ["", "soon", "5", "5y", "-1h", "1970-13-01", "9999999h", "٣h"])
def test_what_is_no_moment_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(BadRequest, match=r"^since: expected a moment") as caught:
        moment(text, "since", NOW)
    assert caught.value.param == "since"


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1.5, "1970-01-01T00:00:01.500Z"),
        (-5.0, "1970-01-01T00:00:00.000Z"),
        (1e15, "9999-12-31T23:59:59.000Z"),
    ],
)
def test_moments_are_told(at: float, text: str) -> None:
    assert told(at) == text


def test_no_moment_is_none() -> None:
    assert told(None) is None
