"""Anthropic's message batches of the simulator, as the official `anthropic` SDK uses them on a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic
from anthropic.types.messages import MessageBatch, MessageBatchIndividualResponse

from tests.simulator.batches.polling import polled
from tests.simulator.serving import Provider


def requests(count: int = 4, model: str = "claude-small") -> list[Any]:
    return [request(f"item-{number}", model) for number in range(count)]


def request(custom_id: str, model: str = "claude-small", **fields: Any) -> Any:
    messages = [{"role": "user", "content": f"What about {custom_id}?"}]
    return {"custom_id": custom_id, "params": {"model": model, "max_tokens": 50, "messages": messages, **fields}}


def sdk_of(provider: Provider, key: str = "sk-any") -> AsyncAnthropic:
    return AsyncAnthropic(base_url=provider.url, api_key=key, max_retries=0, timeout=10)


@pytest.fixture
async def sdk(provider: Provider) -> AsyncIterator[AsyncAnthropic]:
    async with sdk_of(provider) as sdk:
        yield sdk


async def ended(sdk: AsyncAnthropic, asked: list[Any]) -> MessageBatch:
    batch = await sdk.messages.batches.create(requests=asked)
    return await end_of(sdk, batch)


async def end_of(sdk: AsyncAnthropic, batch: MessageBatch) -> MessageBatch:
    return await polled(lambda: sdk.messages.batches.retrieve(batch.id), lambda seen: seen.processing_status == "ended")


async def results(sdk: AsyncAnthropic, batch: MessageBatch) -> list[MessageBatchIndividualResponse]:
    return sorted([one async for one in await sdk.messages.batches.results(batch.id)], key=lambda one: one.custom_id)


async def kinds(sdk: AsyncAnthropic, batch: MessageBatch) -> list[tuple[str, str]]:
    return [(one.custom_id, one.result.type) for one in await results(sdk, batch)]


def counts(batch: MessageBatch) -> dict[str, int]:
    return {name: count for name, count in batch.request_counts.model_dump().items() if count}


async def test_a_batch_from_its_requests_to_its_results(sdk: AsyncAnthropic) -> None:
    batch = await sdk.messages.batches.create(requests=requests())
    assert (batch.type, batch.processing_status, batch.results_url) == ("message_batch", "in_progress", None)
    assert counts(batch) == {"processing": 4}
    assert (batch.expires_at - batch.created_at).total_seconds() == 86400
    batch = await end_of(sdk, batch)
    assert counts(batch) == {"succeeded": 4}
    found = await results(sdk, batch)
    assert [one.custom_id for one in found] == ["item-0", "item-1", "item-2", "item-3"]
    result = found[2].result
    assert result.type == "succeeded"
    asked = request("item-2")["params"]
    live = await sdk.messages.create(**asked)
    assert result.message.content == live.content
    assert result.message.usage.output_tokens == live.usage.output_tokens == 20


async def test_there_are_no_results_before_the_end(sdk: AsyncAnthropic) -> None:
    batch = await sdk.messages.batches.create(requests=requests(model="claude-small:batch-hang"))
    with pytest.raises(anthropic.NotFoundError):
        await sdk.get(f"/v1/messages/batches/{batch.id}/results", cast_to=object)
    await sdk.messages.batches.cancel(batch.id)


async def test_each_request_fails_for_itself(sdk: AsyncAnthropic) -> None:
    asked = [
        request("good"),
        request("refused", "claude-small:fail-529"),
        request("lost", "claude-small:hang"),
        request("broken", messages="none"),
        request("streamed", stream=True),
    ]
    batch = await ended(sdk, asked)
    assert counts(batch) == {"succeeded": 1, "errored": 3, "expired": 1}
    found = {one.custom_id: one.result for one in await results(sdk, batch)}
    assert found["good"].type == "succeeded"
    assert found["lost"].type == "expired"
    errors = {name: result.error.error.type for name, result in found.items() if result.type == "errored"}
    assert errors == {"refused": "overloaded_error", "broken": "invalid_request_error", "streamed": "invalid_request_error"}


async def test_a_cancelled_batch_keeps_what_was_answered(sdk: AsyncAnthropic) -> None:
    batch = await sdk.messages.batches.create(requests=requests(model="claude-small:batch-hang"))
    with pytest.raises(anthropic.BadRequestError, match="while it is processing"):
        await sdk.messages.batches.delete(batch.id)
    cancelling = await sdk.messages.batches.cancel(batch.id)
    assert cancelling.processing_status == "canceling"
    assert cancelling.cancel_initiated_at is not None
    batch = await end_of(sdk, batch)
    assert counts(batch) == {"canceled": 4}
    assert {kind for _, kind in await kinds(sdk, batch)} == {"canceled"}
    with pytest.raises(anthropic.BadRequestError, match="has ended"):
        await sdk.messages.batches.cancel(batch.id)
    assert (await sdk.messages.batches.delete(batch.id)).type == "message_batch_deleted"
    with pytest.raises(anthropic.NotFoundError):
        await sdk.messages.batches.retrieve(batch.id)


async def test_batches_are_listed_youngest_first_and_to_their_own_key_only(provider: Provider) -> None:
    async with sdk_of(provider, "sk-listing") as sdk, sdk_of(provider, "sk-stranger") as stranger:
        made = [(await sdk.messages.batches.create(requests=requests(1))).id for _ in range(3)]
        assert [one.id async for one in sdk.messages.batches.list(limit=2)] == made[::-1]
        younger = await sdk.messages.batches.list(before_id=made[0], limit=1)
        assert ([one.id for one in younger.data], younger.has_more) == ([made[1]], True)
        assert [one.id async for one in stranger.messages.batches.list()] == []
        with pytest.raises(anthropic.NotFoundError):
            await stranger.messages.batches.cancel(made[0])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ([], "expected 1 to 100000"),
        ([request("same"), request("same")], "used more than once"),
        ([request("what is this")], "should match pattern"),
        ([{"params": {}}], "custom_id"),
    ],
)
async def test_what_is_no_batch_is_refused(sdk: AsyncAnthropic, asked: list[Any], said: str) -> None:
    with pytest.raises(anthropic.BadRequestError, match=said):
        await sdk.messages.batches.create(requests=asked)


@pytest.mark.parametrize(
    ("suffix", "seen"),
    [
        ("batch-fail", [("item-0", "errored"), ("item-1", "errored"), ("item-2", "errored")]),
        ("batch-expire-2", [("item-0", "succeeded"), ("item-1", "succeeded"), ("item-2", "expired")]),
        ("batch-error-2", [("item-0", "errored"), ("item-1", "succeeded"), ("item-2", "errored")]),
        ("batch-miss-2", [("item-1", "succeeded")]),
        ("batch-double-3", [("item-0", "succeeded"), ("item-0", "succeeded"), ("item-1", "succeeded"), ("item-2", "succeeded")]),
        ("batch-strange-3", [("item-1", "succeeded"), ("item-2", "succeeded"), ("strange-item-0", "succeeded")]),
    ],
)
async def test_results_that_are_not_what_was_asked(sdk: AsyncAnthropic, suffix: str, seen: list[tuple[str, str]]) -> None:
    batch = await ended(sdk, requests(3, f"claude-small:{suffix}"))
    assert await kinds(sdk, batch) == seen


async def test_results_that_are_gone(sdk: AsyncAnthropic) -> None:
    batch = await ended(sdk, requests(1, "claude-small:batch-gone"))
    with pytest.raises(anthropic.NotFoundError, match="no longer available"):
        await results(sdk, batch)


async def test_a_batch_that_is_refused(sdk: AsyncAnthropic) -> None:
    with pytest.raises(anthropic.RateLimitError):
        await sdk.messages.batches.create(requests=requests(1, "claude-small:batch-refuse"))
