"""Refused accesses are counted, bounded and told once a minute; who shows wrong keys all the time has to wait."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from agent_gateway.admission import refusals as refusals_module
from agent_gateway.admission.refusals import ENTRIES_MAX, MINUTE_S, OTHERS, REFUSED_KEYS_MAX, TOO_MANY, Refusals, RefusedAccess
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import BadRequest, Forbidden, RateLimited, StoreDown, Unauthenticated

WRONG = Unauthenticated("This key is not known here.")


@dataclass
class Time:
    now: float = 1000.0
    clock: Clock = field(init=False)

    def __post_init__(self) -> None:
        self.clock = Clock(lambda: self.now, lambda: self.now)


class Log:
    def __init__(self) -> None:
        self.minutes: list[Sequence[RefusedAccess]] = []
        self.told = asyncio.Event()

    async def __call__(self, entries: Sequence[RefusedAccess]) -> None:
        self.minutes.append(entries)
        self.told.set()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def refusals(time: Time, log: Log) -> Refusals:
    return Refusals(time.clock, log)


def _refuse(refusals: Refusals, source: str, times: int = 1) -> None:
    for _ in range(times):
        refusals.count(WRONG, lambda: source, key_shown=True)


async def test_they_are_counted_by_source_and_reason(refusals: Refusals, time: Time, log: Log) -> None:
    began = time.now
    _refuse(refusals, "192.0.2.1")
    time.now += 5
    _refuse(refusals, "192.0.2.1")
    refusals.count(Forbidden("no"), lambda: "192.0.2.1", key_shown=True)
    _refuse(refusals, "192.0.2.2")
    await refusals.close()
    assert log.minutes == [
        [
            RefusedAccess("192.0.2.1", "invalid_api_key", 2, began, began + 5),
            RefusedAccess("192.0.2.1", "forbidden", 1, began + 5, began + 5),
            RefusedAccess("192.0.2.2", "invalid_api_key", 1, began + 5, began + 5),
        ]
    ]


async def test_other_errors_are_none_and_nobody_asks_where_they_come_from(refusals: Refusals, log: Log) -> None:
    refusals.count(BadRequest("no"), pytest.fail, key_shown=True)
    await refusals.close()
    assert log.minutes == []


async def test_each_minute_is_told_on_its_own(refusals: Refusals, time: Time, log: Log) -> None:
    for count in (1, 2):
        _refuse(refusals, "192.0.2.1", count)
        time.now += MINUTE_S
    await refusals.close()
    assert [[entry.count for entry in minute] for minute in log.minutes] == [[1], [2]]


async def test_a_minute_is_told_though_nothing_comes_after_it(
    refusals: Refusals, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals_module, "MINUTE_S", 0.01)
    _refuse(refusals, "192.0.2.1")
    async with asyncio.timeout(5):
        await log.told.wait()
    assert log.minutes[0][0].count == 1


async def test_an_attacker_with_many_addresses_fills_nothing(refusals: Refusals, log: Log) -> None:
    for number in range(ENTRIES_MAX * 3):
        _refuse(refusals, f"10.0.{number // 256}.{number % 256}")
    await refusals.close()
    [minute] = log.minutes
    assert len(minute) == ENTRIES_MAX + 1
    assert minute[-1].source == OTHERS
    assert minute[-1].count == ENTRIES_MAX * 2


async def test_who_shows_too_many_wrong_keys_has_to_wait(refusals: Refusals, time: Time, log: Log) -> None:
    _refuse(refusals, "192.0.2.1", REFUSED_KEYS_MAX - 1)
    refusals.check("192.0.2.1")
    _refuse(refusals, "192.0.2.1")
    time.now += 20
    with pytest.raises(RateLimited) as limited:
        refusals.check("192.0.2.1")
    assert limited.value.retry_after_s == pytest.approx(MINUTE_S - 20)
    refusals.check("192.0.2.2")
    time.now += MINUTE_S - 20
    refusals.check("192.0.2.1")
    await refusals.close()
    assert [(entry.reason, entry.count) for entry in log.minutes[0]] == [("invalid_api_key", REFUSED_KEYS_MAX), (TOO_MANY, 1)]


async def test_what_shows_no_key_and_what_a_key_may_not_do_is_no_guess(refusals: Refusals) -> None:
    for _ in range(REFUSED_KEYS_MAX * 2):
        refusals.count(WRONG, lambda: "192.0.2.1", key_shown=False)
        refusals.count(Forbidden("no"), lambda: "192.0.2.1", key_shown=True)
    refusals.check("192.0.2.1")
    await refusals.close()


async def test_one_network_of_ipv6_is_one_who_guesses(refusals: Refusals) -> None:
    for number in range(REFUSED_KEYS_MAX):
        _refuse(refusals, f"2001:db8::{number + 1:x}")
    with pytest.raises(RateLimited):
        refusals.check("2001:db8::ffff")
    refusals.check("2001:db8:0:1::1")
    await refusals.close()


@pytest.mark.parametrize("source", ["127.0.0.1", "::1"])
async def test_this_machine_is_never_made_to_wait(refusals: Refusals, source: str) -> None:
    """It may be a proxy that nobody has told the gateway of, and all its clients."""
    _refuse(refusals, source, REFUSED_KEYS_MAX * 2)
    refusals.check(source)
    await refusals.close()


async def test_a_log_that_cannot_be_written_is_said_and_harms_nobody(
    time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(entries: Sequence[RefusedAccess]) -> None:
        raise StoreDown("The store cannot be reached.")

    refusals = Refusals(time.clock, broken)
    _refuse(refusals, "192.0.2.1", 3)
    await refusals.close()
    assert "3 refused accesses could not be written to the audit log" in caplog.text
