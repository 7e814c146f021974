"""The metrics of several processes as those of one: packed by each, added up by one of them.

Promise: counters never go backwards: what a process that is gone has counted stays counted, as it was last told.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import msgspec
from msgspec import Struct

from agent_gateway.record.catalogue import Together, together
from agent_gateway.record.family import Family, Histogram, Kind


class _Series(Struct, array_like=True):
    labels: tuple[str, ...]
    #: Of a histogram its sum.
    value: float
    counts: list[int] | None = None


class _Packed(Struct, array_like=True):
    kind: Kind
    name: str
    text: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...]
    series: list[_Series]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[_Packed])

#: Told once for the whole: what each process would say of itself alone means nothing.
Families = dict[str, Family]


def packed(families: Iterable[Family]) -> bytes:
    return _encoder.encode([_pack(family) for family in families])


def unpacked(data: bytes) -> list[Family]:
    return [_unpack(each) for each in _decoder.decode(data)]


class Whole:
    """What processes have told, by a number of each."""

    def __init__(self) -> None:
        self._told: dict[int, Families] = {}
        #: Of those that are gone, added up.
        self._past: Families = {}

    def keep(self, process: int, families: Iterable[Family]) -> None:
        """In place of what it told before."""
        self._told[process] = {family.name: family for family in families}

    def end(self, process: int) -> None:
        """Nothing more will come of it."""
        gone = self._told.pop(process, {})
        self._past = _added([self._past, {name: family for name, family in gone.items() if family.kind != "gauge"}])

    def families(self, heard: Collection[int]) -> list[Family]:
        """Gauges of the processes that were heard just now, the rest of all that there ever were."""
        told = [
            families if process in heard else {name: family for name, family in families.items() if family.kind != "gauge"}
            for process, families in self._told.items()
        ]
        return list(_added([self._past, *told]).values())


def _added(parts: Sequence[Families]) -> Families:
    """In the order of the first that has them."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: _sum([part[name] for part in parts if name in part]) for name in names}


def _sum(families: Sequence[Family]) -> Family:
    first = families[0]
    if len(families) == 1:
        return first
    combine = _combination(first)
    values: dict[Any, Any] = dict(first.values)
    for family in families[1:]:
        for labels, value in family.values.items():
            known = values.get(labels)
            values[labels] = value if known is None else combine(known, value)
    return replace(first, values=values)


def _combination(family: Family) -> Callable[[Any, Any], Any]:
    if family.kind == "histogram":
        return _both
    if family.kind == "counter":
        return _plus
    match _together(family.name):
        case "sum":
            return _plus
        case "max":
            return max
        case "min":
            return min


@cache
def _together(gauge: str) -> Together:
    return together(gauge)


def _plus(one: float, other: float) -> float:
    return one + other


def _both(one: Histogram, other: Histogram) -> Histogram:
    """Where a restart brought another version with other buckets, those of the younger process."""
    if one.bounds != other.bounds:
        return other
    added = Histogram(one.bounds)
    added.counts = [some + more for some, more in zip(one.counts, other.counts, strict=True)]
    added.total = one.total + other.total
    return added


def _pack(family: Family) -> _Packed:
    values: Mapping[tuple[str, ...], Any] = family.values
    if family.kind != "histogram":
        series = [_Series(labels, value) for labels, value in values.items()]
        return _Packed(family.kind, family.name, family.text, family.labels, (), series)
    series = [_Series(labels, histogram.total, histogram.counts) for labels, histogram in values.items()]
    bounds = next(iter(values.values())).bounds if values else ()
    return _Packed(family.kind, family.name, family.text, family.labels, bounds, series)


def _unpack(told: _Packed) -> Family:
    values = {each.labels: each.value if each.counts is None else _histogram(told.bounds, each) for each in told.series}
    return Family(told.kind, told.name, told.text, told.labels, values)


def _histogram(bounds: tuple[float, ...], told: _Series) -> Histogram:
    assert told.counts is not None
    histogram = Histogram(bounds)
    histogram.counts, histogram.total = told.counts, told.value
    return histogram
