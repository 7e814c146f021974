"""Providers that refuse, hang, cut or will not read: each ends in its own error, in time, with nothing left open."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from time import monotonic

import pytest

from agent_gateway.core.errors import ConnectFailed, ConnectionCut, MalformedReply, NameNotResolved, NoConnectionFree, ProviderTimeout
from agent_gateway.upstream.connection import HELD_MAX_BYTES, WRITE_SLICE_BYTES
from agent_gateway.upstream.dialer import Dialer
from agent_gateway.upstream.transport import Origin, PoolStats, ReadTimeout, Transport
from tests.upstream.raw_provider import BODY, HEAD, OK, PLENTY_S, Peer, Script, answering, ask, raw_provider, read, whole

MEGABYTE = 1 << 20
SHORT_S = 0.02


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    made = Transport(environ={})
    yield made
    assert all(stats.open == stats.idle and stats.waiting == 0 for stats in made.stats().values()), "a place leaked"
    await made.close()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def _deaf_listener() -> Iterator[Origin]:
    """Its queue is full, so the kernel drops every further SYN."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        callers = [socket.socket() for _ in range(4)]
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(listener.getsockname())
        yield Origin("127.0.0.1", listener.getsockname()[1], False)
        for caller in callers:
            caller.close()


# --- connecting -------------------------------------------------------------------------------------------------------


async def test_a_refused_connection(transport: Transport) -> None:
    origin = Origin("127.0.0.1", _free_port(), False)
    with pytest.raises(ConnectFailed) as caught:
        await ask(transport, origin)
    assert type(caught.value) is ConnectFailed
    assert "127.0.0.1" not in caught.value.message
    assert "127.0.0.1" in (caught.value.detail or "")


async def test_no_file_left_for_a_connection_is_no_fault_of_the_provider(transport: Transport) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with raw_provider(answering) as provider:
        next_free = os.dup(0)
        os.close(next_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (next_free, hard))
        try:
            with pytest.raises(NoConnectionFree, match="no connection left") as caught:
                await ask(transport, provider.origin)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert "ulimit -n" in (caught.value.detail or "")
        assert await whole(transport, provider.origin) == b"ok"


@pytest.mark.parametrize("host", ["name.invalid", "a..b", "x" * 70 + ".test"])
async def test_a_name_that_does_not_exist(transport: Transport, host: str) -> None:
    with pytest.raises(NameNotResolved) as caught:
        await ask(transport, Origin(host, 80, False))
    assert host not in caught.value.message
    assert host in (caught.value.detail or "")


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels answer when a listener's queue is full")
async def test_a_host_that_does_not_answer_the_connection(transport: Transport) -> None:
    with _deaf_listener() as origin:
        with pytest.raises(ProviderTimeout) as caught:
            await ask(transport, origin, within_s=SHORT_S)
        assert caught.value.kind == "connect"
        connecting = asyncio.create_task(ask(transport, origin))
        await asyncio.sleep(SHORT_S)
        assert transport.stats()[origin] == PoolStats(1, 0, 0)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting


async def test_a_deadline_that_is_already_past_connects_to_nothing(transport: Transport) -> None:
    async with raw_provider(answering) as provider:
        with pytest.raises(ProviderTimeout):
            await ask(transport, provider.origin, within_s=-1)


def _resolving(monkeypatch: pytest.MonkeyPatch, rows: list[tuple[socket.AddressFamily, str]]) -> list[str]:
    """Every name has these addresses; returns the names asked for."""
    asked: list[str] = []

    async def look_up(self: Dialer) -> list[tuple[socket.AddressFamily, str]]:
        asked.append(self._target.host)
        await asyncio.sleep(0)
        self._lookup = None
        self._addresses, self._addresses_until = rows, monotonic() + 10
        return rows

    monkeypatch.setattr(Dialer, "_look_up", look_up)
    return asked


