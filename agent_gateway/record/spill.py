"""Where records wait in a file while their database is down: append-only, bounded, loaded back by whoever finds it.

Promise: an entry is read back whole or not at all. Entries survive the death of the process; they are not fsynced, so the last of
them may be lost with the machine, as with the database's own log (`synchronous=NORMAL`).
"""

from __future__ import annotations

import fcntl
import os
import secrets
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from agent_gateway.record.row import Record

#: Of one process's spill file; what does not fit is refused.
SPILL_MAX_BYTES = 256 * 1024 * 1024
#: A length in a torn file is not believed beyond this (bytes); larger entries are never written.
ENTRY_MAX_BYTES = 64 * 1024 * 1024

_MAGIC = b"AGWs"
#: Magic, length of the payload, CRC-32 of the payload.
_HEAD = struct.Struct("<4sII")


class _Entry(msgspec.Struct, array_like=True):
    """Columns by name: a file may be read by a later version that has other ones."""

    columns: list[str]
    rows: list[list[Any]]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Entry)


class SpillFull(OSError):
    """The file is at its bound."""


class Spill:
    """One process's file, `<prefix><random>`. Its owner holds a lock on it: others load only what the dead left behind."""

    def __init__(self, prefix: Path, max_bytes: int = SPILL_MAX_BYTES) -> None:
        self._prefix = prefix
        self._max_bytes = max_bytes
        self._path: Path | None = None
        self._file: int | None = None
        self._bytes = 0

    @property
    def holds_any(self) -> bool:
        return self._bytes > 0

    def append(self, records: Sequence[Record]) -> None:
        """Raises `SpillFull`, or another `OSError` when the file cannot be written; the file is then as it was before."""
        payload = _encoder.encode(_Entry(list(Record._fields), [list(record) for record in records]))
        entry = _HEAD.pack(_MAGIC, len(payload), zlib.crc32(payload)) + payload
        if len(payload) > ENTRY_MAX_BYTES or self._bytes + len(entry) > self._max_bytes:
            raise SpillFull(f"over the bound of {self._max_bytes} bytes")
        file = self._open()
        try:
            _write_all(file, entry)
        except OSError:
            os.ftruncate(file, self._bytes)
            raise
        self._bytes += len(entry)

    def batches(self) -> Iterator[list[Record]]:
        """Every entry of this process."""
        if self._file is not None:
            yield from _read(self._file)

    def clear(self) -> None:
        """All of it has been loaded."""
        if self._file is not None and self._path is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
        self._file = self._path = None
        self._bytes = 0

    def close(self) -> None:
        """Leaves the file to the next start."""
        if not self.holds_any:
            self.clear()
        elif self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> int:
        """The file, locked. If it was deleted under us, another one with the same content."""
        if self._file is not None and self._path is not None and _is_at(self._file, self._path):
            return self._file
        path, file = _create(self._prefix)
        if self._file is not None:
            try:
                for part in _parts(self._file):
                    _write_all(file, part)
            except OSError:
                path.unlink(missing_ok=True)
                os.close(file)
                raise
            os.close(self._file)
        self._path, self._file = path, file
        return file


class Orphan:
    """A file that a dead process left, now ours alone."""

    def __init__(self, path: Path, file: int) -> None:
        self.path = path
        self._file = file

    def batches(self) -> Iterator[list[Record]]:
        return _read(self._file)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Orphan:
        return self

    def __exit__(self, *error: object) -> None:
        """Lets go of it; if it was not removed, another may have it."""
        os.close(self._file)


def orphans(prefix: Path) -> Iterator[Orphan]:
    """Files under the prefix that no living process holds; each is to be entered with `with`."""
    try:
        paths = sorted(path for path in prefix.parent.iterdir() if path.name.startswith(prefix.name))
    except OSError:
        return
    for path in paths:
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        if _lock(file) and _is_at(file, path):
            yield Orphan(path, file)
        else:
            os.close(file)


def _read(file: int) -> Iterator[list[Record]]:
    """Up to the first entry that is torn; after damage, from the next one that is whole."""
    offset = 0
    while head := os.pread(file, _HEAD.size, offset):
        payload = None
        if len(head) == _HEAD.size:
            magic, length, checksum = _HEAD.unpack(head)
            if magic == _MAGIC and length <= ENTRY_MAX_BYTES:
                payload = os.pread(file, length, offset + _HEAD.size)
                if len(payload) != length or zlib.crc32(payload) != checksum:
                    payload = None
        if payload is None:
            found = _find_magic(file, offset + 1)
            if found is None:
                return
            offset = found
            continue
        offset += _HEAD.size + len(payload)
        try:
            entry = _decoder.decode(payload)
        except msgspec.MsgspecError:
            continue
        yield [_record(entry.columns, row) for row in entry.rows]


def _record(columns: list[str], row: list[Any]) -> Record:
    values = dict(zip(columns, row, strict=False))
    return Record._make([values.get(field) for field in Record._fields])


def _find_magic(file: int, offset: int, window_bytes: int = 1024 * 1024) -> int | None:
    while window := os.pread(file, window_bytes, offset):
        found = window.find(_MAGIC)
        if found >= 0:
            return offset + found
        if len(window) < len(_MAGIC):
            return None
        offset += len(window) - len(_MAGIC) + 1
    return None


def _parts(file: int, size: int = 1024 * 1024) -> Iterator[bytes]:
    offset = 0
    while part := os.pread(file, size, offset):
        offset += len(part)
        yield part


def _create(prefix: Path) -> tuple[Path, int]:
    """A new file, locked; another one where an adopter was quicker than our lock."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    while True:
        path = prefix.with_name(prefix.name + secrets.token_hex(4))
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if _lock(file) and _is_at(file, path):
            return path, file
        os.close(file)


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_at(file: int, path: Path) -> bool:
    """Whether the path still leads to this very file."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except OSError:
        return False
