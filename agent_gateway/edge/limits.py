"""Bounds on what a client may send and how long it may take; both edges hold them."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent_gateway.core.errors import Overloaded
from agent_gateway.core.open_files import raise_open_files
from agent_gateway.edge.bodies import Bodies

#: Connections of clients that one process holds, where the system lets it have as many files open.
CONNECTIONS_MAX = 10_000
#: Where the system allows fewer than this, who starts the gateway is told.
CONNECTIONS_EXPECTED = 8_000
#: Files beside the connections: stores, logs, what an operator does. Where there are few in all, a fifth of them.
_SPARE_FILES = 200


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
    """Of clients, and as many to a provider: each of theirs needs one. Has the system's soft limit on open files raised for them, as far
    as it can be.
    """
    files = raise_open_files(2 * CONNECTIONS_MAX + _SPARE_FILES)
    return min(CONNECTIONS_MAX, (files - min(_SPARE_FILES, files // 5)) // 2)


def few_connections() -> str | None:
    """What an operator is told where the system allows only few. None: it allows enough."""
    allowed = connections_max()
    if allowed >= CONNECTIONS_EXPECTED:
        return None
    return (
        f"this process may have so few files open that it takes {allowed:,} connections of clients at once, not {CONNECTIONS_MAX:,}; "
        f"raise the hard limit to {2 * CONNECTIONS_MAX + _SPARE_FILES}: `ulimit -Hn`, LimitNOFILE= of a systemd unit, a container's ulimits"
    )


def too_many_connections(limits: Limits) -> Overloaded:
    return Overloaded(f"{limits.connections_max} connections are open already. Try again.", retry_after_s=1)
