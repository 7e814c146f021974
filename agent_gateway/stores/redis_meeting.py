"""A meeting in Redis or Valkey: one connection, one script."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec
from redis.exceptions import RedisError

from agent_gateway.core.errors import StoreDown
from agent_gateway.stores.meeting import Script
from agent_gateway.stores.redis_client import redis_client

#: The first exchange, and the one after a failure.
CONNECT_TIMEOUT_S = 2.0

T = TypeVar("T")


class RedisMeeting(Generic[T]):
    place = "Redis"

    def __init__(self, url: str, script: Script[T]) -> None:
        self._client = redis_client(
            url, connections_max=1, wait_s=CONNECT_TIMEOUT_S, connect_s=CONNECT_TIMEOUT_S, answer_s=CONNECT_TIMEOUT_S
        )
        self._script = self._client.register_script(script.lua.read_text())
        self._decoder = msgspec.msgpack.Decoder(script.answer, strict=False)

    async def exchange(self, names: Sequence[bytes], message: Any, *, within_s: float) -> T:
        try:
            async with asyncio.timeout(within_s):
                reply: Any = await self._script(keys=list(names), args=[msgspec.msgpack.encode(message)])
        except TimeoutError:
            raise
        except (RedisError, OSError) as error:
            raise StoreDown("Redis cannot be used at the moment.", detail=str(error) or type(error).__name__) from error
        answer: T = self._decoder.decode(reply)
        return answer

    async def close(self) -> None:
        await self._client.aclose(close_connection_pool=True)
