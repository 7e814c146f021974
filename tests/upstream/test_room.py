"""Who gets which slot: full deployments are passed over, then waited for; no slot is given twice, none is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from agent_gateway.core.call import Call
from agent_gateway.core.errors import ConnectionCut, Overloaded, ProviderFault, ProviderRateLimited, ProviderTimeout
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.route import Route
from agent_gateway.core.settings import Concurrency, Fallback, Hedging, Quality, Retries
from tests.upstream.stage import (
    FakeProvider,
    Outcome,
    Script,
    Stage,
    answers,
    call,
    deployment,
    fails,
    frame,
    hangs,
    now,
    play,
    route,
    streams,
)

ONE = Concurrency(max=1)
NO_REPLY = Fallback(reply=None)


class Crowd(Stage):
    """Several requests at once; what one of them leaves behind is only checked when all are over."""

    def assert_nothing_leaks(self, exchange: Exchange) -> None:
        assert all(attempt.ended is not None for attempt in exchange.attempts)

    def come(self, *, edge: Any = "http", stream: bool = False, timeout_s: float | None = None) -> asyncio.Task[Outcome]:
        """A request that has begun, as far as it could."""

        async def one() -> Outcome:
            exchange = self.exchange(call(stream=stream), timeout_s=timeout_s)
            exchange.edge = edge
            outcome = Outcome(exchange)
            try:
                async for event in self.loop.answer(exchange, self.planner.plan(exchange, self.asked)):
                    outcome.events.append(event)
            except Overloaded as error:
                outcome.error = error
            return outcome

        return asyncio.ensure_future(one())

    def assert_empty(self) -> None:
        super().assert_nothing_leaks(self.exchange(call()))
        assert [len(known.line) for _, known in self.health.deployments()] == [0] * len(self.health.deployments())


def crowd(*names: str, concurrency: Concurrency = ONE, **policies: Any) -> Crowd:
    return Crowd(route(*names, concurrency=concurrency, **{"fallback": NO_REPLY, **policies}))


def tell(stage: Crowd, story: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await story()
        await asyncio.sleep(0)
        stage.assert_empty()

    play(whole)


def test_a_full_deployment_is_passed_over() -> None:
    stage = crowd("a", "b").script(a=answers(after_s=1), b=answers(after_s=1))

    async def story() -> None:
        outcomes = await asyncio.gather(stage.come(), stage.come())
        assert [outcome.tried for outcome in outcomes] == [["a"], ["b"]]
        assert [outcome.exchange.queued_s for outcome in outcomes] == [0, 0]

    tell(stage, story)


def test_where_all_are_full_the_request_waits_for_the_first_that_has_room_and_that_is_no_attempt() -> None:
    stage = crowd("a", "b", retries=Retries(max_attempts=1)).script(a=answers(after_s=3), b=answers(after_s=1))

    async def story() -> None:
        outcomes = await asyncio.gather(stage.come(), stage.come(), stage.come())
        last = outcomes[2].exchange
        assert (outcomes[2].tried, last.status) == (["b"], "success")
        assert last.queued_s == last.attempts[0].queued_s == pytest.approx(1, abs=0.01)
        assert [outcome.exchange.attempts[0].queued_s for outcome in outcomes[:2]] == [0, 0]

    tell(stage, story)


def test_a_fallback_with_room_answers_and_nothing_is_said_against_the_model() -> None:
    asked = route("a", concurrency=ONE, fallbacks=("spare",), fallback=NO_REPLY)
    stage = Crowd(asked, route("b", name="spare")).script(a=answers(after_s=1), b=answers(after_s=0.1))

    async def story() -> None:
        outcomes = await asyncio.gather(*[stage.come() for _ in range(100)])
        statuses = [(outcome.exchange.status, outcome.exchange.reason) for outcome in outcomes]
        assert statuses == [("success", None)] + [("fallback", "full")] * 99
        assert stage.health.controller("chat").state == "normal"

    tell(stage, story)


def test_a_failed_call_gives_its_slot_back_and_what_follows_takes_one() -> None:
    stage = crowd("a", "b", concurrency=ONE).script(a=fails(ProviderFault("down"), after_s=1), b=answers(after_s=2))

    async def story() -> None:
        first = stage.come()
        await asyncio.sleep(0.5)
        second = stage.come()  # takes b while the first still tries a
        outcomes = await asyncio.gather(first, second)
        assert [outcome.tried for outcome in outcomes] == [["a", "b"], ["b"]]
        assert outcomes[0].exchange.attempts[1].started == pytest.approx(2.5, abs=0.01)

    tell(stage, story)


def test_who_leaves_makes_room_at_once() -> None:
    stage = crowd("a").script(a=answers(after_s=10))

    async def story() -> None:
        under_way, waits, next_in_line = stage.come(), stage.come(), stage.come()
        await asyncio.sleep(1)
        waits.cancel()
        await asyncio.sleep(0)
        assert len(stage.health.of("fake/a").line) == 1
        under_way.cancel()
        outcome = await next_in_line
        assert outcome.exchange.attempts[0].started == pytest.approx(1, abs=0.01)

    tell(stage, story)


def test_who_leaves_just_as_it_is_called_leaves_the_slot_to_the_next() -> None:
    stage = crowd("a").script(a=answers(after_s=10))
    known = stage.health.of("fake/a")

    async def story() -> None:
        first, leaves, last = stage.come(), stage.come(), stage.come()
        await asyncio.sleep(1)
        known.concurrency.follow(Concurrency(max=2))
        known.serve(now())
        leaves.cancel()
        assert (await last).exchange.attempts[0].started == pytest.approx(1, abs=0.01)
        await first

    tell(stage, story)


@pytest.mark.parametrize("queue_max", [0, 2])
def test_more_than_may_wait_are_refused_at_once_with_no_fixed_reply(queue_max: int) -> None:
    stage = crowd("a", concurrency=Concurrency(max=1, queue_max=queue_max), fallback=Fallback()).script(a=answers(after_s=1))

    async def story() -> None:
        outcomes = await asyncio.gather(*[stage.come() for _ in range(5)])
        refused = [outcome for outcome in outcomes if outcome.error is not None]
        assert len(refused) == 4 - queue_max
        for outcome in refused:
            assert outcome.error is not None
            assert (outcome.error.status, outcome.error.param, outcome.error.retry_after_s) == (503, "queue", 1)
            assert (outcome.tried, outcome.exchange.queued_s) == ([], 0)

    tell(stage, story)


def test_where_no_other_has_room_what_was_got_before_is_what_the_client_gets() -> None:
    """An answer that is not good enough, or the failure of the one that was asked."""
    policy = Fallback(reply=None, quality=Quality(min_token_efficiency=0.5))
    stage = crowd("a", "b", concurrency=Concurrency(max=1, queue_max=0), fallback=policy)
    stage.script(a=[answers("meagre", usage=(100, 1)), fails(ProviderFault("down"))], b=answers())

    async def story() -> None:
        others = stage.health.of("fake/b").load
        others.in_flight += 1
        assert (await stage.come()).text == "meagre"
        with pytest.raises(ProviderFault):
            await stage.come()
        others.in_flight -= 1

    tell(stage, story)


def test_the_deadline_holds_while_it_waits() -> None:
    stage = crowd("a").script(a=answers(after_s=10))

    async def story() -> None:
        first, hurried = stage.come(), stage.come(timeout_s=3)
        outcome = await hurried
        assert outcome.error is not None
        assert outcome.error.param == "deadline"
        assert now() == pytest.approx(3, abs=0.01)
        assert outcome.exchange.queued_s == pytest.approx(3, abs=0.01)
        await first

    tell(stage, story)


def test_by_the_lines_pace_who_comes_too_late_knows_at_once() -> None:
    stage = crowd("a").script(a=answers(after_s=2))

    async def story() -> None:
        await stage.come()
        patient = [stage.come() for _ in range(5)]  # ahead: 4 × 2 s, and what is left of the one under way
        await asyncio.sleep(0)
        refused, waits = stage.come(timeout_s=9.9), stage.come(timeout_s=12.1)
        outcome = await refused
        assert now() == pytest.approx(2, abs=0.01)
        assert outcome.error is not None
        assert outcome.error.retry_after_s == pytest.approx(10, abs=0.1)
        assert (await waits).exchange.queued_s == pytest.approx(10, abs=0.1)
        await asyncio.gather(*patient)

    tell(stage, story)


def test_those_who_wait_leave_a_provider_alone_that_asks_for_it() -> None:
    limited = fails(ProviderRateLimited("slow down", retry_after_s=5), after_s=1)
    stage = crowd("a", concurrency=Concurrency(max=1), retries=Retries(max_attempts=1)).script(a=[limited, answers(after_s=1)])

    async def story() -> None:
        first = asyncio.ensure_future(asyncio.wait_for(stage.come(), None))
        waits = [stage.come(), stage.come()]
        with pytest.raises(ProviderRateLimited):
            await first
        newcomer = stage.come()
        outcomes = [*await asyncio.gather(*waits), await newcomer]
        assert [outcome.exchange.attempts[0].started for outcome in outcomes] == pytest.approx([6, 7, 8], abs=0.01)

    tell(stage, story)


def test_one_that_is_full_is_preferred_to_one_that_is_ejected() -> None:
    stage = crowd("a", "b").script(a=answers(after_s=1), b=answers())
    stage.health.of("fake/b").cooldown_until = 100

    async def story() -> None:
        outcomes = await asyncio.gather(stage.come(), stage.come())
        assert [outcome.tried for outcome in outcomes] == [["a"], ["a"]]

    tell(stage, story)


def test_a_hedge_is_not_started_where_there_is_no_slot() -> None:
    stage = crowd("a", "b", hedging=Hedging(enabled=True, max_share=1)).script(a=answers(after_s=5), b=answers(after_s=5))
    for name in ("a", "b"):
        for _ in range(20):
            stage.health.of(f"fake/{name}").load.wholes.observe(0.1, 0, 0)
        stage.health.of(f"fake/{name}").hedges.add(0, total=100)

    async def story() -> None:
        outcomes = await asyncio.gather(stage.come(), stage.come())
        assert [outcome.tried for outcome in outcomes] == [["a"], ["b"]]
        assert (await stage.come()).tried == ["a", "b"]

    tell(stage, story)


def test_a_stream_is_carried_on_when_there_is_room_to_do_so() -> None:
    cut = Script((), (frame({"role": "assistant", "content": "the beginning "}), 1.0, ConnectionCut("cut")))
    able = deployment("b", prefill="plain")
    stage = Crowd(route(deployment("a"), able, concurrency=ONE)).script(a=cut, b=[answers(after_s=3), streams("and the end")])

    async def story() -> None:
        broken = stage.come(stream=True)
        await asyncio.sleep(0.5)
        elsewhere = stage.come()
        outcome = await broken
        await elsewhere
        assert (outcome.text, outcome.done) == ("the beginning and the end", True)
        assert outcome.exchange.attempts[1].queued_s == pytest.approx(2.5, abs=0.01)

    tell(stage, story)


def test_an_interactive_request_goes_before_those_of_a_batch() -> None:
    stage = crowd("a").script(a=answers(after_s=1))

    async def story() -> None:
        first = stage.come()
        batch, interactive = stage.come(edge="batch"), stage.come()
        outcomes = await asyncio.gather(first, batch, interactive)
        assert [outcome.exchange.attempts[0].started for outcome in outcomes] == pytest.approx([0, 2, 1], abs=0.01)

    tell(stage, story)


def test_a_reload_with_more_room_lets_those_in_who_wait() -> None:
    stage = crowd("a").script(a=answers(after_s=10))

    async def story() -> None:
        waits = [stage.come() for _ in range(3)]
        await asyncio.sleep(1)
        stage.health.follow(route("a", concurrency=Concurrency(max=3)))
        outcomes = await asyncio.gather(*waits)
        assert [outcome.exchange.attempts[0].started for outcome in outcomes] == pytest.approx([0, 1, 1], abs=0.01)

    tell(stage, story)


# --- no slot twice, none lost -----------------------------------------------------------------------------------------


class Watched(FakeProvider):
    """Knows the most calls that were ever under way at each deployment."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.most: dict[str, int] = {}
        self._stage = stage

    async def send(self, call: Call, deployment: Any, *args: Any, **details: Any) -> Any:
        under_way = self._stage.health.of(deployment.id).load.in_flight
        self.most[deployment.id] = max(self.most.get(deployment.id, 0), under_way)
        return await super().send(call, deployment, *args, **details)


