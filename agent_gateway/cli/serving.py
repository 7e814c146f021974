"""Runs a gateway until it is told to stop; what `serve` and `demo` have in common."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import uvloop

from agent_gateway import __version__
from agent_gateway.cli.calm import calm_collector, let_generators_go
from agent_gateway.control.errors import ConfigurationError
from agent_gateway.control.snapshot import Configuration
from agent_gateway.control.source import Source, read_text
from agent_gateway.core.listening import listen
from agent_gateway.core.settings import Auth
from agent_gateway.edge.limits import few_connections

if TYPE_CHECKING:
    from agent_gateway.app import Gateway

Listening = Callable[[str, int], None]
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
DASHBOARD = "/dashboard"
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
    source: Source | None = None,
    gateway: Gateway | None = None,
) -> int:
    """The command's exit status. `listening` is called with the bound host and port instead of the usual greeting.

    `watch`: a changed configuration file is taken up. `source`: what the configuration was read from, for more workers than one.
    `gateway`: the one to run, where it was made before.
    """
    logging.basicConfig(level=logging.WARNING, format=LOG_FORMAT, stream=sys.stderr)
    few = few_connections()
    doors = open_doors(configuration.settings.auth) if open_doors_are_news else []
    for warning in (*configuration.warnings, *doors, *([] if few is None else [few])):
        print(msgspec.json.encode({"warning": warning}).decode() if as_json else f"warning: {warning}", file=sys.stderr)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            greeting = listening or _greet(configuration, as_json=as_json)
            if source is not None and configuration.settings.server.workers > 1:
                return runner.run(_supervise(source, configuration, options, greeting, watch=watch))
            runner.run(_run(configuration, options, greeting, watched=source if watch else None, made=gateway))
    except OSError as error:
        if as_json:
            print(msgspec.json.encode({"ok": False, "errors": [str(error)]}).decode())
        else:
            print(f"agent-gateway: {error}", file=sys.stderr)
        return 1
    except SystemExit:
        return 1  # the server has said why
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


async def _supervise(
    source: Source, configuration: Configuration, options: Mapping[str, Any], listening: Listening, *, watch: bool
) -> int:
    from agent_gateway.workers.supervisor import Supervisor

    watching = None
    try:
        supervisor = Supervisor(source, configuration, options, listening)
        watching = _watching(source, supervisor.reload_soon) if watch else None
        return await supervisor.run()
    finally:
        if watching is not None:
            watching.cancel()


async def _run(
    configuration: Configuration, options: Mapping[str, Any], listening: Listening, *, watched: Source | None, made: Gateway | None
) -> None:
    from agent_gateway.app import Gateway

    sockets = listen(configuration.settings.server.host, configuration.settings.server.port)
    gateway = made or Gateway(configuration, options=options)
    server = gateway.server(listening)
    calm_collector()
    let_generators_go()
    watching = None if watched is None else _watching(watched, gateway.reload_soon)
    try:
        await server.serve(sockets=sockets)
    finally:
        if watching is not None:
            watching.cancel()


def _watching(source: Source, changed: Callable[[], None]) -> asyncio.Task[None] | None:
    return None if source.file is None else asyncio.create_task(_watch(Path(source.file), source.text, changed))


async def _watch(file: Path, text: str | None, changed: Callable[[], None]) -> None:
    """`text`: as it was read. It may be another by now."""
    seen = _stamp(file)
    if await asyncio.to_thread(_text, file) != text:
        seen = None
    while True:
        await asyncio.sleep(WATCH_EVERY_S)
        stamp = _stamp(file)
        if stamp is not None and stamp != seen:  # between its removal and its return there is nothing to read
            seen = stamp
            changed()


def _text(file: Path) -> str | None:
    try:
        return read_text(file)
    except ConfigurationError:
        return None


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _greet(configuration: Configuration, *, as_json: bool) -> Listening:
    def greet(host: str, port: int) -> None:
        models = ", ".join(configuration.routes) or "every model of its providers"
        workers = configuration.settings.server.workers
        address = f"[{host}]" if ":" in host else host
        scheme = "http" if configuration.settings.server.tls is None else "https"
        place = f"{scheme}://{address}:{port}"
        dashboard = f"{place}{DASHBOARD}"
        if as_json:
            told = {
                "url": place,
                "dashboard": dashboard,
                "models": list(configuration.routes),
                "version": __version__,
                "pid": os.getpid(),
            }
            print(msgspec.json.encode(told).decode(), flush=True)
            return
        by = f", with {workers} workers" if workers > 1 else ""
        print(f"agent-gateway {__version__} listens on {place} and serves {models}{by} (process {os.getpid()})")
        print(f"dashboard: {dashboard}", flush=True)

    return greet
