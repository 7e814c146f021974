"""What a key may ask for: requests and tokens a minute, requests at once; told in headers, counted in metrics, given back when unused."""

from __future__ import annotations

import asyncio
import time

import pytest
from anthropic import AsyncAnthropic

from tests.journeys.conftest import Launch, one_edge
from tests.kit import replies, samples
from tests.kit.client import CHAT, ask, chat
from tests.kit.eventually import PATIENCE_S, eventually
from tests.kit.gateway import Gateway
from tests.kit.provider import ScriptedProvider

ADMIN_KEY = "sk-admin-0123456789abcdef"


@pytest.fixture(autouse=True)
def _answers(provider: ScriptedProvider) -> None:
    provider.reply(replies.whole(samples.COMPLETION))


async def asked(gateway: Gateway, **headers: str) -> tuple[int, dict[str, str]]:
    reply = await ask(gateway.url, CHAT, chat(), headers=headers)
    return reply.status, dict(reply.headers)


async def test_the_minutes_requests_and_not_one_more(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch(limits={"requests_per_minute": 3})
    for left in (2, 1, 0):
        status, headers = await asked(gateway)
        assert (status, headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == (200, "3", str(left))
    reply = await ask(gateway.url, CHAT, chat())
    assert (reply.status, reply.error["code"], reply.error["type"]) == (429, "rate_limit_exceeded", "rate_limit_error")
    assert "3 requests a minute" in reply.error["message"]
    assert 15 <= int(reply.headers["retry-after"]) <= 20
    assert reply.headers["x-ratelimit-remaining-requests"] == "0"
    assert len(provider.heard) == 3
    scrape = await ask(gateway.url, "/metrics", None)
    assert b'agent_gateway_rate_limited_total{reason="requests"} 1.0' in scrape.body


@one_edge
async def test_tokens_are_set_aside_by_an_estimate_and_settled_by_what_was_used(launch: Launch) -> None:
    gateway = launch(limits={"tokens_per_minute": 10_000})
    _, headers = await asked(gateway)
    assert int(headers["x-ratelimit-remaining-tokens"]) < 9_800  # what an answer may have is set aside

    async def left() -> int:
        return int((await asked(gateway))[1]["x-ratelimit-remaining-tokens"])

    # 29 of each answer were used; the rest comes back once its record is made.
    before = int(headers["x-ratelimit-remaining-tokens"])
    until = time.monotonic() + PATIENCE_S
    while await left() <= before - 200:
        assert time.monotonic() < until, "nothing was given back"
        await asyncio.sleep(0.02)


@one_edge
async def test_a_key_has_limits_of_its_own(launch: Launch) -> None:
    gateway = launch(auth={"admin_key": ADMIN_KEY}, limits={"requests_per_minute": 1})
    generous = gateway.command("keys", "create", "generous", "--rpm", "2").stdout.strip()
    plain = gateway.command("keys", "create", "plain").stdout.strip()
    shown = {secret: {"authorization": f"Bearer {secret}"} for secret in (generous, plain, ADMIN_KEY)}
    assert [(await asked(gateway, **shown[generous]))[0] for _ in range(3)] == [200, 200, 429]
    assert [(await asked(gateway, **shown[plain]))[0] for _ in range(2)] == [200, 429]
    assert {(await asked(gateway, **shown[ADMIN_KEY]))[0] for _ in range(3)} == {200}


async def test_requests_at_once_are_counted_until_they_end_however_they_end(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch(limits={"max_parallel": 2})
    provider.reply(replies.hang)
    waiting = [asyncio.create_task(ask(gateway.url, CHAT, chat())) for _ in range(2)]
    await eventually(lambda: len(provider.heard) == 2, "both asked")
    reply = await ask(gateway.url, CHAT, chat())
    assert (reply.status, reply.error["code"]) == (429, "rate_limit_exceeded")
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    provider.reply(replies.whole(samples.COMPLETION))

    until = time.monotonic() + PATIENCE_S
    while {status for status, _ in await asyncio.gather(asked(gateway), asked(gateway))} != {200}:
        assert time.monotonic() < until, "both slots are free again"
        await asyncio.sleep(0.02)


async def test_an_anthropic_client_finds_them_by_its_own_names(launch: Launch) -> None:
    gateway = launch(limits={"requests_per_minute": 5})
    async with AsyncAnthropic(base_url=gateway.url, api_key="any", max_retries=0) as client:
        raw = await client.messages.with_raw_response.create(model="chat", max_tokens=50, messages=[{"role": "user", "content": "Hi"}])
    assert raw.headers["anthropic-ratelimit-requests-limit"] == "5"
    assert raw.headers["anthropic-ratelimit-requests-remaining"] == "4"
    assert raw.headers["anthropic-ratelimit-requests-reset"].endswith("Z")


@one_edge
async def test_a_user_and_a_model_have_limits_of_their_own(launch: Launch) -> None:
    deployment = {"provider": "scripted", "model": samples.PROVIDER_MODEL}
    models = {"narrow": {"deployments": [deployment], "limits": {"requests_per_minute": 2}}}
    gateway = launch(models=models, limits={"per_user": {"requests_per_minute": 1}})

    async def refused(model: str = "chat", **fields: str) -> str:
        reply = await ask(gateway.url, CHAT, {**chat(model), **fields})
        return str(reply.error["message"]) if reply.status == 429 else ""

    assert await refused(user="ann") == ""
    assert "the user 'ann' of all without a key is reached: 1 requests a minute" in await refused(user="ann")
    assert await refused(user="bob") == ""
    assert [await refused(model="narrow") for _ in range(2)] == ["", ""]
    assert "the model 'narrow' is reached: 2 requests a minute" in await refused(model="narrow")
