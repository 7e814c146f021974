"""A file's content on its way into the store, in chunks of one size; never more of it in memory than one."""

from __future__ import annotations

from agent_gateway.stores.batches import CHUNK_BYTES_MAX, FileStore, StoredFile


class FileWriter:
    """Until `complete` nobody finds the file; one that is left behind is swept."""

    def __init__(self, store: FileStore, file: StoredFile) -> None:
        self.file = file
        self.size = 0
        self._store = store
        self._begun = False
        self._places = 0
        self._pending = bytearray()

    async def write(self, data: bytes) -> None:
        self.size += len(data)
        self._pending += data
        while len(self._pending) >= CHUNK_BYTES_MAX:
            await self._put(CHUNK_BYTES_MAX)

    async def complete(self) -> StoredFile | None:
        """None: it was deleted meanwhile."""
        await self._begin()
        if self._pending:
            await self._put(len(self._pending))
        return await self._store.complete_file(self.file.id, self.size)

    async def abandon(self) -> None:
        if self._begun:
            await self._store.delete_file(self.file.owner, self.file.id)

    async def _put(self, size: int) -> None:
        await self._begin()
        await self._store.add_chunk(self.file.id, self._places, bytes(self._pending[:size]))
        self._places += 1
        del self._pending[:size]

    async def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            await self._store.begin_file(self.file)
