"""Bounds on what a client may send and how long it may take; both edges hold them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds."""

    body_max_bytes: int
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
