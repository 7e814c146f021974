"""`agent-gateway demo`: a gateway before simulated providers, with keys, a past and sample traffic; nothing to configure, nothing kept.

Promise: it is the gateway that `serve` runs, on a `gateway.yaml` and databases of its own in a folder that is gone when it ends.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent_gateway.stores.base import Key

HELP = "shows the gateway at work: simulated models, sample traffic, nothing to configure"
EXAMPLE = "agent-gateway demo --port 8080"

DEFAULT_PORT = 8080
#: What this process becomes to end early: no thread of a database is left that could write into the folder once more.
_CLEAR = "import shutil, sys; shutil.rmtree(sys.argv[1], ignore_errors=True); sys.exit(int(sys.argv[2]))"
CONFIGURATION = Path(__file__).with_suffix(".yaml")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port", metavar="P", type=int, help=f"port to listen on (default: {DEFAULT_PORT}, or a free one if that is taken)"
    )
    parser.add_argument("--requests", metavar="N", type=int, help="stop after so many sample requests (default: go on until Ctrl-C)")
    parser.add_argument("--json", action="store_true", help="print a line of JSON with the addresses, then one for each sample request")


def run(arguments: argparse.Namespace) -> int:
    if arguments.requests is not None and arguments.requests < 1:
        print(f"agent-gateway demo: --requests: {arguments.requests} is not a number above 0", file=sys.stderr)
        return 2
    import signal
    import tempfile

    from agent_gateway.cli.main import INTERRUPTED

    port = arguments.port if arguments.port is not None else _port()
    if port == 0 and arguments.port is None:
        print(f"{DEFAULT_PORT} is taken, so the demo listens on another port (--port P chooses one)", file=sys.stderr)
    stops = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    with tempfile.TemporaryDirectory(prefix="agent-gateway-demo-") as folder:

        def end(*_: object) -> None:
            signal.pthread_sigmask(signal.SIG_BLOCK, stops)
            os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", _CLEAR, folder, str(INTERRUPTED)])  # noqa: S606 - our own words

        # Until it serves: an exception, raised wherever Python is just then, could be told as a failure, or be lost.
        for number in stops:
            signal.signal(number, end)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stops)
        status = _serve(Path(folder), {"server.port": port}, arguments.requests, as_json=arguments.json)
    if status == 0 and not arguments.json:
        print("\nThe demo has ended; nothing of it was kept.")
    return status


def _serve(folder: Path, options: Mapping[str, Any], requests_max: int | None, *, as_json: bool) -> int:
    import asyncio
    import logging
    from random import Random

    from agent_gateway.cli.demo_clients import Clients
    from agent_gateway.cli.demo_past import gateway_with_past
    from agent_gateway.cli.demo_show import Show
    from agent_gateway.cli.demo_traffic import Traffic
    from agent_gateway.cli.serving import serve
    from agent_gateway.control.load import load
    from agent_gateway.upstream.transport import Origin

    file = folder / "gateway.yaml"
    file.write_text(f'state: {{database: "sqlite:///{folder}/agent-gateway.db"}}\n{CONFIGURATION.read_text()}')
    configuration = load(file, {}, options=options)
    url = configuration.settings.state.database
    for name, level in (("agent_gateway", logging.ERROR), ("agent_gateway.alerts", logging.CRITICAL)):
        logging.getLogger(name).setLevel(level)  # what is simulated is no news on the terminal; the dashboard tells it
    keys, secrets = asyncio.run(_make_keys(url))
    chance = Random()
    clients = Clients(chance)
    gateway, spent = gateway_with_past(configuration, options, clients, keys, chance)
    asyncio.run(_charge(url, spent))
    show = Show(file, as_json=as_json)
    running: list[asyncio.Task[None]] = []

    def begin(host: str, port: int) -> None:
        origin = Origin(host, port, tls=False)
        show.greet(f"http://{origin.host_header}")
        traffic = Traffic(origin, secrets, clients, chance, requests_max=requests_max, show=show)
        running.append(asyncio.get_running_loop().create_task(traffic.run_until(gateway.is_leaving)))

    return serve(configuration, options, begin, open_doors_are_news=False, gateway=gateway)


async def _make_keys(url: str) -> tuple[dict[str, Key], dict[str, str]]:
    """And what clients send of them, by name."""
    from agent_gateway.admission.keys import create_key
    from agent_gateway.cli.demo_clients import KEYS, TEAMS
    from agent_gateway.stores.base import open_store

    store = open_store(url)
    for team in TEAMS:
        await store.put_team(team)
    made = {name: await create_key(store, name, **options) for name, options in KEYS.items()}
    await store.close()
    return {name: key for name, (key, _) in made.items()}, {name: secret for name, (_, secret) in made.items()}


async def _charge(url: str, spent: Mapping[tuple[str, float], float]) -> None:
    from agent_gateway.stores.base import open_store

    store = open_store(url)
    await store.add_spend(spent)
    await store.close()


def _port() -> int:
    """The usual port, or 0 (any free one) when something else has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", DEFAULT_PORT))
        except OSError:
            return 0
    return DEFAULT_PORT
