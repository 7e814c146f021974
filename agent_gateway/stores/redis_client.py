"""How every room talks to Redis or Valkey: over a bounded pool, never twice, and never for longer than it says."""

from __future__ import annotations

from asyncio import CancelledError, current_task
from collections.abc import Iterable

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NotConnected


def redis_client(url: str, *, connections_max: int, wait_s: float, connect_s: float, answer_s: float) -> Redis:
    """`wait_s`: for a connection of the pool. Close it with `aclose(close_connection_pool=True)`."""
    pool = BlockingConnectionPool.from_url(
        url.replace("valkey", "redis", 1) if url.startswith("valkey") else url,
        max_connections=connections_max,
        timeout=wait_s,
        socket_connect_timeout=connect_s,
        socket_timeout=answer_s,
        retry=Retry(NoBackoff(), 0),
        client_name="agent-gateway",
        protocol=2,
    )
    # By the URL it is one over TCP, TLS or a Unix socket.
    pool.connection_class = type("Connection", (_TrueConnection, pool.connection_class), {})
    return Redis(connection_pool=pool)


def is_taken(url: str) -> bool:
    """Whether the client could use it: it says so of ports and options with no word before it connects."""
    try:
        client = redis_client(url, connections_max=1, wait_s=1, connect_s=1, answer_s=1)
        client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    except (TypeError, ValueError):  # told without its text, which may hold the password
        return False
    return True


class _TrueConnection(AbstractConnection):
    """Of what redis-py does not see: that a connection was reset while it lay in the pool, which the first to use it would learn; uvloop's
    word for one that has just broken off; and, before Python 3.12, a cancellation that comes in the turn of the loop in which a command
    has been sent (by `asyncio.wait_for`).
    """

    async def can_read(self) -> bool:
        if self._writer is not None and self._writer.is_closing():
            raise NotConnected("The connection was reset.")
        return await super().can_read()

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        task = current_task()
        before = task.cancelling() if task is not None else 0
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError as error:
            raise NotConnected(f"Error while writing to socket: {error}") from error
        if task is not None and task.cancelling() > before:
            await self.disconnect(nowait=True)  # an answer will come that nobody reads
            raise CancelledError
