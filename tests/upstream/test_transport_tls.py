"""TLS to the provider: verified against a CA and a name, announced by SNI, and never taken for anything else when it fails."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from time import monotonic

import pytest
import trustme

from agent_gateway.core.errors import ConnectionCut, MalformedReply, ProviderTimeout, TlsFailed
from agent_gateway.upstream.dialer import Dialer
from agent_gateway.upstream.transport import Origin, PoolStats, ReadTimeout, Transport
from tests.upstream.raw_provider import OK, PLENTY_S, Peer, answering, ask, raw_provider, read, whole

NAME = "provider.test"
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def transport(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Transport]:
    """Trusts the test's CA, and finds every name on loopback."""
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    _all_names_are_here(monkeypatch)
    made = Transport(environ={}, ssl_context=trusting)
    yield made
    assert all(stats.open == stats.idle for stats in made.stats().values()), "a place leaked"
    await made.close()


def _all_names_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    look_up = Dialer._look_up

    async def here(self: Dialer) -> object:
        self._target = Origin("127.0.0.1", self._target.port, self._target.tls)
        return await look_up(self)

    monkeypatch.setattr(Dialer, "_look_up", here)


def _server(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


async def test_a_trusted_provider_is_asked_for_by_its_name(transport: Transport, authority: trustme.CA) -> None:
    context = _server(authority.issue_cert(NAME))
    names: list[str | None] = []

    def note(_: object, name: str | None, __: object) -> None:
        names.append(name)

    context.sni_callback = note
    async with raw_provider(answering, context) as provider:
        origin = Origin(NAME, provider.origin.port, True)
        for _ in range(3):
            assert await whole(transport, origin) == b"ok"
        assert len(provider.peers) == 1
    assert names == [NAME]


async def test_an_address_is_verified_as_such(transport: Transport, authority: trustme.CA) -> None:
    async with raw_provider(answering, _server(authority.issue_cert("127.0.0.1"))) as provider:
        assert await whole(transport, provider.origin) == b"ok"


async def test_a_certificate_for_another_name(transport: Transport, authority: trustme.CA) -> None:
    async with raw_provider(answering, _server(authority.issue_cert("other.test"))) as provider:
        await _is_refused(transport, Origin(NAME, provider.origin.port, True), "mismatch")


async def test_a_certificate_of_an_unknown_authority(transport: Transport) -> None:
    async with raw_provider(answering, _server(trustme.CA().issue_cert(NAME))) as provider:
        await _is_refused(transport, Origin(NAME, provider.origin.port, True), "verify failed")


async def test_a_certificate_that_has_expired(transport: Transport, authority: trustme.CA) -> None:
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    expired = authority.issue_cert(NAME, not_before=yesterday - datetime.timedelta(days=9), not_after=yesterday)
    async with raw_provider(answering, _server(expired)) as provider:
        await _is_refused(transport, Origin(NAME, provider.origin.port, True), "expired")


async def _is_refused(transport: Transport, origin: Origin, why: str) -> None:
    with pytest.raises(TlsFailed) as caught:
        await ask(transport, origin)
    assert why in (caught.value.detail or "").lower()
    assert NAME not in caught.value.message


async def test_the_default_context_verifies_and_is_made_once(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    _all_names_are_here(monkeypatch)
    made: list[ssl.SSLContext] = []
    create = ssl.create_default_context

    def counted() -> ssl.SSLContext:
        made.append(create())
        return made[-1]

    monkeypatch.setattr(ssl, "create_default_context", counted)
    transport = Transport(environ={})
    assert made == [], "it is slow, and may never be needed"
    async with raw_provider(answering, _server(authority.issue_cert(NAME))) as provider:
        for _ in range(2):
            await _is_refused(transport, Origin(NAME, provider.origin.port, True), "verify failed")
    await transport.close()
    assert [context.verify_mode for context in made] == [ssl.CERT_REQUIRED]
    assert made[0].check_hostname


async def test_a_context_that_cannot_be_made_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> ssl.SSLContext:
        raise FileNotFoundError("SSL_CERT_FILE")

    async def script(peer: Peer) -> None:
        await peer.gone()

    monkeypatch.setattr(ssl, "create_default_context", broken)
    transport = Transport(environ={})
    async with raw_provider(script) as provider:
        origin = Origin("127.0.0.1", provider.origin.port, True)
        await _is_refused(transport, origin, "ssl_cert_file")
        await provider.until(lambda: len(provider.peers) == 1 and provider.open == 0)
        assert transport.stats()[origin] == PoolStats(0, 0, 0)
    await transport.close()


async def test_plain_http_where_tls_was_expected(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with raw_provider(script) as provider:
        await _is_refused(transport, Origin(NAME, provider.origin.port, True), "")


async def test_tls_where_plain_http_was_expected(transport: Transport, authority: trustme.CA) -> None:
    async with raw_provider(answering, _server(authority.issue_cert(NAME))) as provider:
        with pytest.raises((MalformedReply, ConnectionCut)):
            await ask(transport, Origin(NAME, provider.origin.port, False))


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_connection_that_ends_in_the_handshake(transport: Transport, end: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        if end == "reset":
            peer.reset()

    async with raw_provider(script) as provider:
        await _is_refused(transport, Origin(NAME, provider.origin.port, True), "")


async def test_a_handshake_that_hangs(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.gone()

    async with raw_provider(script) as provider:
        origin = Origin(NAME, provider.origin.port, True)
        with pytest.raises(ProviderTimeout) as caught:
            await ask(transport, origin, within_s=0.05)
        assert caught.value.kind == "connect"
        await provider.until(lambda: provider.open == 0)
        waiting = asyncio.create_task(ask(transport, origin))
        await provider.until(lambda: provider.open == 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await provider.until(lambda: provider.open == 0)


async def test_cancellation_in_any_step_of_opening_leaves_nothing_behind(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    _all_names_are_here(monkeypatch)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with raw_provider(answering, _server(authority.issue_cert(NAME))) as provider:
        origin = Origin(NAME, provider.origin.port, True)
        steps = 0
        finished = False
        while not finished:
            transport = Transport(environ={}, ssl_context=trusting, max_connections=1)
            task = asyncio.create_task(whole(transport, origin))
            for _ in range(steps):
                await asyncio.sleep(0)
            finished = task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            stats = transport.stats().get(origin, PoolStats(0, 0, 0))
            assert stats == PoolStats(stats.idle, stats.idle, 0), f"cancelled after {steps} steps"
            await transport.close()
            await provider.until(lambda: provider.open == 0)
            steps += 1
        assert steps > 5


async def test_a_stale_tls_connection_is_replaced(transport: Transport, authority: trustme.CA) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        if len(provider.peers) == 1:
            await peer.request()
        else:
            await answering(peer)

    async with raw_provider(script, _server(authority.issue_cert(NAME))) as provider:
        origin = Origin(NAME, provider.origin.port, True)
        for _ in range(3):
            assert await whole(transport, origin) == b"ok"
        assert len(provider.peers) == 2


async def test_backpressure_reaches_through_tls(transport: Transport, authority: trustme.CA) -> None:
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (32 * MEGABYTE))
        for _ in range(32):
            await peer.send(b"a" * MEGABYTE)
            sent += 1
        await peer.gone()

    async with raw_provider(script, _server(authority.issue_cert(NAME))) as provider:
        reply = await ask(transport, Origin(NAME, provider.origin.port, True))
        before = -1
        while before != sent or sent == 0:
            before = sent
            await asyncio.sleep(0.1)
        assert 0 < sent < 32
        assert len(await read(reply, 32 * MEGABYTE)) == 32 * MEGABYTE


async def test_an_upload_through_tls_arrives_whole_or_is_under_its_deadline(transport: Transport, authority: trustme.CA) -> None:
    size = 4 * MEGABYTE
    head = b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % size

    async def script(peer: Peer) -> None:
        assert len(await peer.request()) == len(head) + size
        await peer.send(OK)
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await done.wait()

    done = asyncio.Event()
    async with raw_provider(script, _server(authority.issue_cert(NAME))) as provider:
        origin = Origin(NAME, provider.origin.port, True)
        assert await read(await ask(transport, origin, head, b"a" * size)) == b"ok"
        with pytest.raises(ReadTimeout):
            await transport.send(origin, head, b"a" * 16 * MEGABYTE, connect_until=monotonic() + PLENTY_S, until=monotonic() + 0.2)
        done.set()
