"""uvicorn's server with our two protocols: ready when it listens, drains on SIGTERM, reloads on SIGHUP, leaves with status 0."""

from __future__ import annotations

import asyncio
import signal
import socket
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


class Server(UvicornServer):
    """`listening` is called with the bound address once connections are taken; `reload` on SIGHUP."""

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
    ) -> None:
        config = Config(
            app,
            host=host,
            port=port,
            http=fast_lane(live, limits) if use_fast_lane else slow_lane(limits),  # type: ignore[arg-type]  # a class is only called
            **websocket_settings(live, limits),
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=int(limits.keep_alive_s),
            timeout_graceful_shutdown=max(ceil(drain_timeout_s), 1),
        )
        super().__init__(config)
        self.server_state.tasks = live.tasks
        self._listening = listening
        self._reload = reload

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
