"""Fifty turns of one session, each at a gateway that is killed right after the answer's last byte."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit import replies, samples
from tests.kit.client import CHAT, ask, chat
from tests.kit.configuration import configuration
from tests.kit.gateway import EDGES, Gateway
from tests.kit.provider import ScriptedProvider
from tests.stores.stores import fresh_url

TURNS = 50
#: Not enough for a lease to end by itself.
AT_ONCE_S = 5.0
SESSION = {"x-session-id": "s"}


class Relay:
    """Gateways of both edges on one state, one after the other: the next ones start while one serves, for a start takes half a second."""

    def __init__(self, gateways: list[Gateway]) -> None:
        self._gateways = gateways
        self._starting = deque(self._start(gateway) for gateway in gateways)

    def _start(self, gateway: Gateway) -> asyncio.Task[Gateway]:
        return asyncio.create_task(asyncio.to_thread(gateway.start))

    async def next(self) -> Gateway:
        return await self._starting.popleft()

    def kill(self, gateway: Gateway) -> None:
        gateway.kill()
        self._starting.append(self._start(gateway))

    async def close(self) -> None:
        await asyncio.gather(*self._starting, return_exceptions=True)
        for gateway in self._gateways:
            gateway.close()
            gateway.assert_log_is_clean()


@pytest.fixture(params=["sqlite", "postgres"])
async def relay(
    request: pytest.FixtureRequest, provider: ScriptedProvider, closed_port: int, tmp_path: Path
) -> AsyncIterator[Relay]:
    state = {"database": await fresh_url(request.param, request.config, tmp_path)}
    relay = Relay([Gateway(tmp_path, configuration(provider.port, closed_port, state=state), edge) for edge in EDGES * 2])
    yield relay
    await relay.close()


async def test_fifty_turns_survive_a_kill_between_any_two(relay: Relay, provider: ScriptedProvider) -> None:
    provider.reply(replies.whole(samples.COMPLETION))
    answer = {"role": "assistant", "content": samples.TEXT}
    said: list[object] = []
    for turn in range(TURNS):
        gateway = await relay.next()
        message = {"role": "user", "content": f"{turn}"}
        async with asyncio.timeout(AT_ONCE_S):
            assert (await ask(gateway.url, CHAT, chat(messages=[message]), headers=SESSION)).status == 200
        assert provider.last.json["messages"] == [*said, message]
        said += [message, answer]
        relay.kill(gateway)
    shown = await ask((await relay.next()).url, "/v1/sessions/s")
    assert [turn["body"] for turn in shown.json["turns"]] == said
