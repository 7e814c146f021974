"""Runs a gateway until it is told to stop; what `serve` and `demo` have in common."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from agent_gateway import __version__
from agent_gateway.app import Gateway
from agent_gateway.control.snapshot import Configuration
from agent_gateway.core.settings import Auth

Listening = Callable[[str, int], None]
#: How often a watched file is looked at (s).
WATCH_EVERY_S = 1.0


def serve(
    configuration: Configuration,
    options: Mapping[str, Any],
    listening: Listening | None = None,
    *,
    open_doors_are_news: bool = True,
    as_json: bool = False,
    watch: bool = False,
) -> int:
    """The command's exit status. `listening` is called with the bound host and port instead of the usual greeting.

    `watch`: a changed configuration file is taken up.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for warning in (*configuration.warnings, *(open_doors(configuration.settings.auth) if open_doors_are_news else ())):
        print(msgspec.json.encode({"warning": warning}).decode() if as_json else f"warning: {warning}", file=sys.stderr)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(configuration, options, listening or _greet(configuration, as_json=as_json), watch=watch))
    except SystemExit:
        return 1  # the server has said why: the port is taken, most likely
    return 0


def open_doors(auth: Auth) -> list[str]:
    """What anyone who can reach the gateway may do without a key."""
    doors = []
    if auth.admin_key is None:
        doors.append("auth.admin_key is not set: anyone on this machine may use the admin API")
    if not auth.key_required:
        why = "auth.admin_key is not set" if auth.require_key is None else "auth.require_key is false"
        doors.append(f"{why}: anyone who can reach the gateway may use its models")
    return doors


async def _run(configuration: Configuration, options: Mapping[str, Any], listening: Listening, *, watch: bool) -> None:
    gateway = Gateway(configuration, options=options)
    server = gateway.server(listening)
    calm_collector()
    let_generators_go()
    watching = None
    if watch and configuration.source is not None:
        watching = asyncio.ensure_future(_watch(Path(configuration.source), gateway.reload_soon))
    try:
        await server.serve()
    finally:
        if watching is not None:
            watching.cancel()


async def _watch(file: Path, changed: Callable[[], None]) -> None:
    seen = _stamp(file)
    while True:
        await asyncio.sleep(WATCH_EVERY_S)
        stamp = _stamp(file)
        if stamp is not None and stamp != seen:  # between its removal and its return there is nothing to read
            seen = stamp
            changed()


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def calm_collector() -> None:
    """What is here now stays, so the garbage collector need not look at it again; and it looks at the rest less often.

    Requests free what they take by reference counts; there is next to nothing for it to find.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def let_generators_go() -> None:
    """The running loop keeps no list of the generators under way, to close at its end those that nobody has: here whoever iterates one
    closes it. One that is dropped is closed by the loop as ever.
    """
    sys.set_asyncgen_hooks(firstiter=None)


def _greet(configuration: Configuration, *, as_json: bool) -> Listening:
    def greet(host: str, port: int) -> None:
        models = ", ".join(configuration.routes) or "every model of its providers"
        address = f"[{host}]" if ":" in host else host
        scheme = "http" if configuration.settings.server.tls is None else "https"
        if as_json:
            told = {"url": f"{scheme}://{address}:{port}", "models": list(configuration.routes), "version": __version__}
            print(msgspec.json.encode(told).decode(), flush=True)
            return
        print(f"agent-gateway {__version__} listens on {scheme}://{address}:{port} and serves {models}", flush=True)

    return greet
