"""How every room talks to Redis or Valkey: over a bounded pool, never twice, and never for longer than it says."""

from __future__ import annotations

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff


def redis_client(url: str, *, connections_max: int, wait_s: float, connect_s: float, answer_s: float) -> Redis:
    """`wait_s`: for a connection of the pool. Close it with `aclose(close_connection_pool=True)`."""
    return Redis(
        connection_pool=BlockingConnectionPool.from_url(
            url.replace("valkey", "redis", 1) if url.startswith("valkey") else url,
            max_connections=connections_max,
            timeout=wait_s,
            socket_connect_timeout=connect_s,
            socket_timeout=answer_s,
            retry=Retry(NoBackoff(), 0),
            client_name="agent-gateway",
            protocol=2,
        )
    )
