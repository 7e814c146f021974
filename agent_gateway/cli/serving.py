"""Runs a gateway until it is told to stop; what `serve` and `demo` have in common."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

import uvloop

from agent_gateway import __version__
from agent_gateway.app import Gateway
from agent_gateway.control.snapshot import Configuration

Listening = Callable[[str, int], None]


def serve(
    configuration: Configuration, options: Mapping[str, Any], listening: Listening | None = None, *, open_doors_are_news: bool = True
) -> int:
    """The command's exit status. `listening` is called with the bound host and port instead of the usual greeting."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for warning in configuration.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if open_doors_are_news and not configuration.settings.auth.key_required:
        print("warning: auth.admin_key is not set: anyone on this machine may use the gateway", file=sys.stderr)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(configuration, options, listening or _greet(configuration)))
    except SystemExit:
        return 1  # the server has said why: the port is taken, most likely
    return 0


async def _run(configuration: Configuration, options: Mapping[str, Any], listening: Listening) -> None:
    server = Gateway(configuration, options=options).server(listening)
    calm_collector()
    await server.serve()


def calm_collector() -> None:
    """What is here now stays, so the garbage collector need not look at it again; and it looks at the rest less often.

    Requests free what they take by reference counts; there is next to nothing for it to find.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _greet(configuration: Configuration) -> Listening:
    def greet(host: str, port: int) -> None:
        models = ", ".join(configuration.routes) or "every model of its providers"
        address = f"[{host}]" if ":" in host else host
        print(f"agent-gateway {__version__} listens on http://{address}:{port} and serves {models}", flush=True)

    return greet
