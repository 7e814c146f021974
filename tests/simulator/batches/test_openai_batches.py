"""OpenAI's files and batches of the simulator, as the official `openai` SDK uses them on a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import openai
import pytest
from openai import AsyncOpenAI
from openai.types import Batch

from tests.simulator.batches.polling import polled
from tests.simulator.serving import Provider

CHAT: Any = "/v1/chat/completions"
FORM = "multipart/form-data; boundary=XX"
ENDED = ("completed", "failed", "expired", "cancelled")


def lines(count: int = 4, model: str = "gpt-4o-mini", url: str = CHAT, **fields: Any) -> bytes:
    return b"".join([line(f"item-{number}", model, url, **fields) for number in range(count)])


def line(custom_id: str, model: str = "gpt-4o-mini", url: str = CHAT, **fields: Any) -> bytes:
    messages = [{"role": "user", "content": f"What about {custom_id}?"}]
    body = {"model": model, **(fields or {"messages": messages})}
    return msgspec.json.encode({"custom_id": custom_id, "method": "POST", "url": url, "body": body}) + b"\n"


def sdk_of(provider: Provider, key: str = "sk-any") -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{provider.url}/v1", api_key=key, max_retries=0, timeout=10)


@pytest.fixture
async def sdk(provider: Provider) -> AsyncIterator[AsyncOpenAI]:
    async with sdk_of(provider) as sdk:
        yield sdk


async def made(sdk: AsyncOpenAI, content: bytes, endpoint: Any = CHAT, **fields: Any) -> Batch:
    file = await sdk.files.create(file=("in.jsonl", content), purpose="batch")
    return await sdk.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **fields)


async def ended(sdk: AsyncOpenAI, content: bytes, endpoint: Any = CHAT, **fields: Any) -> Batch:
    return await end_of(sdk, await made(sdk, content, endpoint, **fields))


async def end_of(sdk: AsyncOpenAI, batch: Batch) -> Batch:
    return await polled(lambda: sdk.batches.retrieve(batch.id), lambda seen: seen.status in ENDED)


async def read(sdk: AsyncOpenAI, file_id: str | None) -> list[Any]:
    if file_id is None:
        return []
    content = (await sdk.files.content(file_id)).content
    return [msgspec.json.decode(one) for one in content.splitlines()]


async def ids(sdk: AsyncOpenAI, file_id: str | None) -> list[str]:
    return sorted([one["custom_id"] for one in await read(sdk, file_id)])


async def test_a_batch_from_its_file_to_its_results(sdk: AsyncOpenAI) -> None:
    batch = await made(sdk, lines(), metadata={"part": "p1"})
    assert (batch.status, batch.metadata, batch.model) == ("validating", {"part": "p1"}, "gpt-4o-mini")
    batch = await end_of(sdk, batch)
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (4, 4, 0)
    results = await read(sdk, batch.output_file_id)
    assert batch.error_file_id is None
    assert sorted([one["custom_id"] for one in results]) == [f"item-{number}" for number in range(4)]
    assert {one["response"]["status_code"] for one in results} == {200}
    assert batch.usage is not None
    assert batch.usage.output_tokens == sum([one["response"]["body"]["usage"]["completion_tokens"] for one in results]) == 80
    live = await sdk.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "What about item-2?"}])
    answer = next(one["response"]["body"] for one in results if one["custom_id"] == "item-2")
    assert answer["choices"][0]["message"]["content"] == live.choices[0].message.content


@pytest.mark.parametrize(
    ("endpoint", "fields", "object"),
    [
        ("/v1/completions", {"prompt": "Once"}, "text_completion"),
        ("/v1/embeddings", {"input": ["a", "b"]}, "list"),
        ("/v1/responses", {"input": "Hello"}, "response"),
    ],
)
async def test_other_endpoints(sdk: AsyncOpenAI, endpoint: str, fields: Any, object: str) -> None:
    batch = await ended(sdk, lines(2, url=endpoint, **fields), endpoint)
    assert [one["response"]["body"]["object"] for one in await read(sdk, batch.output_file_id)] == [object, object]


async def test_files(sdk: AsyncOpenAI) -> None:
    content = b"\x00\r\n--not a boundary\r\n" * 1000
    file = await sdk.files.create(file=("notes.txt", content), purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600})
    assert (file.filename, file.bytes, file.purpose) == ("notes.txt", len(content), "user_data")
    assert file.expires_at == file.created_at + 3600
    assert (await sdk.files.content(file.id)).content == content
    assert file.id in [one.id async for one in sdk.files.list(purpose="user_data", limit=1)]
    assert (await sdk.files.delete(file.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await sdk.files.retrieve(file.id)


@pytest.mark.parametrize(
    ("content_type", "body", "said"),
    [
        ("application/json", b"{}", "415 "),
        (FORM, b'--XX\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--XX--', "a file is required"),
        (FORM, b'--XX\r\ncontent-disposition: form-data; name="file"\r\n\r\nx\r\n--XX--', "purpose: is required"),
        (FORM, b'--XX\r\ncontent-disposition: form-data; name="file"\r\n\r\nx', "breaks off"),
    ],
)
async def test_a_form_that_is_no_upload_is_refused(provider: Provider, content_type: str, body: bytes, said: str) -> None:
    assert said.encode() in await provider.post(body, "/v1/files", f"content-type: {content_type}\r\n")


async def test_results_are_kept_as_long_as_was_asked(sdk: AsyncOpenAI) -> None:
    batch = await ended(sdk, lines(1), output_expires_after={"anchor": "created_at", "seconds": 3600})
    file = await sdk.files.retrieve(batch.output_file_id or "")
    assert (file.purpose, file.expires_at) == ("batch_output", file.created_at + 3600)
    with pytest.raises(openai.BadRequestError, match="from 3600 to 2592000"):
        await made(sdk, lines(1), output_expires_after={"anchor": "created_at", "seconds": 60})


async def test_batches_are_listed_youngest_first_and_to_their_own_key_only(provider: Provider) -> None:
    async with sdk_of(provider, "sk-listing") as sdk, sdk_of(provider, "sk-stranger") as stranger:
        made_ones = [await made(sdk, lines(1), metadata={"part": str(number)}) for number in range(3)]
        assert [one.id async for one in sdk.batches.list(limit=2)] == [one.id for one in reversed(made_ones)]
        assert [one.id async for one in stranger.batches.list()] == []
        with pytest.raises(openai.NotFoundError, match="No batch found"):
            await stranger.batches.retrieve(made_ones[0].id)
        with pytest.raises(openai.NotFoundError, match="No such File"):
            await stranger.files.content(made_ones[0].input_file_id)


async def test_a_cancelled_batch_keeps_what_was_answered(sdk: AsyncOpenAI) -> None:
    batch = await made(sdk, lines(model="gpt-4o-mini:batch-hang-2"))
    await polled(
        lambda: sdk.batches.retrieve(batch.id), lambda seen: seen.request_counts is not None and seen.request_counts.completed == 2
    )
    assert (await sdk.batches.cancel(batch.id)).status == "cancelling"
    cancelled = await end_of(sdk, batch)
    assert cancelled.status == "cancelled"
    assert await ids(sdk, cancelled.output_file_id) == ["item-0", "item-1"]
    left = await read(sdk, cancelled.error_file_id)
    assert {one["error"]["code"] for one in left} == {"batch_cancelled"}
    assert sorted([one["custom_id"] for one in left]) == ["item-2", "item-3"]
    with pytest.raises(openai.ConflictError):
        await sdk.batches.cancel(batch.id)


async def test_a_file_that_cannot_run_is_told_line_by_line(sdk: AsyncOpenAI) -> None:
    bad = [
        line("a"),
        b"{not json\n",
        line("a"),
        line("b", url="/v1/embeddings"),
        line("c", model="gpt-4o"),
        line("d", messages=7),
        line("e", messages=[{"role": "user", "content": "x"}], stream=True),
        b'{"custom_id": "f"}\n',
    ]
    batch = await ended(sdk, b"\n".join([one.rstrip() for one in bad]))
    assert batch.status == "failed"
    assert batch.errors is not None
    assert [(error.line, error.code) for error in batch.errors.data or []] == [
        (2, "invalid_json_line"),
        (3, "duplicate_custom_id"),
        (4, "mismatched_url"),
        (5, "mismatched_model"),
        (6, "invalid_request"),
        (7, "invalid_request"),
        (8, "invalid_request"),
    ]
    assert (batch.output_file_id, batch.error_file_id) == (None, None)
    empty = await ended(sdk, b"\n")
    assert empty.errors is not None
    assert [error.code for error in empty.errors.data or []] == ["empty_file"]


async def test_what_is_no_batch_is_refused(sdk: AsyncOpenAI) -> None:
    file = await sdk.files.create(file=("in.jsonl", lines(1)), purpose="batch")
    with pytest.raises(openai.NotFoundError):
        await sdk.batches.create(input_file_id="file-none", endpoint=CHAT, completion_window="24h")
    wrong: list[dict[str, Any]] = [
        {"endpoint": "/v1/nope", "completion_window": "24h"},
        {"endpoint": CHAT, "completion_window": "1h"},
    ]
    for fields in wrong:
        with pytest.raises(openai.BadRequestError):
            await sdk.batches.create(input_file_id=file.id, **fields)
    with pytest.raises(openai.BadRequestError, match="is not in this list"):
        await sdk.batches.list(after="batch_none")
    with pytest.raises(openai.APIStatusError) as caught:
        await sdk.delete("/batches", cast_to=object)
    assert caught.value.status_code == 405


async def test_single_items_fail_by_their_models_suffix(sdk: AsyncOpenAI) -> None:
    content = line("good") + line("bad", "gpt-4o-mini:fail-400") + line("lost", "gpt-4o-mini:hang") + line("cut", "gpt-4o-mini:cut-1")
    batch = await ended(sdk, content)
    assert batch.status == "completed"
    assert await ids(sdk, batch.output_file_id) == ["good"]
    failed = {one["custom_id"]: one for one in await read(sdk, batch.error_file_id)}
    assert failed["bad"]["response"]["status_code"] == 400
    assert failed["cut"]["response"]["status_code"] == 500
    assert failed["lost"]["error"]["code"] == "batch_expired"


async def test_a_batch_that_fails_as_a_whole(provider: Provider, sdk: AsyncOpenAI) -> None:
    batch = await ended(sdk, lines(model="gpt-4o-mini:batch-fail"))
    assert (batch.status, batch.output_file_id, batch.error_file_id) == ("failed", None, None)
    assert batch.errors is not None
    assert [error.code for error in batch.errors.data or []] == ["server_error"]
    async with sdk_of(provider, "batch-fail") as steered:
        assert (await ended(steered, lines())).status == "failed"
        answer = await steered.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Live?"}])
        assert answer.choices[0].message.content


async def test_a_batch_that_expires(sdk: AsyncOpenAI) -> None:
    batch = await ended(sdk, lines(model="gpt-4o-mini:batch-expire-1"))
    assert batch.status == "expired"
    assert await ids(sdk, batch.output_file_id) == ["item-0"]
    assert {one["error"]["code"] for one in await read(sdk, batch.error_file_id)} == {"batch_expired"}


@pytest.mark.parametrize(
    ("suffix", "seen"),
    [
        ("batch-miss-2", ["item-1", "item-3"]),
        ("batch-double-3", ["item-0", "item-0", "item-1", "item-2", "item-3", "item-3"]),
        ("batch-strange-4", ["item-1", "item-2", "item-3", "strange-item-0"]),
        ("batch-error-2", ["item-1", "item-3"]),
    ],
)
async def test_results_that_are_not_what_was_asked(sdk: AsyncOpenAI, suffix: str, seen: list[str]) -> None:
    batch = await ended(sdk, lines(model=f"gpt-4o-mini:{suffix}"))
    assert batch.status == "completed"
    assert await ids(sdk, batch.output_file_id) == seen


async def test_results_that_are_garbled(sdk: AsyncOpenAI) -> None:
    batch = await ended(sdk, lines(model="gpt-4o-mini:batch-garble"))
    assert batch.output_file_id is not None
    good = bad = 0
    for one in (await sdk.files.content(batch.output_file_id)).content.splitlines():
        try:
            msgspec.json.decode(one)
            good += 1
        except msgspec.DecodeError:
            bad += 1
    assert (good, bad) == (2, 2)


async def test_results_that_are_gone(sdk: AsyncOpenAI) -> None:
    batch = await ended(sdk, lines(model="gpt-4o-mini:batch-gone"))
    assert batch.output_file_id is not None
    with pytest.raises(openai.NotFoundError):
        await sdk.files.content(batch.output_file_id)


async def test_a_batch_that_is_refused(sdk: AsyncOpenAI) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        await made(sdk, lines(model="gpt-4o-mini:batch-refuse"))
    assert caught.value.response.headers["retry-after"] == "1"
    with pytest.raises(openai.BadRequestError):
        await made(sdk, lines(model="gpt-4o-mini:batch-refuse-400"))


async def test_the_key_makes_every_call_fail(provider: Provider) -> None:
    async with sdk_of(provider, "fail-401") as sdk:
        with pytest.raises(openai.AuthenticationError):
            await sdk.batches.list()
    async with sdk_of(provider, "hang") as sdk:
        with pytest.raises(openai.APITimeoutError):
            await sdk.with_options(timeout=0.2).batches.list()
