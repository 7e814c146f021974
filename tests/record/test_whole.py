"""The metrics of several processes as those of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent_gateway.record.family import Family, Histogram, Kind, rendered
from agent_gateway.record.whole import Whole, packed, unpacked

BOUNDS = (1.0, 2.0)


def family(kind: Kind, name: str, values: Mapping[Any, Any], *labels: str) -> Family:
    return Family(kind, name, f"About {name}.", labels, values)


def histogram(*values: float) -> Histogram:
    made = Histogram(BOUNDS)
    for value in values:
        made.observe(value)
    return made


def one(requests: float, times: Histogram, in_flight: float, breaker: float, complete: float) -> list[Family]:
    return unpacked(
        packed(
            [
                family("counter", "requests", {("a",): requests}, "model"),
                family("histogram", "request_duration_seconds", {("a",): times}, "model"),
                family("gauge", "in_flight", {("a",): in_flight}, "model"),
                family("gauge", "breaker_state", {("d",): breaker}, "deployment"),
                family("gauge", "records_complete_ratio", {("s",): complete}, "sink"),
            ]
        )
    )


def told(whole: Whole, *heard: int) -> dict[str, Any]:
    """Of each the one series that there is; of a histogram its counts and its sum."""
    values = {family.name: next(iter(family.values.values())) for family in whole.families(heard)}
    return {name: (value.counts, value.total) if isinstance(value, Histogram) else value for name, value in values.items()}


def test_each_is_added_up_as_it_means() -> None:
    whole = Whole()
    whole.keep(1, one(3, histogram(0.5, 5), 2, 0, 1.0))
    whole.keep(2, one(4, histogram(1.5), 1, 2, 0.9))
    assert told(whole, 1, 2) == {
        "requests": 7,
        "request_duration_seconds": ([1, 1, 1], 7.0),
        "in_flight": 3,
        "breaker_state": 2,
        "records_complete_ratio": 0.9,
    }


def test_counters_never_go_back() -> None:
    whole = Whole()
    whole.keep(1, one(3, histogram(0.5), 2, 0, 1.0))
    whole.keep(2, one(4, histogram(1.5), 1, 2, 0.9))
    assert told(whole, 1)["requests"] == 7, "who does not answer counts as it was told last"
    assert told(whole, 1)["breaker_state"] == 0, "but what it is now nobody knows"
    whole.end(2)
    whole.end(1)
    whole.keep(3, one(1, histogram(0.1), 0, 0, 1.0))
    whole.end(3)
    whole.end(3)
    assert told(whole) == {"requests": 8, "request_duration_seconds": ([2, 1, 0], 2.1)}


def test_series_that_only_one_has_stay_as_they_are() -> None:
    whole = Whole()
    whole.keep(1, [family("counter", "errors", {("a", "x"): 1, ("b", "x"): 2}, "model", "code")])
    whole.keep(2, [family("counter", "errors", {("a", "y"): 5}, "model", "code"), family("counter", "more", {(): 1})])
    errors, more = whole.families([1, 2])
    assert errors.values == {("a", "x"): 1, ("b", "x"): 2, ("a", "y"): 5}
    assert more.values == {(): 1}


def test_what_was_packed_is_told_alike() -> None:
    families = one(3, histogram(0.5, 5), 2, 0, 1.0)
    families.append(family("histogram", "overhead_seconds", {}))
    assert rendered(unpacked(packed(families))) == rendered(families)


def test_a_version_with_other_buckets_begins_anew() -> None:
    whole = Whole()
    for process, bounds in ((1, (1.0,)), (2, (1.0,)), (3, (0.5, 1.0))):
        times = Histogram(bounds)
        times.observe(0.7)
        whole.keep(process, [family("histogram", "request_duration_seconds", {(): times})])
        if process == 1:
            whole.end(1)
    assert told(whole, 2, 3) == {"request_duration_seconds": ([0, 1, 0], 0.7)}
    whole.end(2)
    whole.end(3)
    assert told(whole) == {"request_duration_seconds": ([0, 1, 0], 0.7)}
