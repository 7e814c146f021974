"""One replay that the admin API was asked for: `python -m agent_gateway.cli.replay_process`, its order on standard input.

Promise: it gives way to the gateway, keeps to its bounds of memory, and ends when the gateway does; what it says holds no secret.
"""

from __future__ import annotations

import logging
import os
import resource
import sys
import threading
from typing import BinaryIO

import msgspec

from agent_gateway.cli.replaying import NotReplayed, recorded, replayed
from agent_gateway.control.draft import compile_draft, draft_of, unread
from agent_gateway.control.errors import ConfigurationError, Findings
from agent_gateway.control.load import compile_raw
from agent_gateway.control.prices import load_catalogue
from agent_gateway.control.replay_order import Begun, Done, Failed, Order, Progress, Refused, Said, order
from agent_gateway.control.snapshot import Configuration
from agent_gateway.core.errors import GatewayError

#: Of its addresses; the half million requests that can be read at once take less than half of it (bytes).
MEMORY_MAX_BYTES = 2 * 1024**3
#: Somebody waits for what is wrong with a configuration; nobody does for the rest.
NICE_AT_FIRST = 4
NICE = 10
#: Of what is wrong with a configuration, so much is told: lines, and of each so many characters.
ERRORS_MAX = 50
ERROR_MAX_CHARS = 1_000
#: Less than this is not worth a line.
PROGRESS_STEP = 0.005

_log = logging.getLogger("agent_gateway.replay")


def main() -> int:
    os.nice(NICE_AT_FIRST)
    _bound_memory()
    asked = _asked(sys.stdin.buffer)
    if asked is None:
        return 1
    threading.Thread(target=_end_with_gateway, args=(sys.stdin.buffer,), daemon=True).start()
    try:
        _carry_out(asked)
    except NotReplayed as error:
        _say(Failed(error.code, f"{error.field}: {error.text}."))
    except GatewayError as error:  # the database is down, most likely
        _say(Failed(error.code, error.message))
    except MemoryError:
        too_much = f"It needs more than {MEMORY_MAX_BYTES // 1024**3} GB of memory, which a replay may not have; ask for a shorter time."
        _say(Failed("out_of_memory", too_much))
    return 0


def _carry_out(asked: Order) -> None:
    environ = os.environ
    running = compile_raw(dict(asked.written), asked.source, environ, Findings(), asked.options, lambda: load_catalogue(environ))
    new: list[Configuration] = []
    errors: list[list[str]] = []
    for draft in asked.configurations:
        try:
            new.append(compile_draft(draft.yaml, draft.name, running, environ, asked.options))
            errors.append([])
        except ConfigurationError as error:
            errors.append(_bounded(error.errors))
    if any(errors):
        _say(Refused(errors))
        return
    _say(Begun([draft_of(each, unread(environ), {}) for each in new]))
    os.nice(NICE - NICE_AT_FIRST)
    told = 0.0

    def advance(done: float, of: float) -> None:
        nonlocal told
        if done / of >= told + PROGRESS_STEP:
            told = done / of
            _say(Progress(told))

    made = replayed(recorded(running, asked.since, asked.until), new, seed=asked.seed, runs=asked.runs, advance=advance)
    _say(Done([each.as_json() for each in made]))


def _bounded(errors: list[str]) -> list[str]:
    told = [error[:ERROR_MAX_CHARS] for error in errors[:ERRORS_MAX]]
    left = len(errors) - len(told)
    return [*told, f"{left:,} more mistakes are not told; mend these first"] if left else told


def _asked(line: BinaryIO) -> Order | None:
    """None: whoever was to ask is gone."""
    length = int.from_bytes(line.read(4), "big")
    body = line.read(length)
    return order.decode(body) if body and len(body) == length else None


def _say(said: Said) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
    sys.stdout.buffer.flush()


def _bound_memory() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    bound = MEMORY_MAX_BYTES if most == resource.RLIM_INFINITY else min(MEMORY_MAX_BYTES, most)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (bound, most))
    except (OSError, ValueError) as error:  # macOS knows no such bound
        _log.info("The memory of a replay cannot be bounded here: %s", error)


def _end_with_gateway(line: BinaryIO) -> None:
    """Nothing more comes by it; it ends when whoever holds its other end does."""
    os.read(line.fileno(), 1)  # not by `line`, whose lock the interpreter asks for at its end
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