async def test_every_address_of_a_name_is_tried(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _resolving(monkeypatch, [(socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.2"), (socket.AF_INET, "127.0.0.1")])
    async with raw_provider(answering) as provider:
        origin = Origin("provider.test", provider.origin.port, False)
        replies = await asyncio.gather(*(ask(transport, origin) for _ in range(3)))
        assert [await read(reply) for reply in replies] == [b"ok"] * 3
    assert asked == ["provider.test"], "connections opened together share one look-up"


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels answer when a listener's queue is full")
async def test_an_address_that_swallows_packets_leaves_time_for_the_next(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    with _deaf_listener() as deaf:
        async with raw_provider(answering, host="127.0.0.2", port=deaf.port):
            _resolving(monkeypatch, [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "127.0.0.2")])
            until = monotonic() + 1
            origin = Origin("provider.test", deaf.port, False)
            reply = await transport.send(origin, HEAD, BODY, connect_until=until, until=until + PLENTY_S)
            assert await read(reply) == b"ok"
            assert monotonic() < until


async def test_addresses_are_asked_for_again_after_a_failure(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _resolving(monkeypatch, [(socket.AF_INET, "127.0.0.1")])
    origin = Origin("provider.test", _free_port(), False)
    for _ in range(2):
        with pytest.raises(ConnectFailed):
            await ask(transport, origin)
    assert len(asked) == 2


async def test_sockets_are_tuned(transport: Transport) -> None:
    async with raw_provider(answering) as provider:
        await whole(transport, provider.origin)
        (connection,) = transport._pools[provider.origin]._connections
        assert connection._transport is not None
        sock: socket.socket = connection._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


# --- hanging and cutting ----------------------------------------------------------------------------------------------


def _says(data: bytes, then: Script) -> Script:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(data)
        await then(peer)

    return script


async def _hang(peer: Peer) -> None:
    await peer.gone()


async def _close(peer: Peer) -> None:
    peer.close()


HALF = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"


@pytest.mark.parametrize("came", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_a_provider_that_hangs_before_the_headers(transport: Transport, came: bytes) -> None:
    async with raw_provider(_says(came, _hang)) as provider:
        with pytest.raises(ReadTimeout):
            await ask(transport, provider.origin, within_s=SHORT_S, connect_s=PLENTY_S)
        await provider.until(lambda: provider.open == 0)


async def test_a_provider_that_hangs_in_the_body(transport: Transport) -> None:
    async with raw_provider(_says(HALF, _hang)) as provider:
        reply = await ask(transport, provider.origin)
        assert await reply.next(monotonic() + PLENTY_S) == b"hello"
        with pytest.raises(ReadTimeout):
            await reply.next(monotonic() + SHORT_S)
        with pytest.raises(ReadTimeout):
            await reply.read(monotonic() + SHORT_S, 100)
        assert provider.open == 1
        reply.close()
        await provider.until(lambda: provider.open == 0)


async def test_a_provider_that_cuts_the_body(transport: Transport) -> None:
    async with raw_provider(_says(HALF, _close)) as provider:
        reply = await ask(transport, provider.origin)
        assert await reply.next(monotonic() + PLENTY_S) == b"hello"
        with pytest.raises(ConnectionCut):
            await reply.next(monotonic() + PLENTY_S)
        reply = await ask(transport, provider.origin)
        with pytest.raises(ConnectionCut):
            await read(reply)


async def test_a_provider_that_talks_nonsense(transport: Transport) -> None:
    async with raw_provider(_says(b"220 smtp.provider.test ESMTP\r\n", _hang)) as provider:
        with pytest.raises(MalformedReply) as caught:
            await ask(transport, provider.origin)
        assert "smtp" not in caught.value.message
        await provider.until(lambda: provider.open == 0)


# --- backpressure, both ways ------------------------------------------------------------------------------------------


async def test_a_slow_consumer_holds_the_provider_back(transport: Transport) -> None:
    total = 64 * MEGABYTE
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        for _ in range(64):
            await peer.send(b"a" * MEGABYTE)
            sent += 1
        await peer.gone()

    async with raw_provider(script) as provider:
        reply = await ask(transport, provider.origin)
        before = -1
        while before != sent or sent == 0:  # until the provider is stuck
            before = sent
            await asyncio.sleep(0.05)
        assert 0 < sent < 64, "the provider waits"
        assert len(reply.body) < HELD_MAX_BYTES + MEGABYTE
        received = 0
        while data := await reply.next(monotonic() + PLENTY_S):
            received += len(data)
        assert received == total


async def test_a_provider_that_does_not_read_is_under_the_deadline(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await done.wait()

    done = asyncio.Event()
    async with raw_provider(script) as provider:
        with pytest.raises(ReadTimeout):
            await ask(transport, provider.origin, HEAD, b"a" * 64 * MEGABYTE, within_s=0.2, connect_s=PLENTY_S)
        done.set()


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, WRITE_SLICE_BYTES, 3 * WRITE_SLICE_BYTES + 1])
async def test_a_request_of_any_size_arrives_whole(transport: Transport, size: int) -> None:
    body = bytes(index % 251 for index in range(size))
    head = b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % size
    heard: list[bytes] = []

    async def script(peer: Peer) -> None:
        for _ in range(2):
            heard.append(await peer.request())
            await peer.send(OK)

    async with raw_provider(script) as provider:
        for _ in range(2):
            assert await read(await ask(transport, provider.origin, head, body)) == b"ok"
        assert len(provider.peers) == 1
    assert heard == [head + body] * 2


@pytest.mark.parametrize("reply", [b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno", b"HTTP/1.1 413 Too Large\r\n\r\nno"])
async def test_an_early_refusal_ends_the_upload(transport: Transport, reply: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await peer.send(reply)
        if b"length" not in reply:
            peer.writer.write_eof()
        await done.wait()

    done = asyncio.Event()
    async with raw_provider(script) as provider:
        early = await ask(transport, provider.origin, HEAD, b"a" * 64 * MEGABYTE)
        assert (early.status, await read(early)) == (413, b"no")
        assert transport.stats()[provider.origin].open == 0, "half a request was sent on it"
        done.set()


async def test_an_early_answer_does_not_end_the_upload(transport: Transport) -> None:
    """A provider may say 200 before it has read everything; it still needs the rest."""
    size = 8 * MEGABYTE

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n")
        assert len(await peer.reader.readexactly(size)) == size
        await peer.send(b"ok")
        await peer.gone()

    async with raw_provider(script) as provider:
        assert await read(await ask(transport, provider.origin, HEAD, b"a" * size)) == b"ok"
        assert transport.stats()[provider.origin] == PoolStats(1, 1, 0)


# --- cancellation -----------------------------------------------------------------------------------------------------


async def _slowly(peer: Peer) -> None:
    """Everything in small steps, so that there is much to be cancelled in."""
    while True:
        await peer.request()
        for index in range(0, len(HALF), 8):
            await peer.send(HALF[index : index + 8])
            await asyncio.sleep(0)
        await peer.send(b"0\r\n\r\n")


async def _take(transport: Transport, origin: Origin) -> None:
    reply = await ask(transport, origin)
    while await reply.next(monotonic() + PLENTY_S):
        pass


async def _take_whole(transport: Transport, origin: Origin) -> None:
    await whole(transport, origin)


async def _upload(transport: Transport, origin: Origin) -> None:
    size = 2 * MEGABYTE
    head = b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % size
    await read(await ask(transport, origin, head, b"a" * size))


@pytest.mark.parametrize("warm", [False, True], ids=["fresh", "kept"])
@pytest.mark.parametrize("do", [_take, _take_whole, _upload])
async def test_cancellation_after_any_number_of_steps_leaves_nothing_behind(
    do: Callable[[Transport, Origin], Awaitable[None]], warm: bool
) -> None:
    async with raw_provider(_slowly) as provider:
        steps = 0
        while True:
            transport = Transport(environ={}, max_connections=1)
            if warm:
                await whole(transport, provider.origin)
            task = asyncio.ensure_future(do(transport, provider.origin))
            for _ in range(steps):
                await asyncio.sleep(0)
            finished = task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert finished or task.cancelled()
            stats = transport.stats().get(provider.origin, PoolStats(0, 0, 0))
            assert stats == PoolStats(stats.idle, stats.idle, 0), f"cancelled after {steps} steps"
            await whole(transport, provider.origin)
            await transport.close()
            await provider.until(lambda: provider.open == 0)
            if finished:
                break
            steps += 1
        assert steps > 3


@pytest.mark.parametrize("came", [b"", b"HTTP/1.1 200 OK\r\n", HALF])
async def test_cancellation_closes_the_providers_connection_at_once(transport: Transport, came: bytes) -> None:
    async with raw_provider(_says(came, _hang)) as provider:
        task = asyncio.create_task(_take(transport, provider.origin))
        await provider.until(lambda: len(provider.peers) == 1)
        await asyncio.sleep(SHORT_S)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        await provider.until(lambda: provider.open == 0)
