"""uvicorn's server with our two protocols: ready when it listens, drains on SIGTERM, reloads on SIGHUP, leaves with status 0."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil
from typing import TYPE_CHECKING, Any

from uvicorn.config import Config
from uvicorn.server import Server as UvicornServer

from agent_gateway.edge.app import App
from agent_gateway.edge.fast_lane import fast_lane
from agent_gateway.edge.limits import Limits
from agent_gateway.edge.slow_lane import slow_lane
from agent_gateway.pipeline import Live

if TYPE_CHECKING:
    from agent_gateway.edge.websocket_lane import WebSocketLane

BACKLOG = 4096
#: So long a browser that was here over TLS comes back over TLS only (s).
HSTS_S = 365 * 24 * 3600


class Server(UvicornServer):
    """`listening` is called with the bound address once connections are taken; `reload` on SIGHUP. `tls`: what connections are made with;
    None: they are not encrypted.
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
    ) -> None:
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
        return self.should_exit

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._listening(host, port)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Unlike uvicorn's own, does not raise SIGTERM anew at the end: a drained stop is a success."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
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
