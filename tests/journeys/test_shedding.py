"""More than a deployment has room for: what waits, what is refused at once, what the record and the metrics say of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.journeys.conftest import Launch, one_edge
from tests.kit import replies, samples
from tests.kit.chains import recorded
from tests.kit.client import CHAT, Reply, ask, chat, chat_request, connect
from tests.kit.eventually import eventually
from tests.kit.gateway import Gateway
from tests.kit.provider import Heard, Peer, Script, ScriptedProvider

pytestmark = one_edge
FULL = b'agent_gateway_concurrency_limit{deployment="scripted/gpt-4o-mini-2024-07-18"}'


class Crowded:
    """A provider that holds what it is asked until it is told to answer, and turns away what is above its capacity."""

    def __init__(self, provider: ScriptedProvider, capacity: int = 10**6, *, hold: bool = True) -> None:
        self.under_way = 0
        self.most_under_way = 0
        self.refused = 0
        self.capacity = capacity
        self._answer = asyncio.Event()
        self._hold = hold
        self._whole = replies.whole(samples.COMPLETION)
        self._too_many = replies.whole(samples.error_body("Too many at once.", "rate_limit_exceeded"), 429)
        provider.reply_by(self._script_for)

    def answer(self) -> None:
        self._answer.set()

    def _script_for(self, heard: Heard) -> Script:
        if self.under_way >= self.capacity:
            self.refused += 1
            return self._too_many
        return self._held

    async def _held(self, peer: Peer) -> None:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await (self._answer.wait() if self._hold else asyncio.sleep(0.02))
        finally:
            self.under_way -= 1
        await self._whole(peer)


def asking(gateway: Gateway, **headers: str) -> asyncio.Task[Reply]:
    return asyncio.create_task(ask(gateway.url, CHAT, chat(), headers=headers))


async def until(look: Callable[[dict[str, Any]], bool], gateway: Gateway, expected: str) -> None:
    """What `/admin/v1/routes` shows of the model's deployment."""
    seen: list[dict[str, Any]] = []
    for _ in range(500):
        routes = (await ask(gateway.url, "/admin/v1/routes")).json["data"]
        seen = next(route["deployments"] for route in routes if route["name"] == "chat")
        if look(seen[0]):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{expected}: {seen}")


async def waiting(gateway: Gateway, count: int) -> None:
    await until(lambda deployment: deployment["waiting"] == count, gateway, f"{count} to wait")


async def metrics(gateway: Gateway) -> bytes:
    return (await ask(gateway.url, "/metrics")).body


async def test_max_is_exact_and_the_others_wait_their_turn(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch(concurrency={"max": 2})
    crowded = Crowded(provider)
    asked = [asking(gateway) for _ in range(5)]
    await waiting(gateway, 3)
    await eventually(lambda: crowded.under_way == 2, "the calls that have room")
    assert len(provider.heard) == 2
    assert FULL + b" 2.0" in await metrics(gateway)
    crowded.answer()
    answers = await asyncio.gather(*asked)
    assert [reply.status for reply in answers] == [200] * 5
    assert crowded.most_under_way == 2
    records = [await recorded(gateway, reply) for reply in answers]
    queued_ms = sorted([record["attempts"][0].get("queued_ms", 0) for record in records])
    assert queued_ms[:2] == [0, 0]
    assert queued_ms[2] > 10
    assert [record["attempts_count"] for record in records] == [1] * 5
    for record, reply in zip(records, answers, strict=True):
        not_queued_ms = record["duration_ms"] - record["attempts"][0].get("queued_ms", 0) + 1
        assert record["overhead_ms"] <= not_queued_ms, "a wait for room is not the gateway's own time"
        assert float(reply.headers["x-gateway-overhead-ms"]) <= not_queued_ms


async def test_who_may_not_wait_is_refused_at_once(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch(concurrency={"max": 1, "queue_max": 1}, fallback={})
    crowded = Crowded(provider)
    under_way = asking(gateway)
    await until(lambda deployment: deployment["in_flight"] == 1, gateway, "the first to be asked")
    in_line = asking(gateway)
    await waiting(gateway, 1)
    refused = await asking(gateway)
    assert (refused.status, refused.error["code"], refused.headers["retry-after"]) == (503, "overloaded", "1")
    assert "x-gateway-attempts" not in refused.headers
    record = await recorded(gateway, refused)
    assert (record["status"], record["error_code"], record["attempts_count"]) == ("error", "overloaded", 0)
    assert b'agent_gateway_shed_total{reason="queue"} 1.0' in await metrics(gateway)
    crowded.answer()
    assert [(await task).status for task in (under_way, in_line)] == [200, 200]


async def test_it_waits_under_its_deadline(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch(concurrency={"max": 1})
    crowded = Crowded(provider)
    under_way = asking(gateway)
    await until(lambda deployment: deployment["in_flight"] == 1, gateway, "the first to be asked")
    late = await asking(gateway, **{"x-gateway-timeout-s": "0.6"})
    assert (late.status, late.error["param"]) == (503, "deadline")
    record = await recorded(gateway, late)
    assert 450 <= record["duration_ms"] < 10_000
    assert record["overhead_ms"] <= record["duration_ms"] - 150, "the wait is not the gateway's own time"
    crowded.answer()
    assert (await under_way).status == 200


async def test_who_leaves_the_line_leaves_it_at_once(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch(concurrency={"max": 1})
    crowded = Crowded(provider)
    under_way = asking(gateway)
    await until(lambda deployment: deployment["in_flight"] == 1, gateway, "the first to be asked")
    async with connect(gateway.url) as wire:
        await wire.send(chat_request())
        await waiting(gateway, 1)
        wire.hang_up()
        await waiting(gateway, 0)
    crowded.answer()
    assert (await under_way).status == 200
    [record] = await eventually(lambda: [one for one in gateway.records if one["http_status"] == 499], "its record")
    assert (record["error_code"], record["attempts_count"]) == ("client_left", 0)
    assert len(provider.heard) == 1


async def test_a_fallback_with_room_answers_meanwhile(launch: Launch, provider: ScriptedProvider) -> None:
    spare = {"deployments": [{"provider": "scripted", "model": "spare-2024"}]}
    own = {"deployments": [{"provider": "scripted", "model": samples.PROVIDER_MODEL}], "concurrency": {"max": 1}, "fallbacks": ["spare"]}
    gateway = launch(models={"chat": own, "spare": {**spare, "concurrency": {"max": 5}}})
    crowded = Crowded(provider)
    under_way = asking(gateway)
    await until(lambda deployment: deployment["in_flight"] == 1, gateway, "the first to be asked")
    overflow = asking(gateway)
    await eventually(lambda: len(provider.heard) == 2, "both to be asked")
    crowded.answer()
    reply = await overflow
    assert [reply.headers[f"x-gateway-{name}"] for name in ("status", "reason", "model")] == ["fallback", "full", "scripted/spare-2024"]
    assert (await under_way).headers["x-gateway-status"] == "success"


async def test_what_a_provider_can_do_is_learnt_from_what_it_turns_away(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch(retries={"max_attempts": 5, "budget": 1})
    crowded = Crowded(provider, 6, hold=False)

    async def client() -> list[int]:
        return [(await asking(gateway)).status for _ in range(10)]

    statuses = [status for told in await asyncio.gather(*[client() for _ in range(18)]) for status in told]
    assert statuses.count(200) >= 0.95 * len(statuses)
    assert crowded.refused < 0.25 * len(statuses)
    assert FULL in await metrics(gateway)