def any_script(random: Random) -> Callable[[Call], Script]:
    def script(asked: Call) -> Script:
        after_s = random.expovariate(1)
        answer = streams("some ", "text", after_s=after_s) if asked.stream else answers(after_s=after_s)
        errors = (
            ProviderRateLimited("no", retry_after_s=random.choice([None, 0.5])),
            ProviderFault("no"),
            ProviderTimeout("no", kind="idle"),
        )
        return random.choice([answer, answer, answer, fails(random.choice(errors), after_s=after_s / 4), hangs()])

    return script


def many(random: Random, stages: Callable[[], Route]) -> Crowd:
    asked = stages()
    stage = Crowd(asked, route("c", name="spare", concurrency=asked.concurrency))
    stage.provider = stage.loop._providers["fake"] = Watched(stage)  # type: ignore[index]
    stage.script(a=any_script(random), b=any_script(random), c=any_script(random))
    for name in ("a", "b"):
        for _ in range(20):
            stage.health.of(f"fake/{name}").load.wholes.observe(0.3, 0, 0)
            stage.health.of(f"fake/{name}").load.streams.observe(0.3, 0, 0)
        stage.health.of(f"fake/{name}").hedges.add(0, total=1000)
    return stage


async def storm(random: Random, most: int, requests: int) -> None:
    """Requests come and go as they like: answered, refused, failed, hedged, cancelled at any point."""

    def asked() -> Route:
        policies: dict[str, Any] = {"fallbacks": ("spare",), "hedging": Hedging(enabled=True, max_share=0.5)}
        return route("a", "b", concurrency=Concurrency(max=most, queue_max=4), **policies)

    stage = many(random, asked)
    tasks = []
    for _ in range(requests):
        task = stage.come(edge=random.choice(["http", "batch"]), stream=random.random() < 0.5, timeout_s=random.choice([0.5, 5, 20]))
        if random.random() < 0.4:
            asyncio.get_running_loop().call_later(random.choice([0, 0.1, 1, 3]), task.cancel)
        tasks.append(task)
        await asyncio.sleep(random.choice([0, 0, 0.05, 0.3]))
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(1)
    stage.assert_empty()
    provider = stage.provider
    assert isinstance(provider, Watched)
    assert max(provider.most.values()) == most


@settings(max_examples=25, deadline=None)
@given(some.integers(0, 2**32), some.integers(1, 3))
def test_no_slot_is_given_twice_and_none_is_lost(seed: int, most: int) -> None:
    play(lambda: storm(Random(seed), most, requests=60))


def test_thousands_of_requests_leave_no_slot_taken() -> None:
    play(lambda: storm(Random(11), 3, requests=3_000))
