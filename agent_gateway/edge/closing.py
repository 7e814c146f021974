"""The end of a connection: what is written still goes out, but no client puts the end off.

Over TLS a close waits for the client's own goodbye, which one that keeps the connection in a pool never says.
"""

from __future__ import annotations

import asyncio

from agent_gateway.edge.limits import Limits


def close(transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, limits: Limits, unsent: int | None = None) -> None:
    """`unsent`: what was left to write when it was looked at before."""
    transport.close()
    left = transport.get_write_buffer_size()
    if unsent is not None and left >= unsent:
        transport.abort()
    elif left or transport.get_extra_info("ssl_object") is not None:
        loop.call_later(limits.write_stall_s if left else limits.linger_s, close, transport, loop, limits, left)
