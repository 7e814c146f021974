"""Files as OpenAI's API has them: received and read in pieces, never whole in memory; what batches read and write.

Promise: a file is there once all of it is in the store, and to nobody but its owner.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any, Literal

from msgspec import Struct

from agent_gateway.batch.file_writer import FileWriter
from agent_gateway.batch.identity import new_file_id
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import BadRequest, NotFound, TooLarge
from agent_gateway.stores.base import Owner
from agent_gateway.stores.batches import CHUNK_BYTES_MAX, BatchStore, StoredFile, batches_of, file_gone

#: A batch's file is kept so long where nothing else is asked for (s).
FILE_TTL_S = 30 * 86400.0
#: What may be asked for (s).
FILE_TTL_BOUNDS_S = (3600, 30 * 86400)
FILENAME_MAX_LENGTH = 255
PURPOSE = "batch"


class FileObject(Struct, frozen=True, kw_only=True):
    """As OpenAI's API shows a file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    status_details: None = None


class ObjectPage(Struct, frozen=True, kw_only=True):
    """As OpenAI's API shows lists: the last one's id is `after` of the next page."""

    object: Literal["list"] = "list"
    data: list[Any]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, data: list[Any], *, has_more: bool) -> ObjectPage:
        return cls(data=data, first_id=data[0].id if data else None, last_id=data[-1].id if data else None, has_more=has_more)


class Deleted(Struct, frozen=True):
    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


class Files:
    """`store`: the gateway's; where it keeps no batches, every method raises `BadRequest`."""

    def __init__(self, store: object, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def upload(self, owner: Owner, bytes_max: int) -> Upload:
        return Upload(batches_of(self._store), owner, bytes_max, self._clock)

    async def listed(self, owner: Owner, *, limit: int, after: str | None, purpose: str | None) -> ObjectPage:
        """Youngest first."""
        store = batches_of(self._store)
        page = await store.list_files(owner, now=self._clock.wall(), limit=limit, cursor=after, purpose=purpose)
        return ObjectPage.of([shown_file(file) for file in page.files], has_more=page.has_more)

    async def find(self, owner: Owner, file_id: str) -> FileObject:
        """Raises `NotFound`."""
        found = await batches_of(self._store).find_file(owner, file_id, self._clock.wall())
        if found is None:
            raise unknown_file(file_id)
        return shown_file(found)

    async def delete(self, owner: Owner, file_id: str) -> Deleted:
        """Raises `NotFound`."""
        if not await batches_of(self._store).delete_file(owner, file_id):
            raise unknown_file(file_id)
        return Deleted(file_id)

    async def content(self, file_id: str, size: int) -> AsyncGenerator[bytes, None]:
        """Of a file that was found, of `size` bytes. Raises `NotFound` where it was deleted meanwhile."""
        store, place, left = batches_of(self._store), 0, size
        while (chunk := await store.read_chunk(file_id, place)) is not None:
            yield chunk
            place += 1
            left -= len(chunk)
        if left:
            raise NotFound(f"The file {file_id[:100]} was deleted meanwhile.")


class Upload:
    """One file on its way in: its fields and content in the order in which they come, then `finish`; else `abandon`."""

    def __init__(self, store: BatchStore, owner: Owner, bytes_max: int, clock: Clock) -> None:
        self._store = store
        self._owner = owner
        self._bytes_max = bytes_max
        self._created_at = clock.wall()
        self._fields: dict[str, str] = {}
        #: None: the file itself has not come yet.
        self._writer: FileWriter | None = None

    def field(self, name: str, value: str) -> None:
        """Raises `BadRequest` for what cannot be kept to."""
        if name == "purpose" and value != PURPOSE:
            raise BadRequest(f"purpose: {value[:100]!r} is not to be had; files for {PURPOSE!r} are kept here.", param="purpose")
        self._fields[name] = value
        if name.startswith("expires_after") and self._writer is not None:
            if self._writer.size >= CHUNK_BYTES_MAX:  # it stands in the store already
                raise BadRequest("expires_after: send it before the file.", param="expires_after")
            self._writer.file = replace(self._writer.file, expires_at=self._expires_at())

    async def begin(self, filename: str) -> None:
        """Its content follows. Raises `BadRequest`."""
        if self._writer is not None:
            raise BadRequest("file: send one file at a time.", param="file")
        name = filename[:FILENAME_MAX_LENGTH] or "file"
        file = StoredFile(new_file_id(), self._owner, name, PURPOSE, self._created_at, expires_at=self._expires_at())
        self._writer = FileWriter(self._store, file)

    async def write(self, content: bytes) -> None:
        """Raises `TooLarge`."""
        assert self._writer is not None, "begin comes before write"
        if self._writer.size + len(content) > self._bytes_max:
            raise TooLarge(f"The file is over the limit of {self._bytes_max} bytes.", param="file")
        await self._writer.write(content)

    async def finish(self) -> FileObject:
        """Raises `BadRequest` where something is missing."""
        if self._writer is None:
            raise BadRequest("file: is missing.", param="file")
        if "purpose" not in self._fields:
            raise BadRequest(f"purpose: is missing; send {PURPOSE!r}.", param="purpose")
        kept = await self._writer.complete()
        if kept is None:
            raise file_gone(self._writer.file.id)
        return shown_file(kept)

    async def abandon(self) -> None:
        """What was kept of it goes."""
        if self._writer is not None:
            await self._writer.abandon()

    def _expires_at(self) -> float:
        anchor, seconds = self._fields.get("expires_after[anchor]"), self._fields.get("expires_after[seconds]")
        if anchor not in (None, "created_at"):
            raise BadRequest(f"expires_after.anchor: {anchor[:40]!r} is not created_at.", param="expires_after")
        if seconds is None:
            return self._created_at + FILE_TTL_S
        shortest, longest = FILE_TTL_BOUNDS_S
        if not (seconds.isascii() and seconds.isdigit() and len(seconds) < 9 and shortest <= int(seconds) <= longest):
            raise BadRequest(f"expires_after.seconds: expected a whole number from {shortest} to {longest}.", param="expires_after")
        return self._created_at + int(seconds)


def shown_file(file: StoredFile) -> FileObject:
    return FileObject(
        id=file.id,
        bytes=file.bytes,
        created_at=int(file.created_at),
        expires_at=None if file.expires_at is None else int(file.expires_at),
        filename=file.filename,
        purpose=file.purpose,
    )


def unknown_file(file_id: str) -> NotFound:
    return NotFound(f"There is no file {file_id[:100]!r}.")
