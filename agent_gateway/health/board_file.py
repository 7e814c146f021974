"""The exchange of `board.lua`, step by step the same, in the file that the workers of one machine share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from agent_gateway.stores.meeting import Entries

#: Deployment, name of the change, how long ago (ms), ejections in a row (0: it has closed).
Change: TypeAlias = tuple[str, str, float, int]
Message: TypeAlias = tuple[str, float, float, Sequence[Change], Sequence[str], Sequence[tuple[str, float]]]
Answer: TypeAlias = tuple[int, int, list[Change], list[str], list[tuple[str, float]]]


def exchange(entries: Entries, names: Sequence[bytes], message: Message) -> Answer:
    process, life_ms, history_ms, changes, probing, cooldowns = message
    now = entries.now
    breakers, processes, wishes, probes = entries.of(names)
    for deployment, change, age_ms, ejections in changes:
        before = breakers.get(deployment)
        if before is None or now - age_ms >= float(before.split()[0]):
            breakers[deployment] = f"{now - age_ms!r} {ejections} {change}"
            entries.put(names[0], deployment, breakers[deployment], history_ms)
    processes[process] = repr(now)
    entries.put(names[1], process, processes[process], life_ms)
    for deployment, left_ms in cooldowns:
        if now + left_ms > float(wishes.get(deployment, 0)):
            wishes[deployment] = repr(now + left_ms)
            entries.put(names[2], deployment, wishes[deployment], left_ms)
    for deployment in probing:
        probes[deployment] = f"{now + life_ms!r} {process}"
        entries.put(names[3], deployment, probes[deployment], life_ms)
    return (
        sum(name < process for name in processes),
        len(processes),
        [(deployment, change, now - float(at), int(ejections)) for deployment, (at, ejections, change) in _words(breakers)],
        [deployment for deployment, (_, prober) in _words(probes) if prober != process],
        [(deployment, float(until) - now) for deployment, (until,) in _words(wishes)],
    )


def _words(fields: dict[str, str]) -> Iterator[tuple[str, list[str]]]:
    return ((field, value.split()) for field, value in fields.items())
