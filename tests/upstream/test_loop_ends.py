"""How streams end, and what their end says of the model."""

from __future__ import annotations

import asyncio
import logging

import pytest

from agent_gateway.core.errors import ClientLeft, ConnectFailed, ConnectionCut, ProviderTimeout
from agent_gateway.core.event import Chunk
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.settings import Retries, Streaming, Timeouts
from agent_gateway.upstream.attempt import BODY_END_S
from agent_gateway.wire.sse import DONE, data_frame
from tests.upstream.stage import CLOCK, Script, Stage, Step, answers, call, fails, frames, hangs, play, route, streams

CUT = ConnectionCut("cut")


def test_done_ends_a_stream_though_its_body_stays_open() -> None:
    async def story() -> float:
        stage = Stage(route("a")).script(a=Script((), (*frames(["one"]), 1000.0)))
        outcome = await stage.ask(call(stream=True))
        assert (outcome.text, outcome.done, outcome.failure, outcome.outcomes) == ("one", True, None, ["success"])
        assert stage.health.of("fake/a").breaker.state == "closed"
        return CLOCK.monotonic()

    assert play(story) <= BODY_END_S + 0.01


def test_a_cut_after_done_is_no_failure() -> None:
    outcome = Stage(route("a")).script(a=Script((), (*frames(["one"]), CUT))).tell(call(stream=True))
    assert (outcome.done, outcome.failure, outcome.outcomes) == (True, None, ["success"])


def test_an_error_frame_while_the_stream_is_held_back_starts_it_anew() -> None:
    error = data_frame(b'{"error": {"message": "boom"}}')
    sent: tuple[Step, ...] = (*frames(["one "])[:2], 0.2, error, *frames(["after"])[1:])
    policy = Streaming(recovery="restart", hold_back_s=1)
    outcome = Stage(route("a", "b", streaming=policy)).script(a=Script((), sent), b=streams("fresh")).tell(call(stream=True))
    assert (outcome.tried, outcome.text, outcome.done) == (["a", "b"], "fresh", True)


def test_the_last_stream_that_does_not_begin_as_json_is_still_an_answer() -> None:
    outcome = Stage(route("a")).script(a=streams("```json\\n{}")).tell(call(stream=True, response_format={"type": "json_object"}))
    assert (outcome.text, outcome.done, outcome.error) == ("```json\\n{}", True, None)


def test_time_that_the_chain_took_from_a_deployment_is_not_held_against_it() -> None:
    chain = route("a", "b", timeouts=Timeouts(total_s=8, first_token_s=30, attempt_s=30), retries=Retries(max_attempts=2))
    stage = Stage(chain).script(a=hangs(), b=answers("spare"))

    async def story() -> None:
        for _ in range(8):
            outcome = await stage.ask(call())
            assert outcome.text == "spare"

    play(story)
    assert stage.health.of("fake/a").breaker.state == "closed"


def test_the_controller_hears_of_streams_that_begin_and_then_break() -> None:
    spare = route("b", name="spare")
    stage = Stage(route("a", fallbacks=("spare",), streaming=Streaming(recovery="error")), spare)
    stage.script(a=Script((), (*frames(["one"])[:2], CUT)), b=streams("x"))

    async def story() -> None:
        for _ in range(60):
            await stage.ask(call(stream=True))

    play(story)
    assert stage.health.controller("chat").state == "tripped"


def test_a_request_over_its_time_is_told_as_that() -> None:
    outcome = Stage(route("a", timeouts=Timeouts(total_s=2, attempt_s=30))).script(a=hangs()).tell(call(tool_choice="required"))
    assert isinstance(outcome.error, ProviderTimeout)


def test_the_operator_hears_of_failures_once_a_minute_and_of_what_follows(caplog: pytest.LogCaptureFixture) -> None:
    failed = ConnectFailed("The model provider could not be reached.", detail="connection refused")
    stage = Stage(route("a", fallbacks=("spare",)), route("b", name="spare"))
    stage.script(a=fails(failed), b=answers("x"))

    async def story() -> None:
        for _ in range(60):
            await stage.ask(call())

    with caplog.at_level(logging.WARNING):
        play(story)
    lines = [record.getMessage() for record in caplog.records]
    assert lines.count("fake/a failed: provider_unreachable The model provider could not be reached. (connection refused)") == 1
    assert "fake/a is passed by for 30 s: its breaker opened" in lines
    assert any(line.startswith("model chat: ") and line.endswith("to tripped") for line in lines)
    assert len(lines) <= 5


def test_a_client_that_leaves_after_done_has_been_answered() -> None:
    async def story() -> Exchange:
        stage = Stage(route("a")).script(a=Script((), (*frames(["one"]), 1000.0)))
        exchange = stage.exchange(call(stream=True))
        events = stage.loop.answer(exchange, stage.planner.plan(exchange, stage.asked))
        told = b""
        while not told.endswith(DONE):
            event = await anext(events)
            assert isinstance(event, Chunk)
            told += event.data
        reading = asyncio.ensure_future(anext(events))
        await asyncio.sleep(BODY_END_S / 2)
        reading.cancel()
        await asyncio.wait([reading])
        exchange.end(ClientLeft("The client closed the connection."), CLOCK.monotonic())
        return exchange

    exchange = play(story)
    assert (exchange.status, exchange.http_status, exchange.error, exchange.finish_reason) == ("success", 200, None, "stop")
    assert exchange.usage is not None
