"""Whatever a provider sends, whenever a client leaves: an answer or an error of ours, in time, and a pool that counts right."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import pairwise
from random import Random
from time import monotonic

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_gateway.core.errors import ConnectionCut, GatewayError, MalformedReply
from agent_gateway.upstream.transport import Origin, PoolStats, ReadTimeout, Transport
from tests.upstream.raw_provider import HEAD, OK, PLENTY_S, Peer, answering, raw_provider, whole

TEMPLATES = [
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\nhello, world",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n7;a=b\r\n, world\r\n0\r\nx-sum: 1\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nx-a: b\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 503 No\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good reply with a few bytes replaced, inserted, removed or repeated."""
    reply = bytearray(draw(st.sampled_from(TEMPLATES)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(reply)))
        upto = min(len(reply), at + draw(st.integers(0, 6)))
        reply[at:upto] = draw(st.one_of(st.binary(max_size=4), st.just(bytes(reply[at:upto]) * 2), st.just(b"\r\n"), st.just(b":")))
    return bytes(reply)


replies = st.one_of(mutated(), st.lists(mutated(), min_size=2, max_size=3).map(b"".join), st.binary(max_size=200))
ends = st.sampled_from(["close", "reset", "hang"])


@settings(max_examples=250, deadline=None)
@given(reply=replies, cuts=st.lists(st.integers(0, 200), max_size=4), end=ends, whole_body=st.booleans())
async def test_any_bytes_end_in_an_answer_or_an_error_of_ours(reply: bytes, cuts: list[int], end: str, whole_body: bool) -> None:
    edges = [0, *sorted(min(cut, len(reply)) for cut in cuts), len(reply)]
    pieces = [reply[start:stop] for start, stop in pairwise(edges)]

    async def script(peer: Peer) -> None:
        if len(provider.peers) > 1:
            await answering(peer)
        await peer.request()
        for piece in pieces:
            await peer.send(piece)
            await asyncio.sleep(0)
        if end == "hang":
            await over.wait()
        elif end == "reset":
            peer.reset()

    over = asyncio.Event()
    transport = Transport(environ={}, max_connections=1)
    async with raw_provider(script) as provider:
        until = monotonic() + (0.01 if end == "hang" else PLENTY_S)
        try:
            received = await transport.send(provider.origin, HEAD, b"{}", connect_until=monotonic() + PLENTY_S, until=until)
            try:
                if whole_body:
                    await received.read(until, 1000)
                else:
                    while await received.next(until):
                        pass
            finally:
                received.close()
        except ReadTimeout:
            assert end == "hang"
        except (ConnectionCut, MalformedReply):
            pass
        stats = transport.stats()[provider.origin]
        assert stats in (PoolStats(0, 0, 0), PoolStats(1, 1, 0))
        over.set()
        async with asyncio.timeout(PLENTY_S):  # the provider closes; before that, what it sent too much would answer the next
            while transport.stats()[provider.origin].open:  # noqa: ASYNC110  (nothing tells of a closed connection)
                await asyncio.sleep(0)
        assert await whole(transport, provider.origin) == b"ok", "the place is free for the next"
        await transport.close()


OUTCOMES = {
    b"/ok": (OK, "keep"),
    b"/chunked": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "keep"),
    b"/last": (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", "end"),
    b"/until-end": (b"HTTP/1.1 200 OK\r\n\r\nok", "end"),
    b"/stale": (b"", "end"),
    b"/cut": (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", "end"),
    b"/garbage": (b"\0\1\2\3", "end"),
    b"/surplus": (OK + b"HTTP/1.1 200 OK\r\n", "end"),
    b"/hang": (b"", "hang"),
    b"/half": (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", "hang"),
}


async def _play(peer: Peer) -> None:
    while True:
        request = await peer.request()
        reply, then = OUTCOMES[request.split(b" ")[1]]
        await peer.send(reply)
        if then == "hang":
            await peer.gone()
        if then != "keep":
            return


async def _visit(transport: Transport, origin: Origin, path: bytes, within_s: float = 0.4) -> bytes:
    until = monotonic() + within_s
    head = HEAD.replace(b"/v1/chat/completions", path)
    reply = await transport.send(origin, head, b"{}", connect_until=until, until=until)
    try:
        return await reply.read(until, 100)
    finally:
        reply.close()


async def _crowd(transport: Transport, origin: Origin, random: Random) -> dict[bytes, int]:
    """150 visitors, some of whom leave early. How often each path was answered."""
    visits: list[tuple[bytes, asyncio.Task[bytes]]] = []
    for _ in range(150):
        path = random.choice(list(OUTCOMES))
        visits.append((path, asyncio.create_task(_visit(transport, origin, path))))
        for _ in range(random.randrange(4)):
            await asyncio.sleep(0)
        if random.random() < 0.3:
            random.choice(visits)[1].cancel()
    answered = dict.fromkeys(OUTCOMES, 0)
    for path, visit in visits:
        with suppress(GatewayError, ReadTimeout, asyncio.CancelledError):
            assert await visit == b"ok"
            answered[path] += 1
    return answered


@pytest.mark.parametrize("seed", range(5))
async def test_a_crowd_that_comes_and_leaves_at_random_leaves_the_pool_as_it_should_be(seed: int) -> None:
    transport = Transport(environ={}, max_connections=7)
    async with raw_provider(_play) as provider:
        answered = await _crowd(transport, provider.origin, Random(seed))
        assert {path for path, count in answered.items() if count} <= {b"/ok", b"/chunked", b"/last", b"/until-end", b"/surplus"}
        assert answered[b"/ok"]
        stats = transport.stats()[provider.origin]
        assert stats == PoolStats(stats.idle, stats.idle, 0)
        await provider.until(lambda: provider.open == stats.open)
        bodies = await asyncio.gather(*(_visit(transport, provider.origin, b"/ok", PLENTY_S) for _ in range(50)))
        assert bodies == [b"ok"] * 50
        await transport.close()
