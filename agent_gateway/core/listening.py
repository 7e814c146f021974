"""The port that is served, bound before anything else is done: one that cannot be had is known at once, and why."""

from __future__ import annotations

import errno
import socket

#: Connections that wait at the port.
BACKLOG = 4096


def listen(host: str, port: int) -> list[socket.socket]:
    """At every address of the host, and the same port at all; 0: any free one. Raises `OSError` that says what to do."""
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
            place = (address[0], sockets[0].getsockname()[1] if sockets else port, *address[2:])
            sockets.append(socket.create_server(place, family=family, backlog=BACKLOG))
    except OSError as error:
        for bound in sockets:
            bound.close()
        raise OSError(_why_not(host, port, error)) from error
    return sockets


def _why_not(host: str, port: int, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} is in use: stop what listens there, or choose another with --port (0 takes any free one)"
        case errno.EACCES:
            return f"port {port} needs privileges: choose one above 1023 with --port"
        case _:
            return f"cannot listen on {host}: {error.strerror or error}; choose an address of this machine with --host"
