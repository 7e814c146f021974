"""The pool: connections are reused, bounded, handed on in order, expire, are replaced when stale, and never leak."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import pytest

from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import ConnectFailed, ConnectionCut, NoConnectionFree, ProviderTimeout, ShuttingDown
from agent_gateway.upstream import transport as transport_module
from agent_gateway.upstream.connection import Connection
from agent_gateway.upstream.dialer import Dialer
from agent_gateway.upstream.transport import Origin, PoolStats, Transport
from tests.kit.eventually import eventually
from tests.upstream.raw_provider import BODY, HEAD, OK, PLENTY_S, Peer, Script, answering, ask, raw_provider, read, whole


@asynccontextmanager
async def transports(max_connections: int = 1000, idle_expiry_s: float = 30.0, clock: Clock | None = None) -> AsyncIterator[Transport]:
    transport = Transport(max_connections=max_connections, idle_expiry_s=idle_expiry_s, environ={}, clock=clock or Clock())
    try:
        yield transport
    finally:
        await transport.close()


def only(transport: Transport, origin: Origin) -> PoolStats:
    return transport.stats().get(origin, PoolStats(0, 0, 0))


async def settled(transport: Transport, origin: Origin, expected: PoolStats) -> None:
    """The loop closes an aborted connection a round or two later."""
    await eventually(lambda: only(transport, origin) == expected, f"{expected}")


async def test_one_connection_serves_one_request_after_the_other() -> None:
    async with raw_provider(answering) as provider, transports() as transport:
        for _ in range(5):
            assert await whole(transport, provider.origin) == b"ok"
        assert len(provider.peers) == 1
        assert only(transport, provider.origin) == PoolStats(1, 1, 0)


async def test_the_request_goes_out_as_it_was_given() -> None:
    heard: list[bytes] = []

    async def script(peer: Peer) -> None:
        heard.append(await peer.request())
        await peer.send(OK)

    async with raw_provider(script) as provider, transports() as transport:
        await whole(transport, provider.origin)
    assert heard == [HEAD + BODY]


async def test_the_connection_used_last_is_used_first() -> None:
    """So that those which are not needed expire."""
    served: list[Peer] = []

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            served.append(peer)
            await peer.send(OK)

    async with raw_provider(script) as provider, transports() as transport:
        await asyncio.gather(*(whole(transport, provider.origin) for _ in range(3)))
        assert only(transport, provider.origin) == PoolStats(3, 3, 0)
        assert len(set(served)) == 3
        for _ in range(5):
            await whole(transport, provider.origin)
        assert len(set(served[3:])) == 1


async def test_a_connection_is_free_as_soon_as_the_reply_is_here_not_when_it_is_taken() -> None:
    async with raw_provider(answering) as provider, transports(max_connections=1) as transport:
        first = await ask(transport, provider.origin)
        second = await ask(transport, provider.origin)
        assert await read(first) == await read(second) == b"ok"


async def test_two_thousand_requests_at_once_share_the_bounded_connections() -> None:
    async with raw_provider(answering) as provider, transports(max_connections=50) as transport:
        bodies = await asyncio.gather(*(whole(transport, provider.origin) for _ in range(2000)))
        assert bodies == [b"ok"] * 2000
        assert len(provider.peers) <= 50
        stats = only(transport, provider.origin)
        assert stats == PoolStats(stats.idle, stats.idle, 0)


async def test_a_thousand_requests_at_once_each_on_its_own_connection() -> None:
    everyone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await everyone.wait()
        await peer.send(OK)
        await peer.gone()

    async with raw_provider(script) as provider, transports() as transport:
        asked = asyncio.gather(*(whole(transport, provider.origin) for _ in range(1000)))
        await provider.until(lambda: len(provider.peers) == 1000)
        everyone.set()
        assert await asked == [b"ok"] * 1000


async def test_waiting_requests_are_served_in_the_order_they_came() -> None:
    order: list[int] = []

    async def one(number: int) -> None:
        await whole(transport, provider.origin)
        order.append(number)

    async with raw_provider(answering) as provider, transports(max_connections=1) as transport:
        await asyncio.gather(*(one(number) for number in range(20)))
    assert order == list(range(20))


async def test_a_waiting_request_keeps_its_deadline() -> None:
    async def silent(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    async with raw_provider(silent) as provider, transports(max_connections=1) as transport:
        holder = asyncio.create_task(ask(transport, provider.origin))
        await provider.until(lambda: len(provider.peers) == 1)
        with pytest.raises(ProviderTimeout) as caught:
            await ask(transport, provider.origin, within_s=0.01)
        assert caught.value.kind == "connect"
        assert only(transport, provider.origin) == PoolStats(1, 0, 0)
        holder.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holder
        await settled(transport, provider.origin, PoolStats(0, 0, 0))


async def test_those_who_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module, "WAITING_MAX", 1)

    async def silent(peer: Peer) -> None:
        await peer.gone()

    async with raw_provider(silent) as provider, transports(max_connections=1) as transport:
        waiting = [asyncio.create_task(ask(transport, provider.origin)) for _ in range(2)]
        await provider.until(lambda: len(provider.peers) == 1)
        with pytest.raises(NoConnectionFree):
            await ask(transport, provider.origin)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.parametrize("given", ["a connection", "a place", "nothing yet"])
async def test_a_waiting_request_that_is_cancelled_takes_nothing_with_it(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await go_on.wait()
        if given == "a place" and len(provider.peers) == 1:
            return
        await peer.send(OK)
        await answering(peer)

    async with raw_provider(script) as provider, transports(max_connections=1) as transport:
        first, second, third = (asyncio.create_task(whole(transport, provider.origin)) for _ in range(3))
        await provider.until(lambda: len(provider.peers) == 1)
        assert only(transport, provider.origin) == PoolStats(1, 0, 2)
        if given == "nothing yet":
            second.cancel()
        else:
            next_waiter = transport_module._Pool._next_waiter

            def cancelled_as_it_is_given(pool: transport_module._Pool) -> asyncio.Future[Connection | None] | None:
                asyncio.get_running_loop().call_soon(second.cancel)  # comes before the result does
                return next_waiter(pool)

            monkeypatch.setattr(transport_module._Pool, "_next_waiter", cancelled_as_it_is_given)
        go_on.set()
        ended = await asyncio.gather(first, second, third, return_exceptions=True)
        assert isinstance(ended[0], ConnectionCut) if given == "a place" else ended[0] == b"ok"
        assert isinstance(ended[1], asyncio.CancelledError)
        assert ended[2] == b"ok"
        assert only(transport, provider.origin) == PoolStats(1, 1, 0)


async def test_a_connection_that_closes_while_it_is_handed_over_is_not_used() -> None:
    async with raw_provider(answering) as provider, transports(max_connections=1) as transport:
        replies = [asyncio.create_task(whole(transport, provider.origin)) for _ in range(4)]
        await asyncio.sleep(0)
        pool = transport._pools[provider.origin]
        while not pool._connections:  # noqa: ASYNC110  (nothing tells of a new connection)
            await asyncio.sleep(0)
        (connection,) = pool._connections
        pool_freed = pool.freed
        handed: list[Connection] = []

        class Killing:
            """Closes the connection just after it was handed over, once."""

            ended = staticmethod(pool.ended)

            def freed(self, connection: Connection) -> None:
                pool_freed(connection)
                if not handed:
                    handed.append(connection)
                    connection.connection_lost(None)

        connection.keeper = Killing()
        assert await asyncio.gather(*replies) == [b"ok"] * 4
        assert handed
        assert only(transport, provider.origin) == PoolStats(1, 1, 0)


# --- idle connections -------------------------------------------------------------------------------------------------


class Hands:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.now = monotonic()

    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.now)


async def test_an_idle_connection_expires_when_it_would_be_used() -> None:
    hands = Hands()
    async with raw_provider(answering) as provider, transports(clock=hands.clock(), max_connections=2) as transport:
        await asyncio.gather(*(whole(transport, provider.origin) for _ in range(2)))
        hands.now += 29.9
        await whole(transport, provider.origin)
        assert len(provider.peers) == 2
        hands.now += 30.1
        await whole(transport, provider.origin)
        assert len(provider.peers) == 3
        assert only(transport, provider.origin) == PoolStats(1, 1, 0), "those below it are older still"


async def test_the_sweep_closes_idle_connections_and_forgets_the_origin() -> None:
    hands = Hands()
    async with raw_provider(answering) as provider, transports(clock=hands.clock()) as transport:
        await asyncio.gather(*(whole(transport, provider.origin) for _ in range(3)))
        hands.now += 20
        await whole(transport, provider.origin)
        hands.now += 20
        transport.sweep()
        assert only(transport, provider.origin) == PoolStats(1, 1, 0)
        hands.now += 20
        transport.sweep()
        assert transport.stats() == {}
        await provider.until(lambda: provider.open == 0)
        assert await whole(transport, provider.origin) == b"ok"


async def test_the_sweep_runs_by_itself_as_long_as_there_is_something_to_sweep() -> None:
    async with raw_provider(answering) as provider, transports(idle_expiry_s=0.02) as transport:
        await whole(transport, provider.origin)
        await provider.until(lambda: provider.open == 0)
        async with asyncio.timeout(PLENTY_S):
            while transport._sweeper is not None:  # noqa: ASYNC110  (nothing tells of a sweep)
                await asyncio.sleep(0.01)
        assert transport.stats() == {}


@pytest.mark.parametrize("end", ["closed", "reset", "spoke out of turn"])
async def test_an_idle_connection_that_the_provider_ends_is_dropped_at_once(end: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await go_on.wait()
        if end == "reset":
            peer.reset()
        elif end == "spoke out of turn":
            await peer.send(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
            await peer.gone()

    async with raw_provider(script) as provider, transports() as transport:
        go_on = asyncio.Event()
        await whole(transport, provider.origin)
        assert only(transport, provider.origin) == PoolStats(1, 1, 0)
        go_on.set()
        await provider.until(lambda: provider.open == 0)
        await settled(transport, provider.origin, PoolStats(0, 0, 0))


# --- stale connections ------------------------------------------------------------------------------------------------


def _second_request(end: Script) -> Script:
    """Answers the first request of the first connection, ends its second in a way of its own, and answers all on the others."""
    connections = 0

    async def script(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        if connections > 1:
            await answering(peer)
        await peer.request()
        await peer.send(OK)
        await peer.request()
        await end(peer)

    return script


async def _nothing(peer: Peer) -> None:
    pass


async def _reset(peer: Peer) -> None:
    peer.reset()


async def _one_byte(peer: Peer) -> None:
    await peer.send(b"H")


@pytest.mark.parametrize("end", [_nothing, _reset])
async def test_a_stale_connection_is_replaced_by_a_fresh_one(end: Script) -> None:
    async with raw_provider(_second_request(end)) as provider, transports(max_connections=1) as transport:
        assert await whole(transport, provider.origin) == b"ok"
        assert await whole(transport, provider.origin) == b"ok"
        assert len(provider.peers) == 2
        assert only(transport, provider.origin) == PoolStats(1, 1, 0)


async def test_a_stale_connection_is_replaced_in_its_place_before_others_get_it() -> None:
    async with raw_provider(_second_request(_nothing)) as provider, transports(max_connections=1) as transport:
        await whole(transport, provider.origin)
        assert await asyncio.gather(*(whole(transport, provider.origin) for _ in range(3))) == [b"ok"] * 3
        assert len(provider.peers) == 2


async def test_no_retry_once_a_byte_has_come() -> None:
    async with raw_provider(_second_request(_one_byte)) as provider, transports(max_connections=1) as transport:
        await whole(transport, provider.origin)
        with pytest.raises(ConnectionCut):
            await whole(transport, provider.origin)
        assert len(provider.peers) == 1
        await settled(transport, provider.origin, PoolStats(0, 0, 0))


async def test_no_retry_of_a_fresh_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()

    async with raw_provider(script) as provider, transports(max_connections=1) as transport:
        with pytest.raises(ConnectionCut):
            await whole(transport, provider.origin)
        assert len(provider.peers) == 1
        await settled(transport, provider.origin, PoolStats(0, 0, 0))


async def test_only_one_retry() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if len(provider.peers) == 1:
            await peer.send(OK)
            await peer.request()

    async with raw_provider(script) as provider, transports(max_connections=1) as transport:
        await whole(transport, provider.origin)
        with pytest.raises(ConnectionCut):
            await whole(transport, provider.origin)
        assert len(provider.peers) == 2
        await settled(transport, provider.origin, PoolStats(0, 0, 0))


async def test_no_retry_after_the_time_to_connect() -> None:
    """A provider that takes seconds to die was not a stale connection."""
    async with raw_provider(_second_request(_nothing)) as provider, transports(max_connections=1) as transport:
        await whole(transport, provider.origin)
        now = monotonic()
        with pytest.raises(ConnectionCut):
            await transport.send(provider.origin, HEAD, BODY, connect_until=now - 1, until=now + PLENTY_S)
        assert len(provider.peers) == 1
        await settled(transport, provider.origin, PoolStats(0, 0, 0))


async def test_a_provider_that_is_gone_for_good_is_said_to_be_unreachable() -> None:
    async with transports(max_connections=1) as transport:
        async with raw_provider(_second_request(_nothing)) as provider:
            await whole(transport, provider.origin)
        with pytest.raises(ConnectFailed):
            await whole(transport, provider.origin)
        await settled(transport, provider.origin, PoolStats(0, 0, 0))


# --- the end ----------------------------------------------------------------------------------------------------------


async def test_close_ends_everything_and_refuses_what_comes_later() -> None:
    async def script(peer: Peer) -> None:
        """Idle after an answer, or in the middle of one, or silent: as the request's path says."""
        request = await peer.request()
        if b"/idle" in request:
            await peer.send(OK)
        elif b"/half" in request:
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
        await peer.gone()

    def head(path: bytes) -> bytes:
        return HEAD.replace(b"/v1/chat/completions", path)

    async with raw_provider(script) as provider, transports(max_connections=3) as transport:
        idle, half = await asyncio.gather(*(ask(transport, provider.origin, head(path)) for path in (b"/idle", b"/half")))
        assert await read(idle) == b"ok"
        silent = [asyncio.create_task(ask(transport, provider.origin, head(b"/silent"))) for _ in range(4)]
        await provider.until(lambda: len(provider.peers) == 3)
        assert only(transport, provider.origin) == PoolStats(3, 0, 2)
        await transport.close()
        results = await asyncio.gather(*silent, return_exceptions=True)
        assert [type(result) for result in results] == [ShuttingDown] * 4
        with pytest.raises(ShuttingDown):
            await read(half)
        for origin in (provider.origin, Origin("127.0.0.1", 1, False)):
            with pytest.raises(ShuttingDown):
                await ask(transport, origin)
        await provider.until(lambda: provider.open == 0)
        assert only(transport, provider.origin) == PoolStats(0, 0, 0)
        await transport.close()


async def test_a_connection_that_opens_after_the_close_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    dial = Dialer.dial
    opened, go_on = asyncio.Event(), asyncio.Event()

    async def late(dialer: Dialer, until: float) -> Connection:
        connection = await dial(dialer, until)
        opened.set()
        await go_on.wait()
        return connection

    monkeypatch.setattr(Dialer, "dial", late)
    async with raw_provider(answering) as provider, transports() as transport:
        asked = asyncio.create_task(ask(transport, provider.origin))
        await opened.wait()
        await transport.close()
        go_on.set()
        with pytest.raises(ShuttingDown):
            await asked
        await provider.until(lambda: len(provider.peers) == 1 and provider.open == 0)
        assert only(transport, provider.origin) == PoolStats(0, 0, 0)
