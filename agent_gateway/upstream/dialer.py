"""Opens connections to one origin: name, TCP, proxy, TLS. Every failure comes out as one of four errors, all before `until`."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from time import monotonic

from agent_gateway.core.errors import (
    ConnectFailed,
    ConnectionCut,
    MalformedReply,
    NameNotResolved,
    NoConnectionFree,
    ProviderTimeout,
    TlsFailed,
)
from agent_gateway.upstream.connection import Connection
from agent_gateway.upstream.origin import Origin
from agent_gateway.upstream.proxy import Proxy
from agent_gateway.upstream.reply import ReadTimeout

#: Addresses of a name are used this long without asking again: a burst of connections is one look-up, and DNS fail-over works.
#: A failure to connect forgets them at once (s).
ADDRESSES_FRESH_S = 10.0
#: Addresses of a name that are tried.
ADDRESSES_MAX = 8
#: A model may think for minutes without a byte; middleboxes forget quiet connections after as little as one (s).
KEEPALIVE_AFTER_S = 45

_UNREACHABLE = "The model provider could not be reached."
#: It is we who have none left: nothing is said against the provider.
_NO_FILES = (errno.EMFILE, errno.ENFILE)

_Address = tuple[socket.AddressFamily, str]


class Dialer:
    """`tls_context` is called when the first TLS connection is opened."""

    __slots__ = ("_addresses", "_addresses_until", "_header_max_bytes", "_lookup", "_origin", "_proxy", "_target", "_tls_context")

    def __init__(self, origin: Origin, proxy: Proxy | None, tls_context: Callable[[], ssl.SSLContext], header_max_bytes: int) -> None:
        self._origin = origin
        self._proxy = proxy
        self._target = proxy.address if proxy else origin
        self._tls_context = tls_context
        self._header_max_bytes = header_max_bytes
        self._addresses: list[_Address] = []
        self._addresses_until = 0.0
        self._lookup: asyncio.Task[list[_Address] | OSError | UnicodeError] | None = None

    async def dial(self, until: float) -> Connection:
        """Raises `NameNotResolved`, `TlsFailed`, `ConnectFailed`, `NoConnectionFree`, or `ProviderTimeout` of kind `connect`."""
        connection: Connection | None = None
        scope = asyncio.timeout_at(until)
        try:
            async with scope:
                connection = await self._connect(await self._resolve(), until)
                if self._proxy is not None:
                    await self._open_tunnel(connection, self._proxy, until)
                if self._origin.tls:
                    await self._secure(connection, self._origin.host)
        except BaseException as error:
            if connection is not None:
                connection.abort()
            if isinstance(error, ReadTimeout) or (isinstance(error, TimeoutError) and scope.expired()):
                raise ProviderTimeout(
                    "The model provider could not be connected to in time.", kind="connect", detail=self._target.authority
                ) from None
            raise
        return connection

    async def _resolve(self) -> list[_Address]:
        if monotonic() < self._addresses_until:
            return self._addresses
        if self._lookup is None:
            self._lookup = asyncio.create_task(self._look_up())
        found = await asyncio.shield(self._lookup)  # shared: one caller's cancellation is not the others'
        if isinstance(found, Exception):
            detail = f"{self._target.host}: {found}"
            raise NameNotResolved("The model provider's host name could not be resolved.", detail=detail) from found
        return found

    async def _look_up(self) -> list[_Address] | OSError | UnicodeError:
        """An error is returned, not raised: nobody may be left to hear of it."""
        try:
            rows = await asyncio.get_running_loop().getaddrinfo(self._target.host, self._target.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            return error
        finally:
            self._lookup = None
        self._addresses = [(row[0], str(row[4][0])) for row in rows[:ADDRESSES_MAX]]
        self._addresses_until = monotonic() + ADDRESSES_FRESH_S
        return self._addresses

    async def _connect(self, addresses: list[_Address], until: float) -> Connection:
        """Tries each address in turn, with a fair share of the time, so that one which swallows packets does not use it up."""
        loop = asyncio.get_running_loop()
        failures: list[str] = []
        for position, (family, address) in enumerate(addresses):
            connection = Connection(loop, self._header_max_bytes)
            now = monotonic()
            share = None if position == len(addresses) - 1 else now + (until - now) / (len(addresses) - position)
            try:
                async with asyncio.timeout_at(share):
                    transport, _ = await loop.create_connection(_given(connection), address, self._target.port, family=family)
            except OSError as error:  # TimeoutError is one
                connection.abort()
                if error.errno in _NO_FILES:
                    detail = f"{error.strerror}: raise the limit on open files (`ulimit -n`)"
                    raise NoConnectionFree("The gateway has no connection left.", detail=detail, retry_after_s=1) from error
                failures.append(f"{address}: {str(error) or 'timed out'}")
            except BaseException:
                connection.abort()
                raise
            else:
                _probe_when_quiet(transport)
                if position:
                    self._addresses = [addresses[position], *addresses[:position], *addresses[position + 1 :]]
                return connection
        self._addresses_until = 0.0
        raise ConnectFailed(_UNREACHABLE, detail=f"{self._target.authority}: {'; '.join(failures)}")

    async def _open_tunnel(self, connection: Connection, proxy: Proxy, until: float) -> None:
        if proxy.address.tls:
            await self._secure(connection, proxy.address.host)
        try:
            status = await connection.tunnel(proxy.connect_head(self._origin), until)
        except (ConnectionCut, MalformedReply) as error:
            raise ConnectFailed(_UNREACHABLE, detail=f"proxy {proxy.address.authority}: {error.detail}") from error
        if status >= 300:
            raise ConnectFailed(_UNREACHABLE, detail=f"proxy {proxy.address.authority} answered {status} to CONNECT")

    async def _secure(self, connection: Connection, host: str) -> None:
        try:
            await connection.start_tls(self._tls_context(), host)
        except OSError as error:
            raise TlsFailed("No trusted TLS connection to the model provider was made.", detail=f"{host}: {error}") from error


def _given(connection: Connection) -> Callable[[], Connection]:
    return lambda: connection


def _probe_when_quiet(transport: asyncio.BaseTransport) -> None:
    """TCP keep-alive. (TCP_NODELAY is the event loop's default.)"""
    sock: socket.socket = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):  # not known under these names on macOS, whose own defaults then hold
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), KEEPALIVE_AFTER_S)
