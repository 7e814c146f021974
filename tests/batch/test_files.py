"""Files as they are received and shown: by fields in any order, in chunks, never half."""

from __future__ import annotations

import pytest

from agent_gateway.batch.batches import Batches
from agent_gateway.batch.files import FILE_TTL_S, FILENAME_MAX_LENGTH, Files, Upload
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import BadRequest, NotFound, TooLarge
from agent_gateway.stores.backends.memory import MemoryStore
from agent_gateway.stores.base import Owner
from agent_gateway.stores.batches import CHUNK_BYTES_MAX

ANN = Owner("ann")
NOW = 1_000_000.0
CLOCK = Clock(wall=lambda: NOW)
BYTES_MAX = 3 * CHUNK_BYTES_MAX


@pytest.fixture
def files() -> Files:
    return Files(MemoryStore(), CLOCK)


@pytest.fixture
def upload(files: Files) -> Upload:
    return files.upload(ANN, BYTES_MAX)


async def read(files: Files, file_id: str, size: int) -> list[bytes]:
    return [chunk async for chunk in files.content(file_id, size)]


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES_MAX - 1, CHUNK_BYTES_MAX, CHUNK_BYTES_MAX + 1, BYTES_MAX])
async def test_what_comes_in_pieces_is_kept_in_chunks(files: Files, upload: Upload, size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    upload.field("purpose", "batch")
    await upload.begin("a.jsonl")
    for start in range(0, size, 300_007):
        await upload.write(content[start : min(start + 300_007, size)])
    made = await upload.finish()
    assert (made.bytes, made.filename, made.created_at, made.expires_at) == (size, "a.jsonl", NOW, NOW + FILE_TTL_S)
    assert await files.find(ANN, made.id) == made
    chunks = await read(files, made.id, size)
    assert b"".join(chunks) == content[:size]
    assert all(len(chunk) == CHUNK_BYTES_MAX for chunk in chunks[:-1])


async def test_it_is_there_when_it_is_whole(files: Files, upload: Upload) -> None:
    upload.field("purpose", "batch")
    await upload.begin("a.jsonl")
    await upload.write(b"x" * (CHUNK_BYTES_MAX + 1))
    assert (await files.listed(ANN, limit=10, after=None, purpose=None)).data == []
    made = await upload.finish()
    assert [file.id for file in (await files.listed(ANN, limit=10, after=None, purpose=None)).data] == [made.id]


async def test_what_is_abandoned_is_gone(files: Files, upload: Upload) -> None:
    await upload.begin("a.jsonl")
    await upload.write(b"x" * (CHUNK_BYTES_MAX + 1))
    await upload.abandon()
    upload.field("purpose", "batch")
    with pytest.raises(NotFound):
        await upload.finish()
    await files.upload(ANN, BYTES_MAX).abandon()  # of which nothing has come


@pytest.mark.parametrize("seconds", [3600, 30 * 86400])
@pytest.mark.parametrize("first", [True, False])
async def test_it_expires_when_it_is_told_to_whenever_that_is_told(upload: Upload, seconds: int, first: bool) -> None:
    fields = {"expires_after[anchor]": "created_at", "expires_after[seconds]": str(seconds), "purpose": "batch"}
    if not first:
        await upload.begin("a.jsonl")
        await upload.write(b"{}")
    for name, value in fields.items():
        upload.field(name, value)
    if first:
        await upload.begin("a.jsonl")
    assert (await upload.finish()).expires_at == NOW + seconds


async def test_what_stands_in_the_store_cannot_be_told_so_any_more(upload: Upload) -> None:
    await upload.begin("a.jsonl")
    await upload.write(b"x" * CHUNK_BYTES_MAX)
    with pytest.raises(BadRequest, match="before the file"):
        upload.field("expires_after[seconds]", "3600")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("purpose", "assistants"),
        ("expires_after[seconds]", "3599"),
        ("expires_after[seconds]", "2592001"),
        ("expires_after[seconds]", "1e4"),
        ("expires_after[seconds]", "٣٦٠٠"),
        ("expires_after[anchor]", "last_used_at"),
    ],
)
async def test_what_cannot_be_kept_to(upload: Upload, name: str, value: str) -> None:
    async def given() -> None:
        upload.field(name, value)
        await upload.begin("a.jsonl")

    with pytest.raises(BadRequest) as refused:
        await given()
    assert refused.value.param == name.partition("[")[0]


async def test_what_is_too_large(upload: Upload) -> None:
    await upload.begin("a.jsonl")
    await upload.write(b"x" * BYTES_MAX)
    with pytest.raises(TooLarge):
        await upload.write(b"x")


async def test_a_name_has_its_bounds(files: Files) -> None:
    for given, kept in (("", "file"), ("n" * 1000, "n" * FILENAME_MAX_LENGTH)):
        upload = files.upload(ANN, BYTES_MAX)
        upload.field("purpose", "batch")
        await upload.begin(given)
        assert (await upload.finish()).filename == kept


async def test_a_store_that_keeps_no_batches_says_which_do() -> None:
    files, batches = Files(object(), CLOCK), Batches(object(), None, CLOCK)
    for refused in (
        files.listed(ANN, limit=1, after=None, purpose=None),
        files.find(ANN, "file-x"),
        files.delete(ANN, "file-x"),
        batches.create(ANN, None, b"{}", lambda endpoint: None),
        batches.find(ANN, "batch_x"),
        batches.listed(ANN, limit=1, after=None),
        batches.cancel(ANN, "batch_x"),
    ):
        with pytest.raises(BadRequest, match=r"state\.database"):
            await refused
    with pytest.raises(BadRequest, match=r"state\.database"):
        files.upload(ANN, BYTES_MAX)
