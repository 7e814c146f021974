"""Budgets of keys and teams, through both edges: a hundred at once overspend by no more than one, and the 429 says when to come back."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from openai import AsyncOpenAI, RateLimitError

from tests.journeys.conftest import Launch, one_edge
from tests.kit import replies, samples
from tests.kit.client import CHAT, ask, chat
from tests.kit.eventually import eventually
from tests.kit.gateway import Gateway
from tests.kit.provider import ScriptedProvider
from tests.kit.samples import PROVIDER_MODEL

pytestmark = one_edge
#: Each request costs a quarter of a dollar, and is estimated at that.
QUARTER: dict[str, Any] = {"provider": "scripted", "model": PROVIDER_MODEL, "price": {"input": 0, "output": 0, "request": 0.25}}
MODELS = {"chat": {"deployments": [QUARTER]}}
#: No test here takes longer (s).
A_TEST_S = 30


@pytest.fixture(autouse=True)
def _answers(provider: ScriptedProvider) -> None:
    provider.reply(replies.whole(samples.COMPLETION))


async def statuses(gateway: Gateway, times: int) -> list[int]:
    return [reply.status for reply in await asyncio.gather(*(ask(gateway.url, CHAT, chat()) for _ in range(times)))]


async def _day_lasts() -> None:
    """Returns when it is not a moment before midnight (UTC)."""
    left_s = 86_400 - time.time() % 86_400
    if left_s < A_TEST_S:
        await asyncio.sleep(left_s)


async def test_a_hundred_at_once_spend_the_budget_and_no_more(launch: Launch, provider: ScriptedProvider) -> None:
    await _day_lasts()
    gateway = launch(models=MODELS, limits={"budget": {"usd": 5, "per": "day"}})
    answered = await statuses(gateway, 100)
    assert (answered.count(200), answered.count(429)) == (20, 80)
    assert len(provider.heard) == 20
    await ask(gateway.url, "/metrics", None)  # sees every request that has ended, so that none is under way any more
    reply = await ask(gateway.url, CHAT, chat())
    assert (reply.status, reply.error["code"], reply.error["type"]) == (429, "budget_exceeded", "rate_limit_error")
    assert "5 of 5 USD today. It begins anew at " in reply.error["message"]
    midnight = (datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)).timestamp() + 86_400
    assert float(reply.headers["retry-after"]) == pytest.approx(midnight - datetime.now(UTC).timestamp(), abs=5)
    assert reply.headers["x-should-retry"] == "false"
    scrape = await ask(gateway.url, "/metrics", None)
    assert b'agent_gateway_rate_limited_total{reason="budget"} 81.0' in scrape.body


async def test_what_was_spent_outlives_a_restart(launch: Launch) -> None:
    gateway = launch(models=MODELS, limits={"budget": {"usd": 1, "per": "total"}})
    assert await statuses(gateway, 3) == [200] * 3
    assert await asyncio.to_thread(gateway.stop) == 0
    await asyncio.to_thread(gateway.start)
    assert sorted(await statuses(gateway, 10)) == [200] + [429] * 9


async def test_an_official_client_does_not_hammer_a_spent_budget(launch: Launch, provider: ScriptedProvider) -> None:
    """It would try twice more by itself; it is told not to."""
    gateway = launch(models=MODELS, limits={"budget": {"usd": 0.25, "per": "total"}})
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=2) as client:
        messages: Any = [{"role": "user", "content": "Hi"}]
        await client.chat.completions.create(model="chat", messages=messages)
        await ask(gateway.url, "/metrics", None)  # the request before has been settled then
        with pytest.raises(RateLimitError) as refused:
            await client.chat.completions.create(model="chat", messages=messages)
    assert refused.value.code == "budget_exceeded"
    scrape = await ask(gateway.url, "/metrics", None)
    assert b'agent_gateway_rate_limited_total{reason="budget"} 1.0' in scrape.body


async def test_a_soft_share_is_told_to_the_operator(launch: Launch) -> None:
    gateway = launch(models=MODELS, limits={"budget": {"usd": 1, "soft": 0.5}})
    assert await statuses(gateway, 2) == [200, 200]
    await eventually(lambda: "has spent 50 % of its budget: 0.5 of 1 USD this month" in gateway.log, "the log says so")
