"""Ports that nothing else on the machine is handed by chance: not an outgoing connection, not another run of these tests."""

from __future__ import annotations

import fcntl
import itertools
import os
import socket
import tempfile
from functools import cache
from pathlib import Path

#: Below the range that Linux and macOS take outgoing connections' ports from.
_FIRST, _LAST = 18_000, 31_999
#: Ports that one process has to itself.
_SLICE = 500
#: Those that are not handed out again when the round is over.
_kept: set[int] = set()


def free_port() -> int:
    """A loopback port, handed out once in a round of this process's ports; nobody listens on it until its taker does."""
    ports, _ = _ours()
    for port in itertools.islice(ports, _SLICE):
        if port in _kept:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("none of this process's ports is free")


def kept_port() -> int:
    """One for as long as the process lives, whether somebody listens on it at the moment or not."""
    port = free_port()
    _kept.add(port)
    return port


@cache
def _ours() -> tuple[itertools.cycle[int], object]:
    """A slice of ports and the lock on it, which the process holds for as long as it lives."""
    folder = Path(tempfile.gettempdir()) / f"agent-gateway-test-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for first in range(_FIRST, _LAST + 1, _SLICE):
        lock = (folder / str(first)).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return itertools.cycle(range(first, first + _SLICE)), lock
    raise RuntimeError(f"all slices of ports are taken; see {folder}")
