"""The exchange of `cluster.lua`, step by step the same, in the file that the workers of one machine share.

Promise: as Redis does it; the tests hold both to the same answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from agent_gateway.admission.lease import RATE
from agent_gateway.stores.meeting import Entries

_MINUTE_MS = 60_000.0
_EPSILON = 0.001
_RATE_LIFE_MS = 2 * _MINUTE_MS
_HOLD_LIFE_MS = 86_400_000.0
#: A process may only keep more than it needs where there is so much more of it.
_ROOM = 10

#: Of the process: its name, how long what it holds is its own (ms), what its leases say, what its requests wish for.
Message: TypeAlias = tuple[str, float, Sequence[Sequence[float]], Sequence[Sequence[float]]]
#: Of each lease: how much was added to it, and how its limit stands; of each wish: which lease refused it (0: none), and for how long (ms).
Answer: TypeAlias = tuple[list[tuple[float, float]], list[tuple[int, float]]]


def exchange(entries: Entries, names: Sequence[bytes], message: Message) -> Answer:
    process, lease_ms, said, wishes = message
    limits: list[_Rate | _Hold] = [
        (_Rate(name, fields, words, entries.now) if words[0] == RATE else _Hold(name, fields, words, entries.now, process, lease_ms))
        for name, fields, words in zip(names, entries.of(names), said, strict=True)
    ]
    outcomes = [_wish(limits, list(zip(map(int, wish[::2]), wish[1::2], strict=True))) for wish in wishes]
    states = []
    for limit, words in zip(limits, said, strict=True):
        top_up = words[3] if limit.room() >= _ROOM * words[3] else 0.0
        limit.take(top_up)
        limit.save(entries)
        states.append((top_up, limit.state()))
    return states, outcomes


def _wish(limits: Sequence[_Rate | _Hold], needs: Sequence[tuple[int, float]]) -> tuple[int, float]:
    """All of it, or nothing."""
    refused, longest_ms = 0, _EPSILON
    for place, amount in needs:
        wait_ms = limits[place - 1].wait_ms(amount)
        if wait_ms > longest_ms:
            refused, longest_ms = place, wait_ms
    if refused:
        return refused, longest_ms
    for place, amount in needs:
        limits[place - 1].take(amount)
    return 0, 0.0


class _Rate:
    """`full_at`: when all of the allowance is there again (ms)."""

    def __init__(self, name: bytes, fields: dict[str, str], said: Sequence[float], now: float) -> None:
        _, self._limit, used, _, reset_ms = said
        self._name = name
        self._now = now
        self._per_unit = _MINUTE_MS / self._limit
        self._full_at = max(float(fields.get("full_at", now + reset_ms)), now)
        self.take(used)

    def take(self, amount: float) -> None:
        self._full_at = max(self._full_at + amount * self._per_unit, self._now)

    def wait_ms(self, amount: float) -> float:
        return self.state() + min(amount, self._limit) * self._per_unit - _MINUTE_MS

    def room(self) -> float:
        return (_MINUTE_MS - self.state()) / self._per_unit

    def state(self) -> float:
        return self._full_at - self._now

    def save(self, entries: Entries) -> None:
        entries.put(self._name, "full_at", repr(self._full_at), _RATE_LIFE_MS + self.state())


class _Hold:
    def __init__(self, name: bytes, fields: dict[str, str], said: Sequence[float], now: float, process: str, lease_ms: float) -> None:
        _, self._limit, self._held, _, spent, known = said
        self._name = name
        self._process = process
        self._lease_ms = lease_ms
        self._spent = max(float(fields.pop("spent", 0.0)) + spent, known)
        self._others = 0.0
        for other, value in fields.items():
            if other != process:
                held, until = value.split()
                self._others += float(held) if float(until) > now else 0.0
        self._until = now + lease_ms

    def take(self, amount: float) -> None:
        self._held += amount

    def room(self) -> float:
        return self._limit - self._spent - self._others - self._held

    def wait_ms(self, amount: float) -> float:
        """The last one may go beyond the limit, by less than its own amount."""
        return 0.0 if self.room() > _EPSILON / 1_000_000 else 1000.0

    def state(self) -> float:
        return self._spent

    def save(self, entries: Entries) -> None:
        if self._held > 0:
            entries.put(self._name, self._process, f"{self._held!r} {self._until!r}", self._lease_ms)
        else:
            entries.drop(self._name, self._process)
        if self._spent > 0:
            entries.put(self._name, "spent", repr(self._spent), _HOLD_LIFE_MS)
