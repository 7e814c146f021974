"""The attempt loop: who is tried, in what order, how often, after what wait, and what the client gets when nobody answers."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import count
from typing import Any

import pytest

from agent_gateway.core.errors import (
    ConnectFailed,
    ContentFiltered,
    ContextTooLong,
    ProviderError,
    ProviderFault,
    ProviderKeyRefused,
    ProviderModelMissing,
    ProviderRateLimited,
    ProviderRefusedRequest,
    ProviderTimeout,
)
from agent_gateway.core.settings import Breaker, Fallback, Hedging, Quality, Retries, Streaming, Timeouts
from agent_gateway.health.registry import BUDGET_FLOOR
from agent_gateway.protocols.transcript import Answer, take_answer
from agent_gateway.upstream.loop import BACKOFF_BASE_S
from agent_gateway.wire.sse import data_frame
from tests.upstream.stage import CLOCK, Script, Stage, Step, answers, call, deployment, fails, frames, hangs, play, route, streams

DOWN = ProviderFault("down")
BAD = ProviderRefusedRequest("no", status=400, body=b"{}", content_type="application/json")
TOO_LONG = ContextTooLong("long", status=400, body=b"{}", content_type="application/json")
FILTERED = ContentFiltered("filter", status=400, body=b"{}", content_type="application/json")
NO_REPLY = Fallback(reply=None)

both_ways = pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])


def good(stream: bool, text: str = "hello") -> Script:
    return streams(text) if stream else answers(text)


def slow(seconds: float) -> ProviderRateLimited:
    return ProviderRateLimited("slow down", retry_after_s=seconds)


# --- order and number -------------------------------------------------------------------------------------------------


@both_ways
def test_the_first_candidate_answers(stream: bool) -> None:
    stage = Stage(route("a", "b")).script(a=good(stream))
    outcome = stage.tell(call(stream=stream))
    assert (outcome.tried, outcome.text) == (["a"], "hello")
    assert (outcome.exchange.status, outcome.exchange.reason) == ("success", None)
    assert outcome.exchange.deployment == "fake/a"
    assert outcome.exchange.finish_reason == "stop"
    assert outcome.exchange.quality == 1.0
    assert outcome.exchange.usage is not None
    assert outcome.exchange.usage.output == 5
    assert outcome.exchange.attempts[0].cost_usd == pytest.approx((10 * 1 + 5 * 2) / 1e6)


@both_ways
def test_candidates_are_tried_in_order_and_at_once(stream: bool) -> None:
    stage = Stage(route("a", "b", fallbacks=("spare",)), route("c", name="spare"))
    stage.script(a=fails(DOWN), b=fails(ConnectFailed("no way")), c=good(stream))
    outcome = stage.tell(call(stream=stream))
    assert (outcome.tried, stage.waits) == (["a", "b", "c"], [])
    assert outcome.outcomes == ["provider_error", "provider_unreachable", "success"]
    assert (outcome.exchange.status, outcome.exchange.reason) == ("fallback", "provider_error")


def test_another_deployment_of_the_same_model_is_no_fallback() -> None:
    outcome = Stage(route("a", "b")).script(a=fails(DOWN), b=answers()).tell(call())
    assert (outcome.exchange.status, outcome.exchange.reason) == ("success", None)


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_attempts_are_counted_over_the_whole_chain(limit: int) -> None:
    stage = Stage(route("a", "b", retries=Retries(max_attempts=limit), fallbacks=("spare",), fallback=NO_REPLY), route("c", name="spare"))
    outcome = stage.script(a=fails(DOWN), b=fails(DOWN), c=fails(DOWN)).tell(call())
    assert len(outcome.tried) == limit
    assert outcome.tried[:3] == ["a", "b", "c"][:limit]
    assert outcome.error is DOWN


def test_a_deployment_that_stands_under_two_models_is_tried_once() -> None:
    stage = Stage(route("a", retries=Retries(max_attempts=2), fallbacks=("spare",)), route("a", "b", name="spare"))
    assert stage.script(a=fails(DOWN), b=answers()).tell(call()).tried == ["a", "b"]


# --- waits and the budget ---------------------------------------------------------------------------------------------


def test_only_when_no_candidate_is_left_is_there_a_wait() -> None:
    stage = Stage(route("a")).script(a=[fails(DOWN), fails(DOWN), answers()])
    outcome = stage.tell(call())
    assert outcome.tried == ["a", "a", "a"]
    assert outcome.exchange.status == "success"
    assert 0 <= stage.waits[0] <= BACKOFF_BASE_S
    assert 0 <= stage.waits[1] <= 2 * BACKOFF_BASE_S


def test_full_jitter_is_spread_over_its_whole_range() -> None:
    waits = []
    for seed in range(200):
        stage = Stage(route("a", retries=Retries(max_attempts=2)), seed=seed).script(a=[fails(DOWN), answers()])
        stage.tell(call())
        waits += stage.waits
    assert 0.4 < sum(waits) / len(waits) / BACKOFF_BASE_S < 0.6
    assert min(waits) < 0.1 * BACKOFF_BASE_S
    assert max(waits) > 0.9 * BACKOFF_BASE_S


def test_retry_after_is_waited_for_when_it_fits_the_deadline() -> None:
    stage = Stage(route("a")).script(a=[fails(slow(7)), answers()])
    outcome = stage.tell(call())
    assert outcome.tried == ["a", "a"]
    assert stage.waits == pytest.approx([7])


def test_the_one_that_is_ready_first_is_repeated() -> None:
    stage = Stage(route("a", "b")).script(a=[fails(slow(9)), answers("late")], b=[fails(slow(4)), answers("early")])
    outcome = stage.tell(call())
    assert (outcome.tried, outcome.text) == (["a", "b", "b"], "early")
    assert stage.waits == pytest.approx([4])


@pytest.mark.parametrize("error", [slow(20), ProviderFault("busy", retry_after_s=20.0)], ids=["429", "503"])
def test_a_wait_over_the_deadline_is_not_begun(error: ProviderError) -> None:
    stage = Stage(route("a", fallback=NO_REPLY)).script(a=fails(error))
    outcome = stage.tell(call(), timeout_s=10)
    assert (outcome.tried, stage.waits) == (["a"], [])
    assert outcome.error is error


def test_a_429_cools_the_deployment_down_and_says_nothing_against_it() -> None:
    async def story() -> None:
        stage = Stage(route("a", "b", breaker=Breaker(consecutive_failures=1)))
        stage.script(a=[fails(slow(5)), answers()], b=answers())
        assert (await stage.ask(call())).tried == ["a", "b"]
        assert (await stage.ask(call())).tried == ["b"]
        assert stage.health.of("fake/a").breaker.state == "closed"
        await asyncio.sleep(5)
        assert (await stage.ask(call())).tried == ["a"]

    play(story)


def test_repeats_stay_within_the_budget_and_its_floor() -> None:
    async def story() -> None:
        stage = Stage(route("a", fallback=NO_REPLY, retries=Retries(max_attempts=2, budget=0.2))).script(a=fails(DOWN))
        for _ in range(10):
            await stage.ask(call(), timeout_s=1)
        assert len(stage.provider.calls) == 10 + BUDGET_FLOOR
        for _ in range(90):
            await stage.ask(call(), timeout_s=1)
        assert len(stage.provider.calls) <= 1.2 * 100 + 1
        assert len(stage.provider.calls) > 1.1 * 100

    play(story)


def test_a_budget_of_nothing_still_has_its_floor() -> None:
    stage = Stage(route("a", retries=Retries(budget=0), fallback=NO_REPLY)).script(a=fails(DOWN))
    assert stage.tell(call()).tried == ["a", "a", "a"]


# --- kinds of failure -------------------------------------------------------------------------------------------------


@both_ways
def test_a_bad_request_is_returned_at_once(stream: bool) -> None:
    stage = Stage(route("a", "b", fallbacks=("spare",)), route("c", name="spare")).script(a=fails(BAD))
    outcome = stage.tell(call(stream=stream))
    assert (outcome.tried, outcome.error) == (["a"], BAD)
    assert stage.health.of("fake/a").breaker.state == "closed"


def test_after_a_context_that_is_too_long_only_larger_windows_are_tried() -> None:
    small, same = deployment("a", context_window=8_000), deployment("b", context_window=8_000)
    large, unknown = deployment("c", context_window=128_000), deployment("d")
    stage = Stage(route(small, same, large, unknown)).script(a=fails(TOO_LONG), c=fails(TOO_LONG), d=answers())
    assert stage.tell(call()).tried == ["a", "c", "d"]


def test_one_that_failed_for_another_reason_does_not_raise_the_bar() -> None:
    small, huge, middle = (deployment(name, context_window=size) for name, size in (("a", 8), ("b", 1000), ("c", 100)))
    stage = Stage(route(small, huge, middle)).script(a=fails(TOO_LONG), b=fails(DOWN), c=answers())
    assert stage.tell(call()).tried == ["a", "b", "c"]


def test_no_larger_window_is_an_error_of_the_request() -> None:
    outcome = Stage(route(deployment("a", context_window=8), deployment("b", context_window=4))).script(a=fails(TOO_LONG)).tell(call())
    assert (outcome.tried, outcome.error) == (["a"], TOO_LONG)


def test_a_content_filter_is_told_the_client_or_another_asked() -> None:
    scripts = {"a": fails(FILTERED), "b": answers()}
    outcome = Stage(route("a", "b")).script(**scripts).tell(call())
    assert (outcome.tried, outcome.error) == (["a"], FILTERED)
    assert Stage(route("a", "b", fallback=Fallback(on_content_filter="next"))).script(**scripts).tell(call()).tried == ["a", "b"]


@pytest.mark.parametrize("text", ["", "I was sto"], ids=["empty", "begun"])
def test_an_answer_that_a_filter_stopped_goes_the_same_way(text: str) -> None:
    scripts = {"a": answers(text, finish="content_filter"), "b": answers("clean")}
    outcome = Stage(route("a", "b")).script(**scripts).tell(call())
    assert (outcome.tried, outcome.text, outcome.exchange.finish_reason) == (["a"], text, "content_filter")
    outcome = Stage(route("a", "b", fallback=Fallback(on_content_filter="next"))).script(**scripts).tell(call())
    assert (outcome.tried, outcome.text) == (["a", "b"], "clean")


def test_an_empty_stream_that_a_filter_stopped_is_the_clients_to_see() -> None:
    outcome = Stage(route("a", "b")).script(a=streams(finish="content_filter"), b=streams("clean")).tell(call(stream=True))
    assert (outcome.tried, outcome.exchange.finish_reason) == (["a"], "content_filter")


@pytest.mark.parametrize("error", [ProviderKeyRefused("key"), ProviderModelMissing("model")], ids=["key", "model"])
def test_what_only_the_operator_can_mend_goes_to_the_next_and_is_not_repeated(error: ProviderError) -> None:
    assert Stage(route("a", "b")).script(a=fails(error), b=answers()).tell(call()).tried == ["a", "b"]
    outcome = Stage(route("a", fallback=NO_REPLY)).script(a=fails(error)).tell(call())
    assert (outcome.tried, outcome.error) == (["a"], error)


def test_a_repeat_passes_by_what_cannot_get_better() -> None:
    stage = Stage(route("a", "b")).script(a=fails(ProviderKeyRefused("key")), b=[fails(DOWN), answers()])
    assert stage.tell(call()).tried == ["a", "b", "b"]


# --- time -------------------------------------------------------------------------------------------------------------


@both_ways
def test_one_that_hangs_leaves_the_next_its_part_of_the_time(stream: bool) -> None:
    stage = Stage(route("a", "b", fallbacks=("spare",)), route("c", name="spare")).script(a=hangs(), b=hangs(), c=good(stream))
    outcome = stage.tell(call(stream=stream), timeout_s=9)
    assert (outcome.tried, outcome.exchange.status) == (["a", "b", "c"], "fallback")
    assert [round(received.at, 3) for received in stage.provider.calls] == [0, 3, 6]


def test_a_timeout_of_the_configuration_comes_before_the_share() -> None:
    stage = Stage(route("a", "b", timeouts=Timeouts(first_token_s=2))).script(a=hangs(), b=streams("hi"))
    outcome = stage.tell(call(stream=True))
    assert stage.provider.calls[1].at == pytest.approx(2, abs=0.01)
    assert outcome.outcomes == ["provider_timeout", "success"]


def test_the_first_content_is_what_ends_the_first_wait() -> None:
    script = Script((1.5,), (frames([])[0], 5.0, *frames(["late"])))
    stage = Stage(route("a", "b", timeouts=Timeouts(first_token_s=2))).script(a=script, b=streams("hi"))
    outcome = stage.tell(call(stream=True))
    assert (outcome.tried, outcome.text) == (["a", "b"], "hi")


@both_ways
def test_when_all_hang_the_fixed_reply_comes_at_the_deadline(stream: bool) -> None:
    async def story() -> float:
        stage = Stage(route("a", "b")).script(a=hangs(), b=hangs())
        outcome = await stage.ask(call(stream=stream), timeout_s=8)
        assert outcome.exchange.status == "degraded"
        return CLOCK.monotonic()

    assert play(story) == pytest.approx(8, abs=0.01)


def test_a_client_in_a_hurry_cannot_eject_a_deployment() -> None:
    async def story() -> str:
        stage = Stage(route("a", "b", breaker=Breaker(consecutive_failures=1))).script(a=hangs(), b=hangs())
        await stage.ask(call(), timeout_s=0.05)
        return stage.health.of("fake/a").breaker.state

    assert play(story) == "closed"


@pytest.mark.parametrize("timeout_s", [None, 5.0])
def test_a_deployment_that_used_up_its_own_time_is_ejected(timeout_s: float | None) -> None:
    async def story() -> str:
        policies: dict[str, Any] = {"breaker": Breaker(consecutive_failures=1), "timeouts": Timeouts(attempt_s=1)}
        stage = Stage(route("a", "b", **policies)).script(a=hangs(), b=answers())
        await stage.ask(call(), timeout_s=timeout_s)
        return stage.health.of("fake/a").breaker.state

    assert play(story) == "open"


def test_a_stall_in_mid_stream_is_told_by_its_kind() -> None:
    script = Script((), (*frames(["one"])[:2], 100.0))
    stage = Stage(route("a", timeouts=Timeouts(idle_s=3), streaming=Streaming(recovery="error"))).script(a=script)
    failure = stage.tell(call(stream=True)).failure
    assert isinstance(failure, ProviderTimeout)
    assert failure.kind == "idle"


# --- quality ----------------------------------------------------------------------------------------------------------


@both_ways
def test_an_empty_answer_goes_to_the_next(stream: bool) -> None:
    empty = streams() if stream else answers("")
    outcome = Stage(route("a", fallbacks=("spare",)), route("b", name="spare")).script(a=empty, b=good(stream)).tell(call(stream=stream))
    assert (outcome.tried, outcome.text, outcome.exchange.status) == (["a", "b"], "hello", "fallback")
    assert outcome.exchange.reason == "quality"


@both_ways
def test_an_empty_answer_may_be_allowed(stream: bool) -> None:
    policy = Fallback(quality=Quality(reject_empty=False))
    empty = streams() if stream else answers("")
    outcome = Stage(route("a", "b", fallback=policy)).script(a=empty).tell(call(stream=stream))
    assert (outcome.tried, outcome.text, outcome.exchange.status) == (["a"], "", "success")


def test_when_all_are_of_low_quality_the_last_that_said_something_is_the_answer() -> None:
    policy = Fallback(quality=Quality(min_token_efficiency=0.5))
    stage = Stage(route("a", "b", "c", fallback=policy)).script(a=answers("one"), b=answers("two"), c=answers(""))
    outcome = stage.tell(call())
    assert (outcome.tried, outcome.text) == (["a", "b", "c"], "two")
    assert (outcome.exchange.status, outcome.exchange.reason) == ("success", "quality")
    assert all(attempt.cost_usd for attempt in outcome.exchange.attempts)


def test_a_stream_that_does_not_begin_as_json_goes_to_the_next() -> None:
    asked = call(stream=True, response_format={"type": "json_object"})
    outcome = Stage(route("a", "b")).script(a=streams("Sure! ", "{}"), b=streams('{"a"', ": 1}")).tell(asked)
    assert (outcome.tried, outcome.text) == (["a", "b"], '{"a": 1}')


# --- the last word ----------------------------------------------------------------------------------------------------


@both_ways
def test_the_fixed_reply_is_an_ordinary_answer(stream: bool) -> None:
    outcome = Stage(route("a", fallback=Fallback(reply="Later."))).script(a=fails(DOWN)).tell(call(stream=stream))
    assert (outcome.error, outcome.text) == (None, "Later.")
    assert (outcome.exchange.status, outcome.exchange.reason, outcome.exchange.quality) == ("degraded", "provider_error", 0.0)
    assert outcome.exchange.answer_bytes == len(outcome.data)
    assert take_answer(outcome.exchange) == Answer("Later.", finish_reason="stop")


@both_ways
@pytest.mark.parametrize(
    "members",
    [{"response_format": {"type": "json_object"}}, {"tools": [], "tool_choice": "required"}],
    ids=["JSON", "forced tool"],
)
def test_the_fixed_reply_stands_in_for_conversation_only(members: dict[str, object], stream: bool) -> None:
    outcome = Stage(route("a")).script(a=fails(DOWN)).tell(call(stream=stream, **members))
    assert (outcome.error, outcome.events) == (DOWN, [])


@both_ways
def test_without_a_fixed_reply_the_last_error_is_raised(stream: bool) -> None:
    last = ConnectFailed("b")
    outcome = Stage(route("a", "b", fallback=NO_REPLY, retries=Retries(max_attempts=2)))
    assert outcome.script(a=fails(DOWN), b=fails(last)).tell(call(stream=stream)).error is last


# --- detours ----------------------------------------------------------------------------------------------------------


def test_an_ejected_model_is_passed_by_and_says_so() -> None:
    async def story() -> None:
        policies: dict[str, Any] = {"breaker": Breaker(consecutive_failures=1), "fallbacks": ("spare",)}
        stage = Stage(route("a", **policies), route("b", name="spare")).script(a=fails(DOWN), b=answers())
        await stage.ask(call())
        outcome = await stage.ask(call())
        assert (outcome.tried, outcome.exchange.status, outcome.exchange.reason) == (["b"], "fallback", "unavailable")

    play(story)


def test_a_wait_that_a_provider_asks_for_is_bridged_by_the_fallback_and_not_held_against_the_model() -> None:
    """However many come in that second: the controller would keep the model out for much longer."""

    async def story() -> None:
        stage = Stage(route("a", fallbacks=("spare",)), route("b", name="spare"))
        stage.script(a=fails(slow(1)), b=answers())
        outcomes = [await stage.ask(call()) for _ in range(200)]
        assert {outcome.exchange.status for outcome in outcomes} == {"fallback"}
        assert Counter(outcome.exchange.reason for outcome in outcomes) == {"provider_rate_limited": 1, "cooling": 199}
        assert stage.health.controller("chat").state == "normal"

    play(story)


def test_a_detour_that_led_back_to_the_model_is_a_plain_success() -> None:
    async def story() -> None:
        policies: dict[str, Any] = {"breaker": Breaker(consecutive_failures=1), "fallbacks": ("spare",), "retries": Retries(max_attempts=2)}
        stage = Stage(route("a", **policies), route("b", name="spare")).script(a=[fails(DOWN), answers()], b=[answers(), fails(DOWN)])
        await stage.ask(call())
        outcome = await stage.ask(call())
        assert (outcome.tried, outcome.exchange.status, outcome.exchange.reason) == (["b", "a"], "success", None)

    play(story)


def test_a_lone_deployment_is_never_kept_from_its_calls_and_its_breaker_closes_again() -> None:
    async def story() -> None:
        stage = Stage(route("a", retries=Retries(max_attempts=1), breaker=Breaker(consecutive_failures=2, open_s=10)))
        stage.script(a=[fails(DOWN), fails(DOWN), answers()])

        def state() -> str:
            return stage.health.of("fake/a").breaker.state

        assert [(await stage.ask(call())).tried for _ in range(3)] == [["a"]] * 3
        assert state() == "open"
        await asyncio.sleep(10)
        await stage.ask(call())
        assert state() == "closed"

    play(story)


# --- streams ----------------------------------------------------------------------------------------------------------


def test_a_stream_whose_usage_was_asked_for_carries_it() -> None:
    asked = call(stream=True, stream_options={"include_usage": True})
    outcome = Stage(route("a")).script(a=streams("hi")).tell(asked)
    assert outcome.chunks[-1]["usage"]["completion_tokens"] == 5
    assert outcome.done


def test_where_streaming_is_off_the_whole_answer_is_one_event() -> None:
    stage = Stage(route("a", streaming=Streaming(enabled=False))).script(a=answers("whole"))
    outcome = stage.tell(call(stream=True))
    assert (outcome.text, outcome.done, len(outcome.events)) == ("whole", True, 1)
    assert stage.provider.calls[0].call.stream is False
    assert stage.health.of("fake/a").load.wholes.expected_s(0, 0) >= 0


def test_what_fails_while_it_is_held_back_nobody_has_seen() -> None:
    broken = Script((), (*frames(["one ", "two "])[:3], 0.5, DOWN))
    policy = Streaming(recovery="restart", hold_back_s=1)
    outcome = Stage(route("a", "b", streaming=policy)).script(a=broken, b=streams("fresh")).tell(call(stream=True))
    assert (outcome.tried, outcome.text, outcome.done) == (["a", "b"], "fresh", True)


def test_what_fails_after_the_hold_back_is_an_error_in_the_stream() -> None:
    broken = Script((), (*frames(["one ", "two "])[:3], 2.0, DOWN))
    policy = Streaming(recovery="restart", hold_back_s=1)
    outcome = Stage(route("a", "b", streaming=policy)).script(a=broken, b=streams("fresh")).tell(call(stream=True))
    assert (outcome.tried, outcome.text, outcome.done, outcome.failure) == (["a"], "one two ", False, DOWN)


@pytest.mark.parametrize("policy", ["continue", "restart", "error"])
def test_an_error_event_in_the_stream_never_ends_it_as_complete(policy: str) -> None:
    error = data_frame(b'{"error": {"message": "boom"}}')
    stage = Stage(route("a", "b", streaming=Streaming(recovery=policy)))  # type: ignore[arg-type]  # each of its literals
    outcome = stage.script(a=Script((), (*frames(["one"])[:2], error)), b=streams("x")).tell(call(stream=True))
    assert (outcome.text, outcome.done) == ("one", False)
    assert isinstance(outcome.failure, ProviderFault)


@pytest.mark.parametrize("together", [False, True], ids=["read by read", "in one read"])
def test_an_error_event_is_told_at_once_though_the_provider_keeps_the_line_open(together: bool) -> None:
    error = data_frame(b'{"error": {"message": "boom"}}')
    told = frames(["one", "two"])[:3]
    after: tuple[Step, ...] = (*told[:2], told[2] + error, 1000.0) if together else (*told, error, 1000.0)

    async def story() -> float:
        stage = Stage(route("a", streaming=Streaming(recovery="error"))).script(a=Script((), after))
        outcome = await stage.ask(call(stream=True))
        assert (outcome.text, type(outcome.failure)) == ("onetwo", ProviderFault)
        return CLOCK.monotonic()

    assert play(story) < 1


# --- nothing leaks ----------------------------------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize("hedged", [False, True], ids=["plain", "hedged"])
def test_cancelled_at_any_moment_nothing_is_left_behind(stream: bool, hedged: bool) -> None:
    """At every await of a request that fails, waits, falls back, hedges, streams and recovers."""

    async def story(moment: int) -> bool:
        ready = deployment("c", prefill="plain")
        stage = Stage(route("a", "b", ready, retries=Retries(max_attempts=6), hedging=Hedging(enabled=hedged, max_share=1.0)))
        for known in ("a", "b", "c"):
            for _ in range(20):
                stage.health.of(f"fake/{known}").load.latency(stream=stream).observe(0.05, 10, 0)
        broken = Script((0.1,), (*frames(["one ", "two "])[:3], 0.1, DOWN))
        stage.script(a=fails(DOWN, after_s=0.1), b=fails(slow(0.3), after_s=0.2))
        stage.script(c=[fails(DOWN, after_s=0.1), broken, streams("three", after_s=0.1)] if stream else [fails(DOWN), answers(after_s=0.1)])
        exchange = stage.exchange(call(stream=stream))
        plan = stage.planner.plan(exchange, stage.asked)

        async def consume() -> None:
            async for _ in stage.loop.answer(exchange, plan):
                await asyncio.sleep(0)

        task = asyncio.ensure_future(consume())
        for _ in range(moment):
            await asyncio.sleep(0 if moment % 2 else 0.01)
            if task.done():
                break
        finished = task.done()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is None
        stage.assert_nothing_leaks(exchange)
        assert not [probe for _, known in stage.health.deployments() if (probe := known.breaker.state) == "half_open"]
        return finished

    for moment in count():
        if play(lambda moment=moment: story(moment)) and moment % 2 == 0:  # type: ignore[misc]  # a lambda's default
            assert moment > 10
            break


async def test_a_stream_that_is_closed_by_its_reader_stops_the_provider() -> None:
    stage = Stage(route("a")).script(a=streams("one", "two"))
    exchange = stage.exchange(call(stream=True))
    events = stage.loop.answer(exchange, stage.planner.plan(exchange, stage.asked))
    await anext(events)
    await events.aclose()
    stage.assert_nothing_leaks(exchange)
    assert exchange.attempts[0].outcome == "cancelled"
    assert stage.health.of("fake/a").breaker.state == "closed"
