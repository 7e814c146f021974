"""The simulator's app under uvicorn: stopped cleanly by a signal, and silent about what it breaks on purpose."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from agent_gateway.simulator.batches.settings import BatchSettings
from agent_gateway.simulator.http import SimulatorApp
from agent_gateway.simulator.player import ConnectionDropped
from agent_gateway.simulator.settings import SimulatorSettings
from agent_gateway.simulator.simulator import Simulator


class Server(uvicorn.Server):
    """Unlike uvicorn's own, does not die of the signal that stopped it: the command then ends with status 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        for number in signals:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)


class _QuietDrops(logging.Filter):
    """Connections that the simulator drops on purpose, or abandons when it stops, are no errors."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, ConnectionDropped | asyncio.CancelledError)


_QUIET_DROPS = _QuietDrops()


def server(settings: SimulatorSettings, batch_settings: BatchSettings, *, drain_s: int) -> Server:
    """`drain_s`: how long what runs may take to end once it is stopped."""
    logging.getLogger("uvicorn.error").addFilter(_QUIET_DROPS)
    return Server(
        uvicorn.Config(
            SimulatorApp(Simulator(settings), batch_settings),
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=drain_s,
        )
    )
