"""Requests that are the same and answers that never are, for journeys of the cache."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from tests.kit import replies, samples
from tests.kit.client import CHAT, Reply, ask, chat
from tests.kit.gateway import Gateway
from tests.kit.provider import Heard, Script

#: The section of a configuration.
CACHED = {"exact": {"enabled": True, "ttl_s": 300}}
NO_STORE = {"x-gateway-cache": "no-store"}

_numbers = itertools.count()


def new_number() -> int:
    """Tests share a gateway: no two of them ask the same."""
    return next(_numbers)


def new_chat(**more: Any) -> dict[str, Any]:
    """A chat request that nobody has made."""
    return chat(seed=new_number(), **more)


def numbered(text: str = "answer") -> Callable[[Heard], Script]:
    """A provider that never says the same twice."""
    numbers = itertools.count()

    def choose(heard: Heard) -> Script:
        said = f"{text} {next(numbers)}"
        if heard.json.get("stream"):
            return replies.stream(samples.text_frames(said.split(" "), usage=True))
        return replies.whole(samples.COMPLETION.replace(b"I am", said.encode(), 1))

    return choose


async def results(gateway: Gateway) -> dict[str, float]:
    """What `cache_total` says."""
    scrape = (await ask(gateway.url, "/metrics")).body.decode()
    prefix = "agent_gateway_cache_total{result="
    lines = [line.removeprefix(prefix).partition("} ") for line in scrape.splitlines() if line.startswith(prefix)]
    return {name.strip('"'): float(value) for name, _, value in lines}


async def twice(gateway: Gateway, body: Any, target: str = CHAT, **headers: str) -> tuple[Reply, Reply]:
    first, again = [await ask(gateway.url, target, body, headers=headers) for _ in range(2)]
    return first, again
