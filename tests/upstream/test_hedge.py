"""The race of two calls: who wins, what becomes of the loser, and how often a second one is started at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from agent_gateway.core.errors import ProviderFault
from agent_gateway.core.settings import Fallback, Hedging, Retries
from agent_gateway.protocols.estimate import estimate_input_tokens
from agent_gateway.upstream.hedge import LostRace, race
from tests.upstream.stage import Outcome, Script, Stage, answers, call, fails, hangs, now, play, route, streams

DOWN = ProviderFault("down")


class Prize:
    def __init__(self, name: str) -> None:
        self.name = name
        self.closed_by: BaseException | None = None

    def close(self, error: BaseException) -> None:
        self.closed_by = error


class Runner:
    """Has its prize, or its error, after some seconds."""

    def __init__(self, name: str, seconds: float, error: Exception | None = None) -> None:
        self.prize = Prize(name)
        self.seconds = seconds
        self.error = error
        self.started: float | None = None
        self.cancelled = False

    async def run(self) -> Prize:
        self.started = now()
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self.error:
            raise self.error
        return self.prize


def run(first: Runner, second: Runner | None, after_s: float = 1.0) -> str:
    def other() -> Awaitable[Prize] | None:
        return second.run() if second else None

    return play(lambda: race(first.run, other, after_s)).name


def test_a_first_that_is_quick_has_no_rival() -> None:
    second = Runner("second", 0)
    assert run(Runner("first", 0.9), second) == "first"
    assert second.started is None


def test_the_second_starts_when_the_first_is_late_and_the_quicker_wins() -> None:
    first, second = Runner("first", 5), Runner("second", 1)
    assert run(first, second) == "second"
    assert second.started == pytest.approx(1)
    assert first.cancelled


def test_the_first_may_still_win() -> None:
    second = Runner("second", 5)
    assert run(Runner("first", 2), second) == "first"
    assert second.cancelled


def test_a_second_that_declines_changes_nothing() -> None:
    assert run(Runner("first", 5), None) == "first"


def test_one_that_fails_waits_for_the_other() -> None:
    assert run(Runner("first", 2, DOWN), Runner("second", 3)) == "second"
    assert run(Runner("first", 4), Runner("second", 1, DOWN)) == "first"


def test_a_first_that_fails_early_is_no_race() -> None:
    second = Runner("second", 0)
    with pytest.raises(ProviderFault):
        run(Runner("first", 0.5, DOWN), second)
    assert second.started is None


def test_when_both_fail_the_last_error_is_told() -> None:
    last = ProviderFault("last")
    with pytest.raises(ProviderFault) as raised:
        run(Runner("first", 2, DOWN), Runner("second", 3, last))
    assert raised.value is last


def test_of_two_prizes_at_once_one_is_closed() -> None:
    first, second = Runner("first", 2), Runner("second", 1)
    won = run(first, second)
    loser = second if won == "first" else first
    assert isinstance(loser.prize.closed_by, LostRace)


@pytest.mark.parametrize("at", [0.5, 1.5, 2.5])
def test_cancelling_the_race_cancels_its_runners(at: float) -> None:
    first, second = Runner("first", 9), Runner("second", 9)

    async def story() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(at):
                await race(first.run, second.run, 1)

    play(story)
    assert first.cancelled
    assert second.cancelled is (at > 1)


def test_cancelled_while_the_loser_is_stopped_the_prize_is_closed() -> None:
    """A loser that takes its time to stop must not make the winner's connection leak."""
    prize = Prize("second")

    async def stubborn() -> Prize:
        try:
            await asyncio.sleep(9)
        finally:
            await asyncio.sleep(3)
        return Prize("first")

    async def quick() -> Prize:
        return prize

    async def story() -> None:
        task = asyncio.ensure_future(race(stubborn, quick, 1))
        await asyncio.sleep(2)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await asyncio.sleep(5)

    play(story)
    assert isinstance(prize.closed_by, asyncio.CancelledError)


# --- in the attempt loop ----------------------------------------------------------------------------------------------


