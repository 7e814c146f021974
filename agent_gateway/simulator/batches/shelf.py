"""Files that a simulated provider keeps, each for the key that sent it or whose batch wrote it.

Promise: no more than `KEPT_BYTES_MAX` is kept; the oldest files go first, as if they had expired.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

KEPT_BYTES_MAX = 512 * 1024 * 1024
FILES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class File:
    id: str
    key: str
    name: str
    #: OpenAI's word for what it is there for; of Gemini's, where it is from.
    purpose: str
    #: Unix seconds.
    created_at: float
    expires_at: float | None
    data: bytes
    media_type: str = "application/jsonl"


class Shelf:
    def __init__(self) -> None:
        self._files: dict[str, File] = {}
        self._bytes = 0

    def put(self, file: File) -> None:
        self._files[file.id] = file
        self._bytes += len(file.data)
        while len(self._files) > 1 and (self._bytes > KEPT_BYTES_MAX or len(self._files) > FILES_MAX):
            self._drop(next(iter(self._files)))

    def find(self, key: str, file_id: str, now: float) -> File | None:
        file = self._files.get(file_id)
        if file is None or file.key != key:
            return None
        if file.expires_at is not None and file.expires_at <= now:
            self._drop(file_id)
            return None
        return file

    def of_key(self, key: str, now: float) -> Iterator[File]:
        """Youngest first."""
        for file in reversed(list(self._files.values())):
            if self.find(key, file.id, now):
                yield file

    def drop(self, key: str, file_id: str) -> None:
        """Where there is one."""
        if (file := self._files.get(file_id)) and file.key == key:
            self._drop(file_id)

    def _drop(self, file_id: str) -> None:
        self._bytes -= len(self._files.pop(file_id).data)
