"""Gemini's batches and files of the simulator, as the official `google-genai` SDK uses them on a real socket."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx2
import msgspec
import pytest
from google import genai
from google.genai import errors, types

from tests.simulator.batches.polling import polled
from tests.simulator.serving import Provider

MODEL = "gemini-2.5-flash"
experimental = pytest.mark.filterwarnings("ignore:batches.create_embeddings")
ENDED = ("JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED")


def client_of(provider: Provider, key: str = "any") -> genai.client.AsyncClient:
    return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=provider.url)).aio


@pytest.fixture
async def sdk(provider: Provider) -> AsyncIterator[genai.client.AsyncClient]:
    async with client_of(provider) as client:
        yield client


def inline(count: int = 4) -> list[Any]:
    return [{"contents": f"What about item-{number}?", "metadata": {"key": f"item-{number}"}} for number in range(count)]


def line(key: str, **fields: Any) -> bytes:
    contents = [{"role": "user", "parts": [{"text": f"What about {key}?"}]}]
    return msgspec.json.encode({"key": key, "request": {"contents": contents, **fields}}) + b"\n"


def lines(count: int = 4) -> bytes:
    return b"".join([line(f"item-{number}") for number in range(count)])


async def end_of(sdk: genai.client.AsyncClient, job: types.BatchJob) -> types.BatchJob:
    return await polled(lambda: sdk.batches.get(name=job.name or ""), lambda seen: seen.state in ENDED)


async def ended_inline(sdk: genai.client.AsyncClient, asked: list[Any], suffix: str = "") -> Any:
    job = await end_of(sdk, await sdk.batches.create(model=f"{MODEL}{suffix}", src=asked))
    assert job.state == "JOB_STATE_SUCCEEDED"
    assert job.dest is not None
    return job.dest.inlined_responses


async def uploaded(sdk: genai.client.AsyncClient, content: bytes) -> str:
    file = await sdk.files.upload(file=io.BytesIO(content), config={"mime_type": "application/jsonl", "display_name": "in"})
    return file.name or ""


async def ended_by_file(sdk: genai.client.AsyncClient, content: bytes, suffix: str = "") -> list[bytes]:
    job = await end_of(sdk, await sdk.batches.create(model=f"{MODEL}{suffix}", src=await uploaded(sdk, content)))
    assert job.dest is not None
    return (await sdk.files.download(file=job.dest.file_name or "")).splitlines()


async def keys_by_file(sdk: genai.client.AsyncClient, suffix: str) -> list[str]:
    return [msgspec.json.decode(one)["key"] for one in await ended_by_file(sdk, lines(), suffix)]


async def test_an_inline_batch(sdk: genai.client.AsyncClient) -> None:
    job = await sdk.batches.create(model=MODEL, src=inline(), config={"display_name": "part p1"})
    assert (job.state, job.display_name, job.model) == ("JOB_STATE_PENDING", "part p1", f"models/{MODEL}")
    job = await end_of(sdk, job)
    assert job.state == "JOB_STATE_SUCCEEDED"
    assert job.end_time is not None
    assert job.dest is not None
    found = job.dest.inlined_responses or []
    assert [one.metadata for one in found] == [{"key": f"item-{number}"} for number in range(4)]
    live = await sdk.models.generate_content(model=MODEL, contents="What about item-2?")
    assert found[2].response is not None
    assert found[2].response.text == live.text


async def test_a_batch_by_file(sdk: genai.client.AsyncClient) -> None:
    content = lines(2) + line("wrong", contents=[]) + b"{not json\n"
    answered, also, wrong, broken = [msgspec.json.decode(one) for one in await ended_by_file(sdk, content)]
    live = await sdk.models.generate_content(model=MODEL, contents="What about item-0?")
    assert (answered["key"], also["key"]) == ("item-0", "item-1")
    assert types.GenerateContentResponse.model_validate(answered["response"]).text == live.text
    assert (wrong["key"], wrong["error"]["code"]) == ("wrong", 3)
    assert "contents" in wrong["error"]["message"]
    assert (broken["key"], broken["error"]["code"]) == ("", 3)


@experimental
async def test_embeddings(sdk: genai.client.AsyncClient) -> None:
    source: Any = {"inlined_requests": {"contents": ["bread", "wine"], "config": {"output_dimensionality": 8}}}
    job = await end_of(sdk, await sdk.batches.create_embeddings(model="gemini-embedding-001", src=source))
    assert job.dest is not None
    found = job.dest.inlined_embed_content_responses or []
    vectors = [one.response.embedding.values for one in found if one.response and one.response.embedding]
    assert [len(vector or ()) for vector in vectors] == [8, 8]
    assert vectors[0] != vectors[1]


@experimental
async def test_embeddings_by_file(sdk: genai.client.AsyncClient) -> None:
    requests = [{"key": "a", "request": {"content": {"parts": [{"text": "bread"}]}}}, {"key": "b", "request": {}}]
    name = await uploaded(sdk, b"\n".join([msgspec.json.encode(one) for one in requests]))
    job = await end_of(sdk, await sdk.batches.create_embeddings(model="gemini-embedding-001", src={"file_name": name}))
    assert job.dest is not None
    found = [msgspec.json.decode(one) for one in (await sdk.files.download(file=job.dest.file_name or "")).splitlines()]
    assert len(found[0]["response"]["embedding"]["values"]) == 3072
    assert (found[1]["key"], found[1]["error"]["code"]) == ("b", 3)


async def test_a_file_is_sent_in_pieces(sdk: genai.client.AsyncClient) -> None:
    content = b"x" * (9 * 1024 * 1024)  # the SDK's pieces have 8 MB
    name = await uploaded(sdk, content)
    file = await sdk.files.get(name=name)
    assert (file.size_bytes, file.mime_type, file.display_name) == (len(content), "application/jsonl", "in")
    assert name in [one.name async for one in await sdk.files.list(config={"page_size": 1})]
    with pytest.raises(errors.ClientError, match="only generated files"):
        await sdk.files.download(file=name)
    await sdk.files.delete(name=name)
    with pytest.raises(errors.ClientError, match="was not found"):
        await sdk.files.get(name=name)


async def test_an_upload_that_broke_off_goes_on_where_it_was(provider: Provider) -> None:
    async with httpx2.AsyncClient(base_url=provider.url, headers={"x-goog-api-key": "any"}) as client:
        start = {"x-goog-upload-protocol": "resumable", "x-goog-upload-command": "start"}
        begun = await client.post("/upload/v1beta/files", headers=start, json={"file": {"display_name": "d"}})
        url = begun.headers["x-goog-upload-url"]

        async def send(command: str, offset: int, content: bytes = b"") -> httpx2.Response:
            return await client.post(url, headers={"x-goog-upload-command": command, "x-goog-upload-offset": str(offset)}, content=content)

        assert (await send("upload", 0, b"abc")).headers["x-goog-upload-status"] == "active"
        assert (await send("upload", 0, b"abc")).status_code == 400
        assert (await send("query", 0)).headers["x-goog-upload-size-received"] == "3"
        assert (await send("shout", 0)).status_code == 400
        final = await send("upload, finalize", 3, b"de")
        assert final.headers["x-goog-upload-status"] == "final"
        assert final.json()["file"]["sizeBytes"] == "5"
        assert (await send("upload", 5, b"f")).status_code == 404


async def test_batches_are_listed_youngest_first_and_to_their_own_key_only(provider: Provider) -> None:
    async with client_of(provider, "listing") as sdk, client_of(provider, "stranger") as stranger:
        made = [(await sdk.batches.create(model=MODEL, src=inline(1))).name for _ in range(3)]
        assert [one.name async for one in await sdk.batches.list(config={"page_size": 2})] == made[::-1]
        assert [one.name async for one in await stranger.batches.list()] == []
        with pytest.raises(errors.ClientError, match="was not found"):
            await stranger.batches.get(name=made[0] or "")
        with pytest.raises(errors.ClientError, match="was not found"):
            await stranger.batches.create(model=MODEL, src=await uploaded(sdk, lines()))


async def test_a_cancelled_batch_has_no_results(sdk: genai.client.AsyncClient) -> None:
    job = await sdk.batches.create(model=f"{MODEL}:batch-hang-2", src=inline())
    await sdk.batches.cancel(name=job.name or "")
    job = await end_of(sdk, job)
    assert (job.state, job.dest) == ("JOB_STATE_CANCELLED", None)
    await sdk.batches.delete(name=job.name or "")
    with pytest.raises(errors.ClientError, match="was not found"):
        await sdk.batches.get(name=job.name or "")


@pytest.mark.parametrize(("suffix", "state"), [(":batch-fail", "JOB_STATE_FAILED"), (":batch-expire-1", "JOB_STATE_EXPIRED")])
async def test_a_batch_that_comes_to_nothing(sdk: genai.client.AsyncClient, suffix: str, state: str) -> None:
    job = await end_of(sdk, await sdk.batches.create(model=f"{MODEL}{suffix}", src=inline()))
    assert (job.state, job.dest) == (state, None)


async def test_what_is_no_batch_is_refused(sdk: genai.client.AsyncClient) -> None:
    with pytest.raises(errors.ClientError, match="has no requests"):
        await sdk.batches.create(model=MODEL, src=[])
    with pytest.raises(errors.ClientError, match="files/none"):
        await sdk.batches.create(model=MODEL, src="files/none")
    with pytest.raises(errors.ClientError) as caught:
        await sdk.batches.create(model=f"{MODEL}:batch-refuse", src=inline())
    assert caught.value.code == 429


@pytest.mark.parametrize(
    ("suffix", "seen"),
    [
        (":batch-miss-2", ["item-1", "item-3"]),
        (":batch-double-3", ["item-0", "item-0", "item-1", "item-2", "item-3", "item-3"]),
        (":batch-strange-4", ["strange-item-0", "item-1", "item-2", "item-3"]),
    ],
)
async def test_results_in_a_file_that_are_not_what_was_asked(sdk: genai.client.AsyncClient, suffix: str, seen: list[str]) -> None:
    assert await keys_by_file(sdk, suffix) == seen


async def test_inline_results_that_are_not_what_was_asked(sdk: genai.client.AsyncClient) -> None:
    assert [one.metadata["key"] for one in await ended_inline(sdk, inline(3), ":batch-miss-2")] == ["item-1"]
    assert [one.metadata["key"] for one in await ended_inline(sdk, inline(2), ":batch-strange-2")] == ["strange-0", "item-1"]
    assert [bool(one.error) for one in await ended_inline(sdk, inline(3), ":batch-error-2")] == [True, False, True]
    assert await ended_inline(sdk, inline(2), ":batch-gone") in ([], None)


async def test_results_that_are_garbled(sdk: genai.client.AsyncClient) -> None:
    good = 0
    for one in await ended_by_file(sdk, lines(), ":batch-garble-2"):
        with suppress(msgspec.DecodeError):
            good += "response" in msgspec.json.decode(one)
    assert good == 2


async def test_a_results_file_that_is_gone(sdk: genai.client.AsyncClient) -> None:
    with pytest.raises(errors.ClientError, match="was not found"):
        await ended_by_file(sdk, lines(), ":batch-gone")
