"""Our HTTP/1.1 client: keep-alive connections to each provider, a bound on their number, and one call, `send`.

Promise: whatever happens to a request, also cancellation, its connection is then free for the next one, or closed and uncounted.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from agent_gateway.core.clock import SYSTEM_CLOCK, Clock
from agent_gateway.core.errors import ConnectionCut, NoConnectionFree, ProviderTimeout, ShuttingDown
from agent_gateway.core.exchange import Attempt
from agent_gateway.upstream.connection import Connection
from agent_gateway.upstream.dialer import Dialer
from agent_gateway.upstream.origin import Origin
from agent_gateway.upstream.proxy import ProxyRules
from agent_gateway.upstream.reply import ReadTimeout, Reply

__all__ = ["Origin", "PoolStats", "ReadTimeout", "Reply", "Transport"]

#: Below the idle timeouts of what stands before most providers (AWS ALB 60 s, nginx 75 s, Cloudflare 400 s), so that it is we who
#: close. Servers that close sooner (Node, uvicorn: 5 s) are seen to do so at once; where both cross, the request is sent again.
IDLE_EXPIRY_S = 30.0
#: Requests that wait for a connection to one origin; each under its own deadline.
WAITING_MAX = 10_000

_SHUT = "The gateway is shutting down."


@dataclass(frozen=True, slots=True)
class PoolStats:
    """`open` counts connections being opened, in use and idle."""

    open: int
    idle: int
    waiting: int


class Transport:
    """Shared by all providers; belongs to one event loop."""

    def __init__(
        self,
        *,
        max_connections: int = 1000,
        idle_expiry_s: float = IDLE_EXPIRY_S,
        header_max_bytes: int = 65536,
        ssl_context: ssl.SSLContext | None = None,
        environ: Mapping[str, str] = os.environ,
        proxy_loopback: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`max_connections` is per origin. Raises `ValueError` that names the proxy variable that is wrong."""
        self._max_connections = max_connections
        self._idle_expiry_s = idle_expiry_s
        self._header_max_bytes = header_max_bytes
        self._ssl_context = ssl_context
        self._proxies = ProxyRules(environ, proxy_loopback=proxy_loopback)
        self._clock = clock
        self._pools: dict[Origin, _Pool] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    async def send(
        self, origin: Origin, head: bytes, body: bytes, *, connect_until: float, until: float, attempt: Attempt | None = None
    ) -> Reply:
        """Sends one request and returns its reply when the final headers have come (1xx are skipped, redirects are not followed).

        `head` goes out as it is, request line to blank line. Times are absolute monotonic seconds: `connect_until` for having a
        connection, waiting for a free one included; `until` for the headers, past which `ReadTimeout` is raised. `attempt` is told when
        there was a connection to write the request to, whatever then came of it: from there on the provider may be at work.
        Raises `ConnectFailed`, `NameNotResolved`, `TlsFailed`, `ProviderTimeout` (kind `connect`), `ConnectionCut`,
        `MalformedReply`, `NoConnectionFree`, and `ShuttingDown`, which is the gateway's.

        A kept connection may have been closed by the provider just as the request went out: when it ends without one byte of
        reply, before `connect_until`, the request goes once more over a fresh one.
        """
        pool = self._pools.get(origin) or self._open_pool(origin)
        connection, reused = pool.take(), True
        if connection is None:
            connection, reused = await pool.obtain(connect_until)
        if attempt is not None:
            attempt.connected = self._clock.monotonic()
        try:
            return await connection.request(head, body, until)
        except ConnectionCut:
            if connection.heard:
                raise
            if not reused or self._clock.monotonic() >= connect_until:
                pool.ended(connection)
                raise
        if attempt is not None:
            attempt.connected = None
        connection = await pool.replace(connection, connect_until)
        if attempt is not None:
            attempt.connected = self._clock.monotonic()
        try:
            return await connection.request(head, body, until)
        except ConnectionCut:
            pool.ended(connection)
            raise

    def stats(self) -> dict[Origin, PoolStats]:
        return {origin: pool.stats() for origin, pool in self._pools.items()}

    async def close(self) -> None:
        """Idle connections close; replies under way, waiting requests and new ones end with `ShuttingDown`."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for pool in self._pools.values():
            pool.close()
        for _ in range(2):  # the loop closes an aborted socket in its next round
            await asyncio.sleep(0)

    def sweep(self) -> None:
        """Closes what has been idle too long and forgets origins without connections. Runs by itself; no timer a request."""
        now = self._clock.monotonic()
        for origin, pool in list(self._pools.items()):
            if not pool.expire(now):
                del self._pools[origin]
        self._sweeper = None
        if self._pools:
            self._schedule_sweep()

    def _open_pool(self, origin: Origin) -> _Pool:
        if self._closed:
            raise ShuttingDown(_SHUT)
        dialer = Dialer(origin, self._proxies.proxy_for(origin), self._tls_context, self._header_max_bytes)
        pool = self._pools[origin] = _Pool(dialer, self._max_connections, self._idle_expiry_s, self._clock)
        if self._sweeper is None:
            self._schedule_sweep()
        return pool

    def _schedule_sweep(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(self._idle_expiry_s / 2, self.sweep)

    def _tls_context(self) -> ssl.SSLContext:
        if self._ssl_context is None:
            self._ssl_context = ssl.create_default_context()  # reads the system's certificates: too slow for every start
            self._ssl_context.set_alpn_protocols(["http/1.1"])
        return self._ssl_context


class _Pool:
    """The connections to one origin. A place is held by each of them from before it is opened until it is closed.

    Places and free connections are handed from hand to hand, first come first served: while anyone waits, nothing is idle.
    """

    __slots__ = ("_clock", "_closed", "_connections", "_dialer", "_idle", "_idle_expiry_s", "_max", "_open", "_waiting")

    def __init__(self, dialer: Dialer, max_connections: int, idle_expiry_s: float, clock: Clock) -> None:
        self._dialer = dialer
        self._max = max_connections
        self._idle_expiry_s = idle_expiry_s
        self._clock = clock
        self._open = 0
        self._connections: set[Connection] = set()
        #: Since when (monotonic), the longest idle first: the last is taken first, so that what is not needed expires.
        self._idle: dict[Connection, float] = {}
        #: Each is given a connection, or None: a place for a new one.
        self._waiting: OrderedDict[asyncio.Future[Connection | None], None] = OrderedDict()
        self._closed = False

    def stats(self) -> PoolStats:
        return PoolStats(self._open, len(self._idle), len(self._waiting))

    def take(self) -> Connection | None:
        """The idle connection used last, if there is one."""
        while self._idle:
            connection, since = self._idle.popitem()
            if self._clock.monotonic() - since < self._idle_expiry_s:
                return connection
            connection.abort()
        return None

    async def obtain(self, until: float) -> tuple[Connection, bool]:
        """A connection, and whether it was in use before. Raises like `Dialer.dial`."""
        if self._closed:
            raise ShuttingDown(_SHUT)
        if self._open < self._max:
            self._open += 1
        else:
            given = await self._wait_turn(until)
            if given is not None:
                return given, True
        return await self._dial(until), False

    async def replace(self, dead: Connection, until: float) -> Connection:
        """A fresh connection in the place of one that is closed."""
        self._connections.discard(dead)
        return await self._dial(until)

    def freed(self, connection: Connection) -> None:
        waiter = self._next_waiter()
        if waiter is not None:
            waiter.set_result(connection)
        elif self._closed:
            connection.abort()
        else:
            self._idle[connection] = self._clock.monotonic()

    def ended(self, connection: Connection) -> None:
        """Idempotent."""
        if connection in self._connections:
            self._connections.remove(connection)
            self._idle.pop(connection, None)
            self._vacate()

    def expire(self, now: float) -> bool:
        """Whether anything is left."""
        while self._idle:
            connection, since = next(iter(self._idle.items()))
            if now - since < self._idle_expiry_s:
                break
            connection.abort()
        return self._open > 0

    def close(self) -> None:
        self._closed = True
        while (waiter := self._next_waiter()) is not None:
            waiter.set_exception(ShuttingDown(_SHUT))
        for connection in list(self._connections):
            connection.abort(ShuttingDown(_SHUT))

    async def _dial(self, until: float) -> Connection:
        """Into a place that is held already; gives it up on failure."""
        try:
            connection = await self._dialer.dial(until)
            if self._closed:
                connection.abort()
                raise ShuttingDown(_SHUT)
        except BaseException:
            self._vacate()
            raise
        connection.keeper = self
        self._connections.add(connection)
        return connection

    def _vacate(self) -> None:
        """A place is free: it goes to who waits, or to nobody."""
        waiter = self._next_waiter()
        if waiter is not None:
            waiter.set_result(None)
        else:
            self._open -= 1

    def _next_waiter(self) -> asyncio.Future[Connection | None] | None:
        while self._waiting:
            waiter, _ = self._waiting.popitem(last=False)
            if not waiter.done():  # cancelled or timed out, and not yet running again
                return waiter
        return None

    async def _wait_turn(self, until: float) -> Connection | None:
        """A free connection, or None: a place for a new one, which the caller then holds."""
        if len(self._waiting) >= WAITING_MAX:
            raise NoConnectionFree("Too many requests wait for a connection to the model provider.", retry_after_s=1)
        given = await self._wait_once(until)
        while given is not None and given.closed:  # by the provider, as it was handed over
            if self._open < self._max:
                self._open += 1
                return None
            given = await self._wait_once(until, first=True)
        return given

    async def _wait_once(self, until: float, *, first: bool = False) -> Connection | None:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Connection | None] = loop.create_future()
        self._waiting[waiter] = None
        if first:
            self._waiting.move_to_end(waiter, last=False)
        timer = loop.call_at(until, _give_up_waiting, waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and waiter.exception() is None:
                self._pass_on(waiter.result())
            raise
        finally:
            self._waiting.pop(waiter, None)
            timer.cancel()

    def _pass_on(self, given: Connection | None) -> None:
        """What came for someone who had just left."""
        if given is None:
            self._vacate()
        elif not given.closed:
            self.freed(given)


def _give_up_waiting(waiter: asyncio.Future[Connection | None]) -> None:
    if not waiter.done():
        error = ProviderTimeout("No connection to the model provider became free in time.", kind="connect")
        waiter.set_exception(error)
