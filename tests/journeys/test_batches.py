"""Files and batches with the official SDK, unmodified, over both edges: the way through, what goes wrong, and who sees what."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from typing import Any, Final

import httpx2
import openai
import pytest
from openai import AsyncOpenAI
from openai.types import Batch

from tests.kit.batches import SLOW_S, asked, chats, configuration, jsonl, line, new_key, read_jsonl
from tests.kit.chains import running
from tests.kit.client import connect as connect_raw
from tests.kit.client import request
from tests.kit.eventually import eventually
from tests.kit.gateway import EdgeName, Gateway

ENDED = {"completed", "failed", "expired", "cancelled"}
CHAT: Final = "/v1/chat/completions"
FILES_MAX_MB = 8
MB = 1024 * 1024

Connect = Callable[..., AsyncOpenAI]


@pytest.fixture(scope="module")
def gateway(edge: EdgeName, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    sections = configuration(server={"files_max_mb": FILES_MAX_MB})
    with running(tmp_path_factory.mktemp("batches"), edge, sections) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def keys(gateway: Gateway) -> dict[str, str]:
    narrow = ("--endpoints", "/v1/files*,/v1/batches*,/v1/embeddings")
    return {"alice": new_key(gateway, "alice"), "bob": new_key(gateway, "bob"), "narrow": new_key(gateway, "narrow", *narrow)}


@pytest.fixture
async def connect(gateway: Gateway, keys: dict[str, str]) -> AsyncIterator[Connect]:
    clients: list[AsyncOpenAI] = []

    def client(name: str, **headers: str) -> AsyncOpenAI:
        made = AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=keys[name], max_retries=0, timeout=15, default_headers=headers)
        clients.append(made)
        return made

    yield client
    for each in clients:
        await each.close()


@pytest.fixture
def alice(connect: Connect) -> AsyncOpenAI:
    return connect("alice")


async def submitted(client: AsyncOpenAI, lines: Any, endpoint: Any = CHAT, **more: Any) -> Batch:
    content = lines if isinstance(lines, bytes) else jsonl(lines)
    file = await client.files.create(file=("requests.jsonl", content), purpose="batch")
    return await client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window=more.pop("window", "24h"), **more)


async def until(client: AsyncOpenAI, batch: Batch, true: Callable[[Batch], bool], within_s: float = 15.0) -> Batch:
    limit = time.monotonic() + within_s
    while not true(batch := await client.batches.retrieve(batch.id)):
        assert time.monotonic() < limit, batch
        await asyncio.sleep(0.05)
    return batch


async def ended(client: AsyncOpenAI, batch: Batch) -> Batch:
    return await until(client, batch, lambda batch: batch.status in ENDED)


async def content(client: AsyncOpenAI, file_id: str | None) -> list[Any]:
    assert file_id is not None
    return read_jsonl((await client.files.content(file_id)).content)


def mine(url: str, key: str, **more: Any) -> dict[str, Any]:
    return {"url": url, "headers": {"authorization": f"Bearer {key}", **more.pop("headers", {})}, **more}


# --- the way through --------------------------------------------------------------------------------------------------

BODIES: dict[str, tuple[dict[str, Any], Callable[[Any], Any]]] = {
    CHAT: (asked("Who are you?"), lambda body: body["choices"][0]["message"]["content"]),
    "/v1/completions": ({"model": "chat", "prompt": "Once upon"}, lambda body: body["choices"][0]["text"]),
    "/v1/embeddings": ({"model": "embed", "input": "a text"}, lambda body: body["data"][0]["embedding"]),
    "/v1/responses": ({"model": "chat", "input": "Who are you?"}, lambda body: body["output"][-1]["content"][0]["text"]),
    "/v1/messages": (asked("Who are you?", max_tokens=50), lambda body: body["content"][0]["text"]),
}


@pytest.mark.parametrize("endpoint", BODIES)
async def test_from_a_file_to_its_answers(alice: AsyncOpenAI, endpoint: str) -> None:
    body, answer = BODIES[endpoint]
    made = await submitted(alice, [line(f"item-{number}", body, endpoint) for number in range(3)], endpoint, metadata={"for": "a test"})
    assert (made.object, made.status, made.endpoint, made.completion_window) == ("batch", "validating", endpoint, "24h")
    assert made.expires_at == made.created_at + 86400
    batch = await ended(alice, made)
    assert (batch.status, batch.errors, batch.error_file_id, batch.metadata) == ("completed", None, None, {"for": "a test"})
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 3, "completed": 3, "failed": 0}
    assert batch.in_progress_at
    assert batch.finalizing_at
    assert batch.completed_at
    results = await content(alice, batch.output_file_id)
    assert [result["custom_id"] for result in results] == ["item-0", "item-1", "item-2"]
    for result in results:
        assert result["error"] is None
        assert result["response"]["status_code"] == 200
        assert answer(result["response"]["body"])


async def test_a_file_is_given_back_as_it_was(alice: AsyncOpenAI, tmp_path: Any) -> None:
    """More than one chunk of it."""
    path = tmp_path / "requests of mine.jsonl"
    path.write_bytes(jsonl([line("long", asked("é" * 900_000))] * 3))
    made = await alice.files.create(file=path, purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600})
    assert (made.object, made.filename, made.purpose, made.status) == ("file", path.name, "batch", "processed")
    assert (made.bytes, made.expires_at) == (path.stat().st_size, made.created_at + 3600)
    assert await alice.files.retrieve(made.id) == made
    assert (await alice.files.content(made.id)).content == path.read_bytes()
    async with alice.files.with_streaming_response.content(made.id) as streamed:
        assert b"".join([piece async for piece in streamed.iter_bytes()]) == path.read_bytes()
    assert made in (await alice.files.list(limit=5)).data
    assert (await alice.files.delete(made.id)).deleted
    for gone in (alice.files.retrieve, alice.files.content, alice.files.delete):
        with pytest.raises(openai.NotFoundError):
            await gone(made.id)


async def test_lists_go_on_where_they_ended(connect: Connect) -> None:
    client = connect("alice", **{"x-user-id": "lists"})
    made = [await submitted(client, chats(1)) for _ in range(3)]
    ids = [batch.id for batch in reversed(made)]
    assert [batch.id async for batch in client.batches.list(limit=2)] == ids
    page = await client.batches.list(limit=2)
    assert (page.has_more, [batch.id for batch in page.data]) == (True, ids[:2])
    for batch in made:
        await ended(client, batch)
    inputs = [file.id async for file in client.files.list(purpose="batch", limit=2)]
    assert inputs == [batch.input_file_id for batch in reversed(made)]
    outputs = [file.id async for file in client.files.list(purpose="batch_output")]
    assert len(outputs) == 3
    with pytest.raises(openai.BadRequestError, match="after"):
        await client.files.list(after="file-none")
    for limit in (0, 101):
        with pytest.raises(openai.BadRequestError, match="limit"):
            await client.batches.list(limit=limit)


async def test_what_is_the_same_is_asked_once_and_the_report_is_the_sum_of_the_records(connect: Connect, gateway: Gateway) -> None:
    client = connect("alice", **{"x-user-id": "thrifty"})
    lines = [line(f"item-{number}", asked(f"Question {number % 5}", temperature=0)) for number in range(20)]
    for more, calls in (({}, 5), ({"deduplicate": False}, 20)):
        before = sum(record["user_id"] == "thrifty" for record in gateway.records)
        batch = await ended(client, await submitted(client, lines, extra_body=more))
        report: dict[str, Any] = batch.to_dict()
        assert batch.request_counts is not None
        assert batch.request_counts.to_dict() == {"total": 20, "completed": 20, "failed": 0}
        results = await content(client, batch.output_file_id)
        assert [result["custom_id"] for result in results] == [f"item-{number}" for number in range(20)]
        said = [result["response"]["body"]["choices"][0]["message"]["content"] for result in results]
        assert said == said[:5] * 4
        assert len(set(said)) > 1

        def recorded(count: int = before + calls) -> list[Any] | None:
            mine = [record for record in gateway.records if record["user_id"] == "thrifty"]
            return mine if len(mine) == count else None

        records = (await eventually(recorded, f"{calls} records more"))[before:]
        assert report["cost_usd"] == pytest.approx(sum(record["cost_usd"] for record in records), abs=1e-9)
        assert report["single_call_cost_usd"] == pytest.approx(report["cost_usd"] * 20 / calls)
        assert report["saved_ratio"] == pytest.approx(1 - calls / 20)
        saved_usd = report["single_call_cost_usd"] - report["cost_usd"]
        assert report["saved_by"] == {"native": 0.0, "duplicate": pytest.approx(saved_usd, abs=1e-9), "cache": 0.0}


async def test_answers_are_kept_as_long_as_was_asked(alice: AsyncOpenAI) -> None:
    batch = await ended(alice, await submitted(alice, chats(1), output_expires_after={"anchor": "created_at", "seconds": 7200}))
    file = await alice.files.retrieve(str(batch.output_file_id))
    assert (file.purpose, file.expires_at) == ("batch_output", file.created_at + 7200)


# --- what goes wrong --------------------------------------------------------------------------------------------------


async def test_failed_items_are_in_a_file_of_their_own(alice: AsyncOpenAI) -> None:
    lines = [*chats(2), line("refused", asked("No", "refusing")), line("unknown", asked("No", "no-such-model"))]
    batch = await ended(alice, await submitted(alice, lines))
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 4, "completed": 2, "failed": 2}
    assert {result["custom_id"] for result in await content(alice, batch.output_file_id)} == {"item-0", "item-1"}
    errors = {result["custom_id"]: result["response"] for result in await content(alice, batch.error_file_id)}
    assert {custom_id: response["status_code"] for custom_id, response in errors.items()} == {"refused": 400, "unknown": 404}
    assert errors["unknown"]["body"]["error"]["code"] == "model_not_found"


async def test_each_bad_line_is_told_with_its_number(alice: AsyncOpenAI) -> None:
    good = chats(1)[0]
    bad = [
        b"no json\n",
        jsonl([good, good | {"custom_id": "url", "url": "/v1/embeddings"}]),
        b"\n",
        jsonl([good, good | {"custom_id": "body", "body": {"messages": []}}, {"body": {}}]),
    ]
    batch = await ended(alice, await submitted(alice, b"".join(bad)))
    assert batch.status == "failed"
    assert batch.failed_at
    assert batch.errors is not None
    assert batch.errors.object == "list"
    assert batch.errors.data is not None
    told = [(error.line, error.code) for error in batch.errors.data]
    assert [number for number, _ in told] == [1, 3, 5, 6, 7]
    assert dict(told)[1] == "invalid_json_line"
    assert dict(told)[3] == "invalid_url"
    assert dict(told)[5] == "duplicate_custom_id"
    assert all(error.message for error in batch.errors.data)


async def test_an_empty_file_is_no_batch(alice: AsyncOpenAI) -> None:
    batch = await ended(alice, await submitted(alice, b""))
    assert batch.status == "failed"
    assert batch.errors is not None
    assert [error.code for error in batch.errors.data or []] == ["empty_file"]


async def test_a_batch_is_cancelled(alice: AsyncOpenAI) -> None:
    batch = await submitted(alice, chats(30, "slow"))
    await until(alice, batch, lambda batch: bool(batch.request_counts and batch.request_counts.completed))
    told = await alice.batches.cancel(batch.id)
    assert told.status == "cancelling"
    assert told.cancelling_at
    batch = await ended(alice, batch)
    assert batch.status == "cancelled"
    assert batch.cancelled_at
    assert batch.request_counts is not None
    done = batch.request_counts.completed
    assert 1 <= done < 30
    assert len(await content(alice, batch.output_file_id)) == done
    assert (await alice.batches.cancel(batch.id)).status == "cancelled"


async def test_what_has_ended_cannot_be_cancelled(alice: AsyncOpenAI) -> None:
    batch = await ended(alice, await submitted(alice, chats(1)))
    with pytest.raises(openai.ConflictError):
        await alice.batches.cancel(batch.id)


async def test_what_is_not_done_in_its_window_expires(alice: AsyncOpenAI, gateway: Gateway) -> None:
    batch = await submitted(alice, chats(30, "slow"), window="10m")
    assert batch.expires_at == batch.created_at + 600
    await until(alice, batch, lambda batch: bool(batch.request_counts and batch.request_counts.completed))
    with closing(sqlite3.connect(gateway.folder / "agent-gateway.db", timeout=10)) as database, database:
        database.execute("update batches set expires_at = ? where id = ?", (time.time() + SLOW_S, batch.id))
    batch = await ended(alice, batch)
    assert batch.status == "expired"
    assert batch.expired_at
    done = len(await content(alice, batch.output_file_id))
    expired = await content(alice, batch.error_file_id)
    assert done + len(expired) == 30
    assert {result["error"]["code"] for result in expired} == {"batch_expired"}


@pytest.mark.parametrize(
    ("asked_for", "param"),
    [
        ({"endpoint": "/v1/moderations"}, "endpoint"),
        ({"completion_window": "48h"}, "completion_window"),
        ({"metadata": {"x": "y" * 513}}, "metadata[...]"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 60}}, "output_expires_after.seconds"),
    ],
)
async def test_what_no_batch_can_be(alice: AsyncOpenAI, asked_for: Any, param: str | None) -> None:
    file = await alice.files.create(file=("a.jsonl", jsonl(chats(1))), purpose="batch")
    usual = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h"}
    with pytest.raises(openai.BadRequestError) as refused:
        await alice.batches.create(**{**usual, **asked_for})
    assert refused.value.param == param


async def test_answers_are_no_requests(alice: AsyncOpenAI) -> None:
    batch = await ended(alice, await submitted(alice, chats(1)))
    with pytest.raises(openai.BadRequestError, match="batch_output"):
        await alice.batches.create(input_file_id=str(batch.output_file_id), endpoint=CHAT, completion_window="24h")


# --- uploads ----------------------------------------------------------------------------------------------------------


def upload(gateway: Gateway, key: str, **form: Any) -> httpx2.Response:
    return httpx2.post(**mine(f"{gateway.url}/v1/files", key, timeout=15, **form))


def test_the_fields_of_a_form_come_in_any_order(gateway: Gateway, keys: dict[str, str]) -> None:
    body = (
        b'--X\r\ncontent-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{}\r\n'
        b'--X\r\ncontent-disposition: form-data; name="expires_after[seconds]"\r\n\r\n7200\r\n'
        b'--X\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--X--\r\n'
    )
    told = upload(gateway, keys["alice"], content=body, headers={"content-type": "multipart/form-data; boundary=X"}).json()
    assert (told["bytes"], told["expires_at"] - told["created_at"]) == (2, 7200)


@pytest.mark.parametrize(
    ("form", "status", "param"),
    [
        ({"files": {"file": ("a", b"{}")}}, 400, "purpose"),
        ({"files": {"file": ("a", b"{}")}, "data": {"purpose": "fine-tune"}}, 400, "purpose"),
        ({"files": {"other": ("a", b"{}")}, "data": {"purpose": "batch"}}, 400, "file"),
        ({"files": [("file", ("a", b"{}")), ("file", ("b", b"{}"))], "data": {"purpose": "batch"}}, 400, "file"),
        ({"files": {"file": ("a", b"{}")}, "data": {"purpose": "batch", "expires_after[seconds]": "60"}}, 400, "expires_after"),
        ({"files": {"other": ("a", b"x" * 100_000)}, "data": {"purpose": "batch"}}, 400, None),
        ({"json": {"purpose": "batch"}}, 415, "content-type"),
        ({"content": b"--X\r\n", "headers": {"content-type": "multipart/form-data; boundary=X"}}, 400, None),
    ],
)
def test_what_is_no_upload(gateway: Gateway, keys: dict[str, str], form: Any, status: int, param: str | None) -> None:
    refused = upload(gateway, keys["alice"], **form)
    assert (refused.status_code, refused.json()["error"]["param"]) == (status, param)


async def test_a_file_over_the_limit_is_refused_and_nothing_of_it_stays(gateway: Gateway, keys: dict[str, str]) -> None:
    key = keys["alice"]
    part = b'--X\r\ncontent-disposition: form-data; name="%b"\r\n\r\n'
    head, tail = part % b"purpose" + b"batch\r\n" + part % b"file", b"\r\n--X--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=X"}

    def pieces(size: int) -> Iterator[bytes]:
        """Whose length is not announced."""
        yield head
        for _ in range(size // 65536):
            yield b"x" * 65536
        yield tail

    assert upload(gateway, key, content=pieces(FILES_MAX_MB * MB), headers=headers).status_code == 200
    refused = upload(gateway, key, content=pieces((FILES_MAX_MB + 1) * MB), headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "request_too_large")
    refused = upload(gateway, key, content=head + b"x" * (FILES_MAX_MB + 1) * MB + tail, headers=headers)
    assert refused.status_code == 413
    with closing(sqlite3.connect(f"file:{gateway.folder}/agent-gateway.db?mode=ro", uri=True)) as database:
        assert database.execute("select count(*) from files where not complete").fetchone() == (0,)


async def test_of_an_upload_that_breaks_off_nothing_stays(gateway: Gateway, keys: dict[str, str]) -> None:
    def begun() -> int:
        with closing(sqlite3.connect(f"file:{gateway.folder}/agent-gateway.db?mode=ro", uri=True, timeout=10)) as database:
            (count,) = database.execute("select count(*) from files where not complete").fetchone()
        return int(count)

    headers = {"authorization": f"Bearer {keys['alice']}", "content-type": "multipart/form-data; boundary=X"}
    form = b'--X\r\ncontent-disposition: form-data; name="file"\r\n\r\n' + b"x" * 3 * MB
    async with connect_raw(gateway.url) as wire:
        await wire.send(request("POST", "/v1/files", b"", {**headers, "content-length": str(4 * MB)}) + form)
        await eventually(lambda: begun() == 1, "its first chunk in the store")
    await eventually(lambda: begun() == 0, "it to be gone")


async def test_many_megabytes_take_no_memory(gateway: Gateway, alice: AsyncOpenAI) -> None:
    whole = b"x" * (FILES_MAX_MB * MB - 1)
    warm = await alice.files.create(file=("warm", whole), purpose="batch")
    before_mb = gateway.memory_mb
    files = [await alice.files.create(file=("a", whole), purpose="batch") for _ in range(4)]
    for file in files:
        assert len((await alice.files.content(file.id)).content) == len(whole)
    assert gateway.memory_mb - before_mb < FILES_MAX_MB
    for file in (warm, *files):
        await alice.files.delete(file.id)


# --- who sees what ----------------------------------------------------------------------------------------------------


async def test_to_others_it_does_not_exist(connect: Connect) -> None:
    owner = connect("alice", **{"x-user-id": "owner"})
    batch = await ended(owner, await submitted(owner, chats(1)))
    assert batch.output_file_id is not None
    for other in (connect("bob"), connect("bob", **{"x-user-id": "owner"}), connect("alice"), connect("alice", **{"x-user-id": "other"})):
        for file_id in (batch.input_file_id, batch.output_file_id):
            for look in (other.files.retrieve, other.files.content, other.files.delete):
                with pytest.raises(openai.NotFoundError):
                    await look(file_id)
        for ask in (other.batches.retrieve, other.batches.cancel):
            with pytest.raises(openai.NotFoundError):
                await ask(batch.id)
        with pytest.raises(openai.NotFoundError):
            await other.batches.create(input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h")
        assert batch.id not in [seen.id async for seen in other.batches.list()]
        assert batch.output_file_id not in [seen.id async for seen in other.files.list()]
    assert (await owner.files.content(batch.output_file_id)).content


async def test_a_key_stays_within_its_endpoints(connect: Connect, gateway: Gateway, keys: dict[str, str]) -> None:
    narrow = connect("narrow")
    endpoint = "/v1/embeddings"
    batch = await ended(narrow, await submitted(narrow, [line("a", BODIES[endpoint][0], endpoint)], endpoint))
    assert batch.status == "completed"
    with pytest.raises(openai.PermissionDeniedError):
        await submitted(narrow, chats(1))
    requests = {"requests": [{"custom_id": "a", "body": asked("x")}]}
    assert httpx2.post(**mine(f"{gateway.url}/v1/batch", keys["narrow"], json=requests)).status_code == 403


async def test_without_a_key_there_is_nothing(gateway: Gateway) -> None:
    for path in ("/v1/files", "/v1/batches", "/v1/files/file-x", "/v1/files/file-x/content", "/v1/batches/batch_x"):
        assert httpx2.get(f"{gateway.url}{path}").status_code == 401
    for path in ("/v1/files", "/v1/batches", "/v1/batch", "/v1/batches/batch_x/cancel"):
        assert httpx2.post(f"{gateway.url}{path}").status_code == 401


def test_paths_and_methods(gateway: Gateway, keys: dict[str, str]) -> None:
    refused = httpx2.put(**mine(f"{gateway.url}/v1/files", keys["alice"]))
    assert refused.status_code == 405
    refused = httpx2.delete(**mine(f"{gateway.url}/v1/batches/batch_x", keys["alice"]))
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET")
    assert httpx2.get(**mine(f"{gateway.url}/v1/files/a/b", keys["alice"])).status_code == 404
    made = upload(gateway, keys["alice"], files={"file": ("a", b"12345")}, data={"purpose": "batch"}).json()
    head = httpx2.head(**mine(f"{gateway.url}/v1/files/{made['id']}/content", keys["alice"]))
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "5", b"")
