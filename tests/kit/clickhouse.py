"""ClickHouse's HTTP interface, as far as records need it: reads blocks in the format `Native`, byte by byte, and keeps their rows.

Like a MergeTree with `non_replicated_deduplication_window`, it takes a block that it has already had for a repetition.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import lz4.frame  # type: ignore[import-untyped]

_INSERT = re.compile(rb"INSERT INTO `(\w+)` \(([^)]*)\) FORMAT Native\s")
_KEYS = ("B", "H", "I", "Q")


class ClickHouse:
    """Listens on loopback while it is entered. `answers`: what the next requests get instead: a status, or None: no answer after all is
    done.
    """

    def __init__(self, port: int = 0) -> None:
        self.rows: list[dict[str, Any]] = []
        self.types: dict[str, str] = {}
        self.statements: list[str] = []
        self.users: set[str] = set()
        self.answers: list[int | None] = []
        self._blocks: set[bytes] = set()
        clickhouse = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                clickhouse._answer(self)

            do_GET = do_POST

            def log_message(self, format: str, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> ClickHouse:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body, values = _body(handler), dict(parse_qsl(urlsplit(handler.path).query))
        self.users.add(base64.b64decode(handler.headers["authorization"].removeprefix("Basic ")).decode())
        wanted = self.answers.pop(0) if self.answers else 200
        reply = b"Code: 252. DB::Exception: Too many parts" if wanted not in (200, None) else self._do(body, values)
        if wanted is None:
            handler.close_connection = True
            return
        handler.send_response(wanted)
        handler.send_header("content-length", str(len(reply)))
        handler.end_headers()
        handler.wfile.write(reply)

    def _do(self, body: bytes, values: dict[str, str]) -> bytes:
        if (insert := _INSERT.match(body)) is not None:
            self.statements.append(insert[0].decode())
            self._insert(body[insert.end() :], re.findall(r"\w+", insert[2].decode()))
            return b""
        statement = body.decode() or values["query"]
        self.statements.append(statement)
        user = values.get("param_user")
        if statement.startswith("SELECT version()"):
            return b"26.1.1.1\tUTC\n"
        if statement.startswith("SELECT name, value, readonly"):
            return b"\x03\x00\x04name\x06String\x05value\x06String\x08readonly\x05UInt8"
        if statement.startswith("SELECT 1 AS check"):
            return b"\x01\x01\x05check\x05UInt8\x01"
        if statement.startswith("SELECT count()"):
            return b"\x01\x01\x07count()\x06UInt64" + struct.pack("<Q", sum(row["user_id"] == user for row in self.rows))
        if " UPDATE " in statement:
            assert values["mutations_sync"] == "1"
            nothing = re.findall(r"(\w+) = NULL", statement)
            self.rows = [row | dict.fromkeys(nothing) if row["user_id"] == user else row for row in self.rows]
            return b""
        if created := re.match(r"CREATE TABLE IF NOT EXISTS \S+ \((.*), started_at .*ENGINE = ReplacingMergeTree", statement):
            self.types = dict(item.split(" ", 1) for item in created[1].split(", "))
            return b""
        assert re.match(r"ALTER TABLE `\w+`.`\w+` ADD COLUMN IF NOT EXISTS", statement), statement
        return b""

    def _insert(self, block: bytes, columns: list[str]) -> None:
        read = _Reader(block)
        names, rows = read.block()
        assert names == columns
        assert all(self.types[name] == kind for name, kind in read.types.items())
        digest = hashlib.sha256(block).digest()
        if digest not in self._blocks:
            self._blocks.add(digest)
            self.rows += rows


class _Reader:
    """One block: columns one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0
        self.types: dict[str, str] = {}

    def block(self) -> tuple[list[str], list[dict[str, Any]]]:
        count, rows = self._number(), self._number()
        columns: dict[str, list[Any]] = {}
        for _ in range(count):
            name, kind = self._text(), self._text()
            self.types[name] = kind
            if kind.startswith("LowCardinality"):
                assert self._unpack("Q", 1) == (1,), "the version of its dictionaries"
            columns[name] = self._column(kind, rows)
        assert self._place == len(self._data), "nothing stands behind the block"
        return list(columns), [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _column(self, kind: str, rows: int) -> list[Any]:
        if inner := re.fullmatch(r"LowCardinality\((.*)\)", kind):
            return self._dictionary(inner[1], rows)
        if inner := re.fullmatch(r"Nullable\((.*)\)", kind):
            missing = self._unpack("B", rows)
            return [None if no else value for no, value in zip(missing, self._column(inner[1], rows), strict=True)]
        match kind:
            case "String":
                return [self._text() for _ in range(rows)]
            case "Int64":
                return list(self._unpack("q", rows))
            case "Float64":
                return list(self._unpack("d", rows))
        raise AssertionError(f"the type {kind}")

    def _dictionary(self, kind: str, rows: int) -> list[Any]:
        (flags,) = self._unpack("Q", 1)
        (size,) = self._unpack("Q", 1)
        nullable = re.fullmatch(r"Nullable\((.*)\)", kind)
        keys: list[Any] = self._column(nullable[1] if nullable else kind, size)
        if nullable:
            keys[0] = None
        assert self._unpack("Q", 1) == (rows,)
        return [keys[place] for place in self._unpack(_KEYS[flags & 0xFF], rows)]

    def _unpack(self, form: str, count: int) -> tuple[Any, ...]:
        reader = struct.Struct(f"<{count}{form}")
        values = reader.unpack_from(self._data, self._place)
        self._place += reader.size
        return values

    def _text(self) -> str:
        size = self._number()
        self._place += size
        return self._data[self._place - size : self._place].decode()

    def _number(self) -> int:
        number = shift = 0
        while True:
            byte = self._data[self._place]
            self._place += 1
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7


def _body(handler: BaseHTTPRequestHandler) -> bytes:
    if handler.headers["transfer-encoding"] == "chunked":
        body = b""
        while size := int(handler.rfile.readline(), 16):
            body += handler.rfile.read(size)
            handler.rfile.readline()
        handler.rfile.readline()
    else:
        body = handler.rfile.read(int(handler.headers["content-length"] or 0))
    encoding = handler.headers["content-encoding"]
    assert encoding in (None, "lz4")
    return bytes(lz4.frame.decompress(body)) if encoding else body
