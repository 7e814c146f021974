"""Bounds on what a client may send and how long it may take; both edges hold them."""

from __future__ import annotations

import resource
from dataclasses import dataclass, field

from agent_gateway.core.errors import Overloaded
from agent_gateway.edge.bodies import Bodies

#: Connections of clients that one process holds, where the system lets it have as many files open.
CONNECTIONS_MAX = 10_000
#: Of the files that may be open, this share is for clients; the rest is for providers, stores and files.
_CLIENTS_SHARE = 0.75


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds."""

    body_max_bytes: int
    #: Of all requests together.
    bodies: Bodies = field(default_factory=Bodies)
    head_max_bytes: int = 64 * 1024
    #: From the first byte (or the connection's start) to the end of the headers.
    head_timeout_s: float = 10.0
    body_timeout_s: float = 60.0
    #: An idle connection is kept this long for the next request.
    keep_alive_s: float = 75.0
    #: A client that takes nothing of what is written for it is given up after this long, or at the request's deadline,
    write_stall_s: float = 60.0
    #: but has at least this long for what is written last.
    last_write_s: float = 1.0
    #: After a refusal, what still comes is read and dropped this long.
    linger_s: float = 1.0
    #: Requests under way at once on one WebSocket.
    socket_requests_max: int = 32
    #: Requests that wait behind the one that is answered, on one connection.
    pipelined_max: int = 100
    #: Connections of clients; who comes when there are more is told to come back (503).
    connections_max: int = CONNECTIONS_MAX


def connections_max() -> int:
    """As many as this process may have: has the system's soft limit on open files raised, as far as it can be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = int(CONNECTIONS_MAX / _CLIENTS_SHARE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return CONNECTIONS_MAX if soft == resource.RLIM_INFINITY else min(CONNECTIONS_MAX, int(soft * _CLIENTS_SHARE))


def too_many_connections(limits: Limits) -> Overloaded:
    return Overloaded(f"{limits.connections_max} connections are open already. Try again.", retry_after_s=1)
