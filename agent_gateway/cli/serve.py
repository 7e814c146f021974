"""`agent-gateway serve`: the gateway itself."""

from __future__ import annotations

import argparse
import os
import signal
import sys

HELP = "runs the gateway"
EXAMPLE = "agent-gateway serve --config gateway.yaml --port 8080"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE", help="the configuration (default: $GATEWAY_CONFIG, ./gateway.yaml, the environment's keys)"
    )
    parser.add_argument("--host", metavar="H", help="address to listen on (default: server.host, 127.0.0.1)")
    parser.add_argument("--port", metavar="P", type=int, help="port to listen on; 0 takes any free one (default: server.port, 8080)")
    parser.add_argument("--workers", metavar="N", type=int, help="processes (default: server.workers, 1)")
    parser.add_argument("--reload", action="store_true", help="take up a changed configuration file by itself (else on SIGHUP)")
    parser.add_argument("--json", action="store_true", help="print JSON, one line each: the address, warnings, errors")


def run(arguments: argparse.Namespace) -> int:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Until the server hears it there is nothing to wind down, and an exception would be told as a failure.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from agent_gateway.control.errors import ConfigurationError
    from agent_gateway.control.load import compile_source
    from agent_gateway.control.source import read_source

    options = {"server.host": arguments.host, "server.port": arguments.port, "server.workers": arguments.workers}
    try:
        source = read_source(arguments.config, os.environ)
        configuration = compile_source(source, options=options)
    except ConfigurationError as error:
        if arguments.json:
            import msgspec

            print(msgspec.json.encode({"ok": False, "errors": error.errors}).decode())
        else:
            print("\n".join(error.errors), file=sys.stderr)
        return 1
    from agent_gateway.cli.serving import serve

    return serve(configuration, options, as_json=arguments.json, watch=arguments.reload, source=source)
