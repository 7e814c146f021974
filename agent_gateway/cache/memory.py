"""Answers in this process's memory: those that were asked for last, in so many bytes."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from agent_gateway.cache.base import Entry, Place
from agent_gateway.core.clock import Clock

#: What an entry takes beside its texts (bytes).
OVERHEAD_BYTES = 1024
#: How often what is too old is looked for, as answers come (s).
SWEEP_S = 60.0


class _Kept(NamedTuple):
    entry: Entry
    until: float
    bytes: int


class MemoryEntries:
    """`Entries`."""

    def __init__(self, clock: Clock, bytes_max: int = 0) -> None:
        self.failures = 0
        self.kept_bytes = 0
        self._clock = clock
        self._bytes_max = bytes_max
        #: Those used last come last.
        self._kept: OrderedDict[Place, _Kept] = OrderedDict()
        self._swept_at = clock.monotonic()

    def limit(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._shrink()

    async def find(self, place: Place) -> Entry | None:
        kept = self._kept.get(place)
        if kept is None:
            return None
        if self._clock.monotonic() >= kept.until:
            self._forget(place)
            return None
        self._kept.move_to_end(place)
        return kept.entry

    def keep(self, place: Place, entry: Entry, ttl_s: float) -> None:
        now = self._clock.monotonic()
        if now - self._swept_at >= SWEEP_S:
            self._sweep(now)
        self._forget(place)
        size = len(entry.body) + len(entry.told or b"") + OVERHEAD_BYTES
        if size > self._bytes_max:
            return  # and all the others stay
        self._kept[place] = _Kept(entry, now + ttl_s, size)
        self.kept_bytes += size
        self._shrink()

    async def erase(self, user: str) -> int:
        places = [place for place in self._kept if place.user == user]
        for place in places:
            self._forget(place)
        return len(places)

    async def close(self, timeout_s: float) -> None:
        return None

    def _shrink(self) -> None:
        while self.kept_bytes > self._bytes_max:
            self._forget(next(iter(self._kept)))

    def _sweep(self, now: float) -> None:
        self._swept_at = now
        for place in [place for place, kept in self._kept.items() if now >= kept.until]:
            self._forget(place)

    def _forget(self, place: Place) -> None:
        kept = self._kept.pop(place, None)
        if kept is not None:
            self.kept_bytes -= kept.bytes
