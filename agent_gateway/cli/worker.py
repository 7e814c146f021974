"""One worker of `agent-gateway serve --workers N`, started by its supervisor: `python -m agent_gateway.cli.worker LINE TALLY SOCKET…`.

All are numbers of open files: the line to the supervisor, the tally of connections, and the sockets to listen on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from shutil import rmtree

import uvloop

from agent_gateway.app import Gateway
from agent_gateway.cli.calm import calm_collector, let_generators_go
from agent_gateway.cli.serving import LOG_FORMAT
from agent_gateway.control.errors import ConfigurationError
from agent_gateway.control.load import compile_source
from agent_gateway.core.errors import StoreDown
from agent_gateway.edge.shared_port import Share, Tally
from agent_gateway.workers.member import Member

_log = logging.getLogger("agent_gateway.workers")


def main(files: Sequence[str]) -> int:
    line, tally, *listening = map(int, files)
    logging.basicConfig(level=logging.WARNING, format=LOG_FORMAT.replace("%(name)s", f"[{os.getpid()}] %(name)s"), stream=sys.stderr)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(socket.socket(fileno=line), tally, [socket.socket(fileno=file) for file in listening]))
    except ConfigurationError as error:  # it was right when the gateway began: a file that it names has changed since
        _log.error("this worker cannot begin:\n%s", "\n".join(error.errors))
        return 1
    except StoreDown as error:
        _log.error("this worker cannot begin: %s", error.detail)
        return 1
    return 0


async def _run(line: socket.socket, tally: int, listening: list[socket.socket]) -> None:
    member = Member(line)
    begin = await member.begin()
    configuration = compile_source(begin.source, options=begin.options)
    gateway = Gateway(configuration, options=begin.options, member=member, shared_file=Path(begin.shared_file))
    member.stand_for(gateway)
    share = Share(Tally(tally, begin.entries), begin.entry, member.ready)
    server = gateway.server(_nothing, share=share)
    member.orphaned = server.stop
    calm_collector()
    let_generators_go()
    await server.serve(listening)
    if member.is_orphan:  # else the supervisor tidies up
        rmtree(Path(begin.shared_file).parent, ignore_errors=True)


def _nothing(host: str, port: int) -> None:
    """The supervisor says where the gateway listens."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
