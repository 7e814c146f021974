"""uvicorn's server with our two protocols: ready when it listens, drains on SIGTERM, reloads on SIGHUP, leaves with status 0."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol, cast

from uvicorn.config import Config
from uvicorn.server import Server as UvicornServer

from agent_gateway.core.listening import BACKLOG
from agent_gateway.edge.app import App
from agent_gateway.edge.fast_lane import fast_lane
from agent_gateway.edge.limits import Limits
from agent_gateway.edge.shared_port import Share, SharedPort
from agent_gateway.edge.slow_lane import slow_lane
from agent_gateway.pipeline import Live

if TYPE_CHECKING:
    from agent_gateway.edge.websocket_lane import WebSocketLane

#: So long a browser that was here over TLS comes back over TLS only (s).
HSTS_S = 365 * 24 * 3600


#: The exit status where the app does not start, as uvicorn has it.
STARTUP_FAILURE = 3
#: A client that has not used its connection for so long, while this worker goes, is not about to (s).
IDLE_S = 5.0
#: A connection that was taken before and is still shaking hands is heard of within this time (s).
ACCEPTED_S = 0.5
LOOK_EVERY_S = 0.1

#: Who is not told what a signal means is ended by it.
_NOT_REPLACED = "SIGUSR2 has workers replaced by their supervisor, where there are several; this process goes on as it was"
_log = logging.getLogger("agent_gateway.edge")


class Retiring(Protocol):
    """A connection, for a server that goes while others serve."""

    def retire(self) -> None:
        """Its next answer says that it is the last. May be called again and again."""

    @property
    def is_idle(self) -> bool: ...

    def shutdown(self) -> None: ...


class Server(UvicornServer):
    """`listening` is called with the bound address once connections are taken; `reload` on SIGHUP. `tls`: what connections are made with;
    None: they are not encrypted. `share`: of this process, where others are given the same sockets.
    """

    def __init__(
        self,
        app: App,
        live: Live,
        limits: Limits,
        *,
        host: str,
        port: int,
        drain_timeout_s: float,
        use_fast_lane: bool,
        listening: Callable[[str, int], None],
        reload: Callable[[], None],
        tls: ssl.SSLContext | None = None,
        share: Share | None = None,
    ) -> None:
        self._shared = share
        self._port: SharedPort | None = None
        self._tls = None if tls is None else Renewable(tls)
        config = Config(
            app,
            host=host,
            port=port,
            http=fast_lane(live, limits, app.refusals) if use_fast_lane else slow_lane(limits),  # type: ignore[arg-type]  # a class is only called
            **websocket_settings(live, limits),
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            headers=security_headers(encrypted=tls is not None),
            ssl_context_factory=None if self._tls is None else self._renewable,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=int(limits.keep_alive_s),
            timeout_graceful_shutdown=max(ceil(drain_timeout_s), 1),
        )
        super().__init__(config)
        self.server_state.tasks = live.tasks
        self._listening = listening
        self._retiring = False
        self._reload = reload

    def renew(self, tls: ssl.SSLContext) -> None:
        """From the next connection on."""
        assert self._tls is not None, "TLS begins with a restart"
        self._tls.current = tls

    def _renewable(self, *_: object) -> ssl.SSLContext:
        assert self._tls is not None
        return self._tls

    @property
    def draining(self) -> bool:
        """Nobody serves any more; where this worker alone goes, the gateway does not."""
        return self.should_exit and not self._retiring

    def stop(self) -> None:
        self.handle_exit(signal.SIGTERM, None)

    def retire(self) -> None:
        """As `stop`, but others serve on: clients are asked to go to them, and none is cut off."""
        self._retiring = self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._retiring = False
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._retiring:
            until = asyncio.get_running_loop().time() + (self.config.timeout_graceful_shutdown or 0)
            await self._see_clients_off(until)
            self.config.timeout_graceful_shutdown = max(ceil(until - asyncio.get_running_loop().time()), 0)
        await super().shutdown(sockets)

    async def _see_clients_off(self, until: float) -> None:
        """Who asks once more is answered, and told to come back on another connection: one that is closed just as a client uses it again
        would be a request that is lost. From half of the time on a connection ends with its answer nevertheless, or what begins late on
        it would be cut off at the end. Returns when nobody is there any more, or at `until` (loop time).
        """
        for server in self.servers:
            server.close()
        loop, state = asyncio.get_running_loop(), self.server_state
        settled_at, patient_until = loop.time() + ACCEPTED_S, (loop.time() + until) / 2
        idle_since: dict[Any, float] = {}
        while self._retiring and (state.connections or state.tasks or loop.time() < settled_at) and loop.time() < until:
            for connection in list(cast("set[Retiring]", state.connections)):
                connection.retire()
                if loop.time() >= patient_until:
                    connection.shutdown()
                elif not connection.is_idle:
                    idle_since.pop(connection, None)
                elif loop.time() - idle_since.setdefault(connection, loop.time()) >= IDLE_S:
                    connection.shutdown()
            await asyncio.sleep(LOOK_EVERY_S)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if sockets is None or self._shared is None:
            await super().startup(sockets)
        else:
            await self._share(sockets, self._shared)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._listening(host, port)

    async def _share(self, sockets: list[socket.socket], share: Share) -> None:
        """As uvicorn's own, with other processes at the same sockets."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        config, state = self.config, self.server_state

        def connect() -> asyncio.Protocol:
            made: asyncio.Protocol = config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=state, app_state=self.lifespan.state
            )
            return made

        self._port = SharedPort(sockets, share, connect, lambda: len(state.connections), config.ssl)
        await share.turn()
        self._port.start()
        self.servers = [cast(asyncio.Server, self._port)]
        self.started = True

    async def on_tick(self, counter: int) -> bool:
        if self._port is not None:
            self._port.count()
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Unlike uvicorn's own, does not raise SIGTERM anew at the end: a drained stop is a success."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        loop.add_signal_handler(signal.SIGUSR2, _log.warning, _NOT_REPLACED)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
                loop.remove_signal_handler(number)


class Renewable(ssl.SSLContext):
    """A listening socket keeps the context that it began with; this one has every connection made with the `current` one."""

    current: ssl.SSLContext

    def __new__(cls, current: ssl.SSLContext) -> Renewable:
        context = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        context.current = current
        return context

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        return self.current.wrap_bio(*arguments, **options)


def security_headers(*, encrypted: bool) -> list[tuple[str, str]]:
    """On every answer: no browser guesses what it may be, and none goes back to plain HTTP."""
    headers = [("x-content-type-options", "nosniff")]
    if encrypted:
        headers.append(("strict-transport-security", f"max-age={HSTS_S}"))
    return headers


def websocket_settings(live: Live, limits: Limits) -> dict[str, Any]:
    """What uvicorn's configuration says of WebSockets; the library behind its class is loaded by the first handshake."""

    def connect(**of_the_server: Any) -> WebSocketLane:
        from agent_gateway.edge.websocket_lane import WebSocketLane

        return WebSocketLane(limits, live.runtime.settings.streaming.heartbeat_s, **of_the_server)

    return {
        "ws": connect,
        "ws_max_size": limits.body_max_bytes,
        # A client that takes nothing for so long is given up over HTTP too, and its streams are not compressed either.
        "ws_ping_timeout": limits.write_stall_s,
        "ws_per_message_deflate": False,
    }
