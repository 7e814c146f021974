"""The files and batches of a running gateway, over its HTTP API like any other client's; files go and come in pieces."""

from __future__ import annotations

import http.client
import secrets
import ssl
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

#: No answer is waited for longer than this (s).
TIMEOUT_S = 60.0
_PIECE_BYTES = 256 * 1024


class Unreachable(Exception):
    """Nobody answers, or breaks off; the text says who and why."""


class Refused(Exception):
    """The gateway's own words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class BatchClient:
    def __init__(self, url: str, key: str | None) -> None:
        """Raises `ValueError` for what is no URL."""
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no gateway's URL, such as http://127.0.0.1:8080")
        self._tls = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._base = parts.path.rstrip("/").removesuffix("/v1")
        self._headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self.url = f"{parts.scheme}://{parts.netloc}{self._base}"

    def upload(self, name: str, lines: Iterable[bytes]) -> str:
        """The new file's id."""
        boundary = secrets.token_hex(16)
        headers = {"content-type": f"multipart/form-data; boundary={boundary}", "transfer-encoding": "chunked"}
        with self._asked("POST", "/v1/files", _form(boundary, name, lines), headers) as reply:
            return str(_json(reply)["id"])

    def create(self, file_id: str, endpoint: str, window: str) -> dict[str, Any]:
        asked = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": window}
        headers = {"content-type": "application/json"}
        with self._asked("POST", "/v1/batches", msgspec.json.encode(asked), headers) as reply:
            return _json(reply)

    def batch(self, batch_id: str) -> dict[str, Any]:
        with self._asked("GET", f"/v1/batches/{batch_id}") as reply:
            return _json(reply)

    def get(self, path: str) -> dict[str, Any]:
        """Any other of its documents."""
        with self._asked("GET", path) as reply:
            return _json(reply)

    def download(self, file_id: str, to: Path) -> None:
        """All of it, or the file is not there."""
        part = to.with_name(f"{to.name}.part")
        with self._asked("GET", f"/v1/files/{file_id}/content") as reply, part.open("wb") as out:
            while piece := _read(reply, _PIECE_BYTES):
                out.write(piece)
            if reply.length:
                raise Unreachable(f"{self.url} broke off in the middle of {file_id}")
        part.replace(to)

    @contextmanager
    def _asked(
        self, method: str, path: str, body: bytes | Iterator[bytes] | None = None, headers: dict[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """Raises `Refused` for an answer that is an error."""
        with closing(self._connection()) as connection:
            try:
                with suppress(BrokenPipeError, ConnectionResetError):  # it may have said why it takes no more
                    connection.request(method, self._base + path, body, {**self._headers, **(headers or {})}, encode_chunked=True)
                reply = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise Unreachable(f"{self.url} cannot be reached: {str(error) or type(error).__name__}") from None
            if reply.status >= 400:
                raise Refused(reply.status, _why(reply))
            yield reply

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls:
            return http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT_S, context=ssl.create_default_context())
        return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)


def _form(boundary: str, name: str, lines: Iterable[bytes]) -> Iterator[bytes]:
    disposition = "content-disposition: form-data; name="
    shown = name.replace('"', "%22")
    yield (
        f'--{boundary}\r\n{disposition}"purpose"\r\n\r\nbatch\r\n'
        f'--{boundary}\r\n{disposition}"file"; filename="{shown}"\r\ncontent-type: application/jsonl\r\n\r\n'
    ).encode()
    piece = bytearray()
    for line in lines:
        piece += line
        if len(piece) >= _PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece) + f"\r\n--{boundary}--\r\n".encode()


def _read(reply: http.client.HTTPResponse, size: int | None = None) -> bytes:
    try:
        return reply.read(size)
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"the gateway broke off in its answer: {str(error) or type(error).__name__}") from None


def _json(reply: http.client.HTTPResponse) -> dict[str, Any]:
    try:
        return msgspec.json.decode(_read(reply), type=dict[str, Any])
    except msgspec.MsgspecError:
        raise Refused(reply.status, "what answers there is no gateway: its answer is no JSON object") from None


def _why(reply: http.client.HTTPResponse) -> str:
    with suppress(Refused, KeyError, TypeError):
        return str(_json(reply)["error"]["message"])
    return f"HTTP {reply.status} {reply.reason}"