def warm(stage: Stage, *, stream: bool, seconds: float = 0.1) -> Stage:
    """Answers have begun within so long until now, and 100 requests went by."""
    for name in ("a", "b"):
        health = stage.health.of(f"fake/{name}")
        for _ in range(20):
            health.load.latency(stream=stream).observe(seconds, 0, 0)
        health.hedges.add(0, total=100)
    return stage


def hedged(*, stream: bool = False, **policies: Any) -> Stage:
    return warm(Stage(route("a", "b", **{"hedging": Hedging(enabled=True), **policies})), stream=stream)


def tell(stage: Stage, *, stream: bool = False) -> Outcome:
    return stage.tell(call(stream=stream))


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
def test_a_slow_deployment_is_overtaken_and_its_prompt_billed(stream: bool) -> None:
    make = streams if stream else answers
    outcome = tell(hedged(stream=stream).script(a=make("slow", after_s=5), b=make("quick", after_s=0.1)), stream=stream)
    assert (outcome.text, outcome.exchange.deployment) == ("quick", "fake/b")
    assert outcome.outcomes == ["lost_race", "success"]
    assert outcome.exchange.attempts[1].started == pytest.approx(0.1, abs=0.01)
    loser = outcome.exchange.attempts[0]
    assert loser.usage is not None
    assert (loser.usage.estimated, loser.usage.input) == (True, estimate_input_tokens(outcome.exchange.call))


def test_a_loser_says_nothing_against_its_deployment() -> None:
    stage = hedged().script(a=answers(after_s=5), b=answers())
    tell(stage)
    assert stage.health.of("fake/a").breaker.state == "closed"


def test_off_or_quick_or_over_its_share_there_is_no_second_call() -> None:
    assert tell(hedged(hedging=Hedging()).script(a=answers(after_s=5))).tried == ["a"]
    assert tell(hedged().script(a=answers(after_s=0.05))).tried == ["a"]
    assert tell(hedged(hedging=Hedging(enabled=True, max_share=0.001)).script(a=answers(after_s=5))).tried == ["a"]
    assert tell(hedged(retries=Retries(max_attempts=1)).script(a=answers(after_s=5))).tried == ["a"]


def test_a_hedge_goes_to_the_same_model_only() -> None:
    stage = Stage(route("a", hedging=Hedging(enabled=True), fallbacks=("spare",)), route("b", name="spare"))
    assert tell(warm(stage, stream=False).script(a=answers(after_s=5))).tried == ["a"]


def test_hedges_stay_within_their_share_of_the_traffic() -> None:
    async def story() -> None:
        stage = hedged().script(a=answers(after_s=0.2), b=answers())
        for _ in range(400):
            await stage.ask(call())
        seconds = stage.health.of("fake/b")
        assert 0 < len([received for received in stage.provider.calls if received.deployment == "fake/b"]) <= 0.05 * 500 + 1
        assert seconds.load.in_flight == 0

    play(story)


def test_when_both_fail_the_next_is_tried() -> None:
    stage = warm(Stage(route("a", "b", "c", hedging=Hedging(enabled=True))), stream=False)
    outcome = tell(stage.script(a=fails(DOWN, after_s=1), b=fails(DOWN, after_s=2), c=answers("third")))
    assert (outcome.tried, outcome.text) == (["a", "b", "c"], "third")


def test_two_that_hang_leave_the_third_its_part_of_the_time() -> None:
    stage = warm(Stage(route("a", "b", "c", hedging=Hedging(enabled=True), fallback=Fallback(reply=None))), stream=False)
    stage.script(a=hangs(), b=hangs(), c=answers("third", after_s=1))
    outcome = play(lambda: stage.ask(call(), timeout_s=9))
    assert (outcome.tried, outcome.text, outcome.error) == (["a", "b", "c"], "third", None)


def test_a_race_whose_winner_breaks_off_later_closes_it_once() -> None:
    broken = Script((), (*streams("one").after[:2], 1.0, DOWN))
    outcome = tell(hedged(stream=True).script(a=streams("slow", after_s=5), b=broken), stream=True)
    assert outcome.failure is DOWN
    assert outcome.outcomes == ["lost_race", "provider_error"]
