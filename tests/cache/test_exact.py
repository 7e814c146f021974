"""Who is answered by whom: one of many goes to the model, and what becomes of the others when it fails, leaves or is slow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import Any

import msgspec
import pytest

from agent_gateway.cache.base import ANSWER_MAX_BYTES
from agent_gateway.cache.exact import LEADERS_MAX
from agent_gateway.cache.memory import MemoryEntries
from agent_gateway.core.call import Keeping
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import NotCapable, ProviderFault
from agent_gateway.core.event import Chunk, Event, Failure, Whole
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.plan import Plan
from agent_gateway.core.route import Route
from tests.cache.exchanges import Model, asked, new_cache, new_exchange, route_of, saying, succeed

SILENCE: Sequence[Event] = ()
either_way = pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@either_way
async def test_the_same_request_gets_the_same_bytes_and_costs_nothing(stream: bool) -> None:
    cache, model = new_cache(), Model(saying())
    first, again = new_exchange(stream=stream), new_exchange(stream=stream)
    told = await asked(cache, model, first)
    assert await asked(cache, model, again) == told
    assert (model.calls, model.planned) == (1, 1)
    assert (again.status, again.reason, again.deployment, again.attempts) == ("cached", None, "p/m", [])
    assert (again.cost_usd, again.saved_usd, again.usage, again.finish_reason, again.quality) == (0, 0.25, first.usage, "stop", 1.0)
    assert msgspec.json.encode(again.transcript) == msgspec.json.encode(first.transcript)
    assert again.answer_bytes - again.compacted_bytes == 0, "nothing is left to be read of it"
    assert (again.first_token is not None, again.answered) == (stream, stream)
    assert cache.results == {"hit": 1, "joined": 0, "miss": 1, "skipped": 0}


async def test_it_says_what_it_has_and_counts_nothing() -> None:
    cache, model = new_cache(), Model(saying())
    assert not await cache.has(new_exchange(), route_of())
    await asked(cache, model, new_exchange())
    counted = dict(cache.results)
    skipping = new_exchange()
    skipping.uses_cache = False
    had = [
        await cache.has(exchange, route)
        for exchange, route in (
            (new_exchange(), route_of()),
            (new_exchange(temperature=1), route_of()),
            (new_exchange(key=None), route_of()),
            (new_exchange(), route_of(enabled=False)),
            (skipping, route_of()),
        )
    ]
    assert had == [True, False, False, False, False]
    assert (cache.results, model.calls) == (counted, 1)


@either_way
async def test_of_a_hundred_at_once_one_asks_the_model(stream: bool) -> None:
    go_on = asyncio.Event()
    cache, model = new_cache(), Model(saying(wait=go_on))
    exchanges = [new_exchange(stream=stream) for _ in range(100)]
    asking = [asyncio.create_task(asked(cache, model, exchange)) for exchange in exchanges]
    await turns()
    go_on.set()
    assert len(set(await asyncio.gather(*asking))) == 1
    assert model.calls == 1
    assert cache.results == {"hit": 0, "joined": 99, "miss": 1, "skipped": 0}
    assert all(exchange.queued_s > 0 for exchange in exchanges[1:]), "that it waited is not the gateway's own time"
    assert not cache._flights


async def test_when_the_first_fails_the_next_goes_and_the_others_wait_for_that() -> None:
    go_on = [asyncio.Event(), asyncio.Event()]

    async def play(number: int, exchange: Exchange) -> AsyncGenerator[Event, None]:
        await go_on[number].wait()
        if number == 0:
            raise ProviderFault("It failed.")
        succeed(exchange)
        yield Whole(b"whole")

    cache, model = new_cache(), Model(play)
    asking = [asyncio.create_task(asked(cache, model, new_exchange())) for _ in range(10)]
    await turns()
    go_on[0].set()
    await turns()
    assert model.calls == 2, "one, not nine"
    go_on[1].set()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(results[0], ProviderFault)
    assert results[1:] == [b"whole"] * 9
    assert not cache._flights


@either_way
async def test_when_the_client_of_the_first_leaves_the_others_are_answered(stream: bool) -> None:
    go_on = asyncio.Event()
    cache, model = new_cache(), Model(saying(wait=go_on))
    asking = [asyncio.create_task(asked(cache, model, new_exchange(stream=stream))) for _ in range(5)]
    await turns()
    asking[0].cancel()
    await turns()
    assert model.calls == 2
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await asking[0]
    assert len(set(await asyncio.gather(*asking[1:]))) == 1
    assert model.calls == 2


async def test_one_who_waits_and_leaves_ends_nobody_elses_answer() -> None:
    go_on = asyncio.Event()
    cache, model = new_cache(), Model(saying(wait=go_on))
    asking = [asyncio.create_task(asked(cache, model, new_exchange())) for _ in range(5)]
    await turns()
    asking[3].cancel()
    await turns()
    go_on.set()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [False, False, False, True, False]
    assert model.calls == 1


async def test_nobody_waits_for_one_after_the_other_for_ever() -> None:
    running: list[int] = []
    at_once: list[int] = []

    async def play(number: int, exchange: Exchange) -> AsyncGenerator[Event, None]:
        running.append(number)
        await turns(3)
        at_once.append(len(running))
        await turns(3)
        running.remove(number)
        for event in SILENCE:
            yield event
        raise ProviderFault("It failed.")

    cache, model = new_cache(), Model(play)
    results = await asyncio.gather(*(asked(cache, model, new_exchange()) for _ in range(20)), return_exceptions=True)
    assert all(isinstance(result, ProviderFault) for result in results)
    assert model.calls == 20
    assert at_once == [*[1] * LEADERS_MAX, *[20 - LEADERS_MAX] * (20 - LEADERS_MAX)]
    assert not cache._flights


async def test_one_who_waits_has_his_own_deadline() -> None:
    never = asyncio.Event()

    async def play(number: int, exchange: Exchange) -> AsyncGenerator[Event, None]:
        if number == 0:
            await never.wait()
        for event in SILENCE:
            yield event
        raise ProviderFault("Its time is up.")

    cache, model = new_cache(), Model(play)
    first = asyncio.create_task(asked(cache, model, new_exchange()))
    await turns()
    with pytest.raises(ProviderFault):
        await asked(cache, model, new_exchange(wait_s=0.05))
    assert model.calls == 2
    first.cancel()
    with suppress(asyncio.CancelledError):
        await first
    assert not cache._flights


async def test_an_answer_that_is_not_for_others_sends_them_on_their_way_at_once() -> None:
    go_on = asyncio.Event()
    cache, model = new_cache(), Model(saying(wait=go_on, finish_reason="length"))
    asking = [asyncio.create_task(asked(cache, model, new_exchange())) for _ in range(10)]
    await turns()
    go_on.set()
    assert len(set(await asyncio.gather(*asking))) == 10
    assert model.calls == 10
    assert cache.results["miss"] == 10


async def test_a_fixed_reply_is_no_answer_to_others() -> None:
    async def play(number: int, exchange: Exchange) -> AsyncGenerator[Event, None]:
        await turns(5)
        succeed(exchange)
        exchange.status = "degraded" if number == 0 else "success"
        yield Whole(b"%d" % number)

    cache, model = new_cache(), Model(play)
    told = await asyncio.gather(*(asked(cache, model, new_exchange()) for _ in range(10)))
    assert told == [b"0", *[b"1"] * 9]


async def test_a_stream_that_failed_is_not_given_again() -> None:
    async def play(number: int, exchange: Exchange) -> AsyncGenerator[Event, None]:
        succeed(exchange)
        yield Chunk(b"data: a\n\n")
        yield Failure(ProviderFault("It broke off."))

    cache, model = new_cache(), Model(play)
    for _ in range(2):
        exchange = new_exchange(stream=True)
        events = [event async for event in cache.answer(exchange, route_of(), model.plan, model.answer)]
        assert isinstance(events[-1], Failure)
    assert model.calls == 2


@either_way
async def test_what_its_reader_did_not_take_to_the_end_is_not_given_again(stream: bool) -> None:
    """As when a guard refuses the answer."""
    cache, model = new_cache(), Model(saying())
    async with aclosing(cache.answer(new_exchange(stream=stream), route_of(), model.plan, model.answer)) as events:
        await anext(events)
    assert not cache._flights
    await asked(cache, model, new_exchange(stream=stream))
    assert model.calls == 2


async def test_a_client_that_leaves_after_the_last_piece_has_had_a_whole_answer() -> None:
    over = asyncio.Event()

    async def play(number: int, exchange: Exchange) -> AsyncGenerator[Event, None]:
        succeed(exchange)
        yield Chunk(b"data: [DONE]\n\n")
        exchange.answered = True
        await over.wait()  # for the end of the provider's body

    cache, model = new_cache(), Model(play)
    first = asyncio.create_task(asked(cache, model, new_exchange(stream=True)))
    await turns()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await asked(cache, model, new_exchange(stream=True)) == b"data: [DONE]\n\n"
    assert model.calls == 1


async def test_what_has_to_see_every_frame_does() -> None:
    cache, model = new_cache(), Model(saying())
    exchange = new_exchange(stream=True)
    exchange.tap = lambda frames: True
    await asked(cache, model, exchange)
    assert exchange.tap is None


async def test_where_there_is_no_plan_nobody_is_left_waiting() -> None:
    class Incapable(Model):
        def plan(self, exchange: Exchange, route: Route) -> Plan:
            raise NotCapable("It takes no images.")

    cache, model = new_cache(), Incapable(saying())
    results = await asyncio.gather(*(asked(cache, model, new_exchange()) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(result, NotCapable) for result in results)
    assert not cache._flights


@pytest.mark.parametrize(
    ("fields", "body"),
    [({"uses_cache": False}, {}), ({}, {"store": False}), ({"keeping": Keeping(background=True)}, {})],
    ids=["no-store", "store: false", "background"],
)
async def test_who_wants_none_of_it_is_passed_by_it_both_ways(fields: dict[str, Any], body: dict[str, Any]) -> None:
    def wanting(**more: Any) -> Exchange:
        exchange = new_exchange(**body, **more)
        if "keeping" in fields:
            exchange.call = msgspec.structs.replace(exchange.call, keeping=fields["keeping"])
        exchange.uses_cache = fields.get("uses_cache", True)
        return exchange

    cache, model = new_cache(), Model(saying())
    for _ in range(2):
        await asked(cache, model, wanting())
    assert model.calls == 2
    assert cache.results == {"hit": 0, "joined": 0, "miss": 0, "skipped": 2}
    plain = [await asked(cache, model, new_exchange()) for _ in range(2)]
    assert plain == [b"Hello 2"] * 2
    assert (await asked(cache, model, wanting()), model.calls) == (b"Hello 3", 4)


async def test_a_model_without_a_cache_is_not_touched() -> None:
    cache, model = new_cache(), Model(saying())
    exchange = new_exchange(stream=True)
    exchange.tap = lambda frames: True
    for _ in range(2):
        await asked(cache, model, exchange, route_of(enabled=False))
    assert model.calls == 2
    assert exchange.tap is not None
    assert not any(cache.results.values())


async def test_an_answer_is_given_for_its_time_to_live() -> None:
    now = 100.0
    clock = Clock(monotonic=lambda: now)
    cache, model = new_cache(MemoryEntries(clock, bytes_max=2**20)), Model(saying())
    route = route_of(ttl_s=60)
    assert await asked(cache, model, new_exchange(), route) == b"Hello 0"
    now += 59.9
    assert await asked(cache, model, new_exchange(), route) == b"Hello 0"
    now += 0.2
    assert await asked(cache, model, new_exchange(), route) == b"Hello 1"
    assert await asked(cache, model, new_exchange(), route_of(ttl_s=5)) == b"Hello 2", "whoever shortens it wants new answers now"


async def test_an_answer_that_is_too_long_is_not_kept() -> None:
    async def play(number: int, exchange: Exchange) -> AsyncGenerator[Event, None]:
        for _ in range(3):
            yield Chunk(bytes(ANSWER_MAX_BYTES // 2))
        succeed(exchange)

    cache, model = new_cache(), Model(play)
    assert [len(await asked(cache, model, new_exchange(stream=True))) for _ in range(2)] == [3 * ANSWER_MAX_BYTES // 2] * 2
    assert (model.calls, cache.kept_bytes) == (2, 0)


async def test_what_the_gateway_keeps_is_bounded() -> None:
    entries = MemoryEntries(Clock(), bytes_max=100_000)
    cache, model = new_cache(entries), Model(saying("x" * 5_000))
    for number in range(200):
        await asked(cache, model, new_exchange(seed=number))
        assert cache.kept_bytes <= 100_000
    assert await asked(cache, model, new_exchange(seed=199)) == b"%b 199" % (b"x" * 5_000)
    assert model.calls == 200
    await asked(cache, model, new_exchange(seed=0))
    assert model.calls == 201, "the oldest went first"
