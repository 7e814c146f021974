"""Waiting takes no time, and everything happens in the same order as it would."""

from __future__ import annotations

import asyncio
import time

import pytest

from agent_gateway.core.clock import Clock
from agent_gateway.rehearsal.virtual_time import Standstill, run_virtually


def test_a_day_passes_at_once_and_to_the_second() -> None:
    async def main(clock: Clock) -> tuple[float, float]:
        await asyncio.sleep(86_400)
        return clock.monotonic(), clock.wall()

    began = time.monotonic()
    assert run_virtually(main, wall=1_000_000.0) == (86_400.0, 1_086_400.0)
    assert time.monotonic() - began < 60, "on the busiest machine: a day is 86,400"


def test_it_can_begin_at_another_time_than_none() -> None:
    async def main(clock: Clock) -> tuple[float, float, float]:
        await asyncio.sleep(60)
        return clock.monotonic(), asyncio.get_running_loop().time(), clock.wall()

    assert run_virtually(main, wall=1_000_000.0, monotonic=500.0) == (560.0, 560.0, 1_000_060.0)


def test_timers_fire_in_the_order_of_their_times() -> None:
    told: list[tuple[str, float]] = []

    async def say(name: str, after_s: float, clock: Clock) -> None:
        await asyncio.sleep(after_s)
        told.append((name, clock.monotonic()))

    async def main(clock: Clock) -> None:
        await asyncio.gather(say("last", 3.0, clock), say("first", 0.001, clock), say("middle", 2.5, clock))

    run_virtually(main)
    assert [name for name, _ in told] == ["first", "middle", "last"]
    assert [at for _, at in told] == pytest.approx([0.001, 2.5, 3.0])


def test_a_timeout_ends_what_takes_too_long() -> None:
    async def main(clock: Clock) -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.sleep(3_600)
        return clock.monotonic()

    assert run_virtually(main) == pytest.approx(30)


def test_what_would_hang_for_ever_is_told() -> None:
    async def main(clock: Clock) -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Standstill, match="no timer"):
        run_virtually(main)


def test_nothing_runs_in_a_thread() -> None:
    async def main(clock: Clock) -> None:
        await asyncio.to_thread(time.sleep, 0)

    with pytest.raises(RuntimeError, match="thread"):
        run_virtually(main)
