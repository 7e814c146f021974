"""Through a proxy by CONNECT, to http and https origins: the proxy resolves the name, and its failures are told apart."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from time import monotonic

import pytest
import trustme

from agent_gateway.core.errors import ConnectFailed, NameNotResolved, ProviderTimeout, TlsFailed
from agent_gateway.upstream.transport import Origin, PoolStats, Transport
from tests.upstream.raw_provider import Peer, RawProvider, Script, answering, ask, raw_provider, whole

NAME = "provider.test"  # known to nobody but the proxy


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def _server(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def _trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def _proxy_to(port: int, heads: list[bytes], answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> Script:
    """Leads every CONNECT to `port` on loopback."""

    async def script(peer: Peer) -> None:
        heads.append(await peer.reader.readuntil(b"\r\n\r\n"))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await peer.send(answer)
        up = asyncio.create_task(_copy(peer.reader, writer))
        await _copy(reader, peer.writer)
        await up

    return script


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


def _says(answer: bytes, then_close: bool) -> Script:
    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(answer)
        if not then_close:
            await peer.gone()

    return script


def _environ(proxy: RawProvider, scheme: str = "http", userinfo: str = "", host: str = "127.0.0.1") -> dict[str, str]:
    url = f"{scheme}://{userinfo}{host}:{proxy.origin.port}"
    return {"HTTPS_PROXY": url, "HTTP_PROXY": url}


@pytest.mark.parametrize("tls", [False, True])
async def test_an_origin_behind_a_proxy(authority: trustme.CA, tls: bool) -> None:
    heads: list[bytes] = []
    server = _server(authority, NAME) if tls else None
    async with raw_provider(answering, server) as provider, raw_provider(_proxy_to(provider.origin.port, heads)) as proxy:
        transport = Transport(environ=_environ(proxy, userinfo="me:p%40ss@"), ssl_context=_trusting(authority))
        origin = Origin(NAME, 443 if tls else 80, tls)
        for _ in range(3):
            assert await whole(transport, origin) == b"ok"
        assert transport.stats() == {origin: PoolStats(1, 1, 0)}
        await transport.close()
    target = f"{NAME}:{443 if tls else 80}".encode()
    assert heads == [b"CONNECT %b HTTP/1.1\r\nhost: %b\r\nproxy-authorization: Basic bWU6cEBzcw==\r\n\r\n" % (target, target)]


async def test_tls_to_the_proxy_and_inside_it_to_the_origin(authority: trustme.CA) -> None:
    heads: list[bytes] = []
    async with (
        raw_provider(answering, _server(authority, NAME)) as provider,
        raw_provider(_proxy_to(provider.origin.port, heads), _server(authority, "127.0.0.1")) as proxy,
    ):
        transport = Transport(environ=_environ(proxy, "https"), ssl_context=_trusting(authority))
        assert await whole(transport, Origin(NAME, 443, True)) == b"ok"
        await transport.close()
    assert len(heads) == 1


async def test_the_origins_certificate_is_verified_through_the_proxy(authority: trustme.CA) -> None:
    async with (
        raw_provider(answering, _server(authority, "other.test")) as provider,
        raw_provider(_proxy_to(provider.origin.port, [])) as proxy,
    ):
        transport = Transport(environ=_environ(proxy), ssl_context=_trusting(authority))
        await _fails(transport, Origin(NAME, 443, True), TlsFailed)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\ncontent-length: 2\r\n\r\nno", "407"),
        (b"HTTP/1.1 503 No\r\n\r\n", "503"),
        (b"HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\n\r\n", "302"),
        (b"HTTP/1.0 200 OK\r\n\r\nbytes nobody asked for", "bytes follow"),
        (b"SSH-2.0-garbage\r\n", ""),
        (b"", ""),
        (b"HTTP/1.1 200 O", ""),
    ],
)
@pytest.mark.parametrize("tls", [False, True])
async def test_a_proxy_that_opens_no_tunnel(answer: bytes, said: str, tls: bool) -> None:
    async with raw_provider(_says(answer, then_close=True)) as proxy:
        transport = Transport(environ=_environ(proxy, userinfo="me:secret@"))
        error = await _fails(transport, Origin(NAME, 443, tls), ConnectFailed)
        assert type(error) is ConnectFailed
        assert said in (error.detail or "")
        assert "secret" not in f"{error.message} {error.detail}"
        await proxy.until(lambda: proxy.open == 0)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_a_proxy_that_hangs(answer: bytes) -> None:
    async with raw_provider(_says(answer, then_close=False)) as proxy:
        transport = Transport(environ=_environ(proxy))
        error = await _fails(transport, Origin(NAME, 443, True), ProviderTimeout, within_s=0.05)
        assert isinstance(error, ProviderTimeout)
        assert error.kind == "connect"
        await proxy.until(lambda: proxy.open == 0)


async def test_cancellation_while_the_proxy_hangs() -> None:
    async with raw_provider(_says(b"", then_close=False)) as proxy:
        transport = Transport(environ=_environ(proxy))
        waiting = asyncio.create_task(ask(transport, Origin(NAME, 443, True)))
        await proxy.until(lambda: proxy.open == 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await proxy.until(lambda: proxy.open == 0)
        assert all(stats.open == 0 for stats in transport.stats().values())
        await transport.close()


@pytest.mark.parametrize("status_line", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 204 No Content\r\n"])
@pytest.mark.parametrize("header", [b"", b"content-length: 0\r\n", b"via: squid\r\nproxy-agent: x\r\n"])
async def test_a_tunnel_is_open_whatever_the_proxy_puts_beside_the_status(status_line: bytes, header: bytes) -> None:
    async with (
        raw_provider(answering) as provider,
        raw_provider(_proxy_to(provider.origin.port, [], status_line + header + b"\r\n")) as proxy,
    ):
        transport = Transport(environ=_environ(proxy))
        for _ in range(2):
            assert await whole(transport, Origin(NAME, 80, False)) == b"ok"
        assert len(proxy.peers) == 1
        await transport.close()


async def test_a_proxy_whose_name_does_not_exist() -> None:
    transport = Transport(environ={"HTTPS_PROXY": "http://proxy.invalid:3128"})
    await _fails(transport, Origin(NAME, 443, True), NameNotResolved)


@pytest.mark.parametrize(("no_proxy", "proxy_loopback", "proxied"), [("", False, 0), ("", True, 1), ("127.0.0.0/8", True, 0)])
async def test_loopback_is_reached_directly_unless_told_otherwise(no_proxy: str, proxy_loopback: bool, proxied: int) -> None:
    heads: list[bytes] = []
    async with raw_provider(answering) as provider, raw_provider(_proxy_to(provider.origin.port, heads)) as proxy:
        transport = Transport(environ={**_environ(proxy), "NO_PROXY": no_proxy}, proxy_loopback=proxy_loopback)
        assert await whole(transport, provider.origin) == b"ok"
        assert len(heads) == proxied
        await transport.close()


async def _fails(transport: Transport, origin: Origin, kind: type[Exception], within_s: float = 20.0) -> ConnectFailed | ProviderTimeout:
    before = monotonic()
    with pytest.raises(kind) as caught:
        await ask(transport, origin, within_s=within_s)
    assert monotonic() - before < 10
    assert all(stats.open == 0 for stats in transport.stats().values()), "a place leaked"
    await transport.close()
    assert isinstance(caught.value, ConnectFailed | ProviderTimeout)
    assert NAME not in caught.value.message
    return caught.value
