"""Records handed out as a file, oldest first: JSON lines or Parquet.

Promise: memory does not grow with their number; what is written is whole, or is not there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol

from agent_gateway.record.archive import Archive
from agent_gateway.record.json_line import json_line
from agent_gateway.record.row import Record, unpacked

if TYPE_CHECKING:
    import pyarrow  # type: ignore[import-untyped]

Format = Literal["jsonl", "parquet"]

#: Records read at once.
PAGE_ROWS = 100
#: A row group of Parquet: so many rows, or bytes of their bodies, are in memory.
GROUP_ROWS = 10_000
GROUP_BYTES = 32 * 1024 * 1024

_BODIES = ("attempts", "request", "answer")
_FLAGS = ("stream", "tokens_estimated")
_REALS = ("cost_usd", "quality", "duration_ms", "ttft_ms", "overhead_ms", "per_token_ms")


class NoParquet(Exception):
    """The package that writes it is not installed."""


class Writer(Protocol):
    def write(self, records: Iterable[Record]) -> None: ...

    def close(self) -> None:
        """All is in the file."""


async def export(archive: Archive, writer: Writer, since_ms: int, until_ms: int) -> int:
    """How many there were."""
    count = 0
    async for page in pages(archive, since_ms, until_ms):
        writer.write(page)
        count += len(page)
    writer.close()
    return count


async def pages(archive: Archive, since_ms: int, until_ms: int) -> AsyncIterator[Sequence[Record]]:
    """All of a time, oldest first."""
    last: tuple[int, str] = (since_ms, "")
    while page := await archive.oldest(last, until_ms, PAGE_ROWS):
        yield page
        last = page[-1].started_ms, page[-1].id


def write_lines(out: BinaryIO) -> Writer:
    return _Lines(out)


def write_parquet(out: BinaryIO) -> Writer:
    """Raises `NoParquet`."""
    try:
        import pyarrow
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ImportError:
        raise NoParquet("Parquet needs pyarrow; in a clone: pip install '.[parquet]'") from None
    whole = ("http_status", "attempts_count", "request_bytes", *[name for name in Record._fields if name.endswith("_tokens")])
    kinds = {"started_ms": pyarrow.timestamp("ms", tz="UTC")}
    for names, kind in ((_REALS, "float64"), (_FLAGS, "bool"), (_BODIES, "binary"), (whole, "int64")):
        kinds |= dict.fromkeys(names, pyarrow.type_for_alias(kind))
    return _Parquet(out, pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in Record._fields]))


class WholeFile:
    """A file that takes the place of one of its name when it is complete. For its owner only: it holds what users said."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.parent / f"{path.name}.part"

    def __enter__(self) -> BinaryIO:
        """Raises `OSError`."""
        if self._path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder; name a file in it")
        self._out = os.fdopen(os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
        return self._out

    def __exit__(self, kind: object, *error: object) -> None:
        self._out.close()
        if kind is None:
            self._part.replace(self._path)
        else:
            self._part.unlink(missing_ok=True)


class _Lines:
    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def write(self, records: Iterable[Record]) -> None:
        for record in records:
            self._out.write(json_line(record))

    def close(self) -> None:
        self._out.flush()


class _Parquet:
    """Bodies as they came, unpacked; names and figures as in the table."""

    def __init__(self, out: BinaryIO, schema: pyarrow.Schema) -> None:
        from pyarrow.parquet import ParquetWriter

        self._schema = schema
        self._writer = ParquetWriter(out, schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0

    def write(self, records: Iterable[Record]) -> None:
        for record in records:
            row = record._asdict()
            for name in _FLAGS:
                row[name] = bool(row[name])
            for name in _BODIES:
                row[name] = body = unpacked(row[name])
                self._bytes += len(body or b"")
            self._rows.append(row)
            if len(self._rows) >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
                self._end_group()

    def close(self) -> None:
        if self._rows:
            self._end_group()
        self._writer.close()

    def _end_group(self) -> None:
        import pyarrow

        rows, self._rows, self._bytes = self._rows, [], 0
        self._writer.write_table(pyarrow.Table.from_pylist(rows, schema=self._schema))
