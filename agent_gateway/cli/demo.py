"""`agent-gateway demo`: a gateway before a simulated provider, with nothing to configure and a trickle of traffic to look at."""

from __future__ import annotations

import argparse
import socket
import sys
from typing import Any

HELP = "shows the gateway at work: simulated models, sample traffic, nothing to configure"
EXAMPLE = "agent-gateway demo --port 8080"

DEFAULT_PORT = 8080

#: What the demo runs on: a model whose provider fails now and then, and one that stands in for it.
CONFIGURATION: dict[str, Any] = {
    "state": {"database": "sqlite:///:memory:"},
    "providers": {
        "sim": {"kind": "simulated", "ttft_ms": 180, "tokens_per_s": 80, "output_tokens": 60},
        "shaky": {"kind": "simulated", "ttft_ms": 250, "tokens_per_s": 60, "output_tokens": 60, "error_rate": 0.15, "seed": 7},
    },
    "models": {
        "gpt-4o-mini": {
            "strategy": "priority",
            "deployments": [{"provider": "shaky", "model": "gpt-4o-mini", "price": {"input": 0.15, "output": 0.6}}],
            "fallbacks": ["backup"],
        },
        "backup": {"deployments": [{"provider": "sim", "model": "small", "price": {"input": 0.05, "output": 0.2}}]},
    },
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port", metavar="P", type=int, help=f"port to listen on (default: {DEFAULT_PORT}, or a free one if that is taken)"
    )
    parser.add_argument("--requests", metavar="N", type=int, help="stop after so many sample requests (default: go on until Ctrl-C)")
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each sample request")


def run(arguments: argparse.Namespace) -> int:
    if arguments.requests is not None and arguments.requests < 1:
        print(f"agent-gateway demo: --requests: {arguments.requests} is not a number above 0", file=sys.stderr)
        return 2
    from agent_gateway.cli.demo_show import Show
    from agent_gateway.cli.serving import serve
    from agent_gateway.control.load import compile_mapping

    port = arguments.port if arguments.port is not None else _port()
    if port == 0 and arguments.port is None:
        print(f"{DEFAULT_PORT} is taken, so the demo listens on another port (--port P chooses one)", file=sys.stderr)
    options = {"server.port": port}
    configuration = compile_mapping(CONFIGURATION, options=options)
    show = Show(as_json=arguments.json, requests_max=arguments.requests)
    status = serve(configuration, options, show.begin, open_doors_are_news=False)
    if status == 0 and not arguments.json:
        print("\nThe demo has ended; nothing of it was kept.")
    return status


def _port() -> int:
    """The usual port, or 0 (any free one) when something else has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", DEFAULT_PORT))
        except OSError:
            return 0
    return DEFAULT_PORT
