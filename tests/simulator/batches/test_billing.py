"""The bill: what the answers say was used, by model, live and in batches, at the list price and at half of it."""

from __future__ import annotations

from typing import Any

import httpx2
import msgspec
import pytest

from agent_gateway.core.pricing import Price
from agent_gateway.core.usage import Usage
from agent_gateway.simulator.batches.billing import MODELS_MAX, Bill, Billing, Line
from agent_gateway.simulator.batches.settings import BatchSettings
from tests.simulator.batches.polling import polled
from tests.simulator.batches.test_openai_batches import ended, lines, read, sdk_of
from tests.simulator.serving import Provider
from tests.simulator.stage import chat

PRICE = Price(0.15, 0.60)


async def bill_of(provider: Provider, model: str) -> dict[str, Line]:
    async with httpx2.AsyncClient(base_url=provider.url) as client:
        answer = await client.get("/billing")
    return {line.mode: line for line in msgspec.json.decode(answer.content, type=Bill).lines if line.model == model}


def cost_usd(usages: list[Any]) -> float:
    return PRICE.cost_usd(Usage(input=sum(one["prompt_tokens"] for one in usages), output=sum(one["completion_tokens"] for one in usages)))


async def test_live_calls_and_batches_are_billed_apart(provider: Provider) -> None:
    async with sdk_of(provider) as sdk:
        batch = await ended(sdk, lines(3, model="billed") + lines(1, model="billed:fail-500").replace(b"item-0", b"bad"))
        batched = [one["response"]["body"]["usage"] for one in await read(sdk, batch.output_file_id)]
        live = [msgspec.json.decode((await provider.post(chat(model="billed"))).partition(b"\r\n\r\n")[2])["usage"] for _ in range(2)]
    bill = await bill_of(provider, "billed")
    assert (bill["live"].calls, bill["live"].failed_calls) == (2, 0)
    assert (bill["batch"].calls, bill["batch"].failed_calls) == (3, 1)
    assert bill["live"].usd == pytest.approx(cost_usd(live), rel=1e-12)
    assert bill["batch"].usd == pytest.approx(cost_usd(batched) / 2, rel=1e-12)


async def test_a_stream_is_billed_once_it_has_begun_and_a_failure_is_not(provider: Provider) -> None:
    cut = await provider.post(chat(model="streamed", stream=True), headers="authorization: Bearer cut-3\r\n")
    assert b"data: " in cut
    await provider.post(chat(model="streamed"), headers="authorization: Bearer fail-500\r\n")
    line = (await bill_of(provider, "streamed"))["live"]
    assert (line.calls, line.failed_calls, line.output_tokens) == (1, 1, 20)


async def test_of_a_batch_without_results_nothing_is_billed(provider: Provider) -> None:
    async with httpx2.AsyncClient(base_url=provider.url, headers={"x-goog-api-key": "any"}) as client:
        request = {"contents": [{"parts": [{"text": "Hello"}]}]}
        body = {"batch": {"display_name": "b", "input_config": {"requests": {"requests": [{"request": request}] * 3}}}}
        answer = await client.post("/v1beta/models/unbilled:batch-expire-2:batchGenerateContent", json=body)
        name = answer.json()["name"]
        operation = await polled(lambda: client.get(f"/v1beta/{name}"), lambda seen: seen.json().get("done", False))
    assert operation.json()["metadata"]["batchStats"]["failedRequestCount"] == "3"
    assert await bill_of(provider, "unbilled") == {}


def test_embeddings_and_total() -> None:
    billing = Billing(BatchSettings(price_input=1, price_output=10))
    billing.note("a:batch-fail", Usage(input=500_000), "live")
    billing.note("a", Usage(input=500_000, output=100_000), "batch")
    billing.note("a", None, "batch")
    bill = billing.told()
    assert [(line.model, line.mode, line.usd) for line in bill.lines] == [("a", "batch", 0.75), ("a", "live", 0.5)]
    assert (bill.total.calls, bill.total.failed_calls, bill.total.input_tokens, bill.total.usd) == (2, 1, 1_000_000, 1.25)


def test_models_beyond_the_bound_are_told_together() -> None:
    billing = Billing(BatchSettings())
    for number in range(MODELS_MAX + 5):
        billing.note(f"m{number}", Usage(input=1), "live")
    lines = billing.told().lines
    assert len(lines) == MODELS_MAX + 1
    assert next(line.calls for line in lines if line.model == "(others)") == 5
