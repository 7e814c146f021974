"""One HTTP exchange with the simulator, as ASGI has it: what was asked, read within a bound, and a whole answer to it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import msgspec

from agent_gateway.core.errors import ClientLeft, TooLarge

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: Of an answer so much is handed on at a time, so that who takes slowly is waited for.
_PIECE_BYTES = 1024 * 1024
_JSON = (b"content-type", b"application/json")
#: Headers that carry the key, each with the scheme before it.
_KEY_HEADERS = ((b"authorization", "Bearer "), (b"x-api-key", ""), (b"x-goog-api-key", ""), (b"api-key", ""))


class Ask:
    """What was asked."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.method: str = scope["method"]
        #: Escapes are undone.
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self._query = parse_qs(scope["query_string"].decode("latin-1"))
        self._scope = scope
        self._receive = receive

    @property
    def key(self) -> str:
        """The caller's, in any of the places where an SDK puts it."""
        for name, scheme in _KEY_HEADERS:
            value = self.headers.get(name, b"").decode("latin-1")
            if value and value[: len(scheme)].lower() == scheme.lower():
                return value[len(scheme) :].strip()
        return self.query("key") or ""

    @property
    def has_google_key(self) -> bool:
        return b"x-goog-api-key" in self.headers or "key" in self._query

    @property
    def origin(self) -> str:
        """Where the simulator is, as the caller called it: links in answers begin with it."""
        return f"{self._scope.get('scheme', 'http')}://{self.headers.get(b'host', b'localhost').decode('latin-1')}"

    @property
    def target(self) -> str:
        """The path with its query, as it came."""
        query = self._scope["query_string"].decode("latin-1")
        return f"{self.path}?{query}" if query else self.path

    def query(self, name: str) -> str | None:
        values = self._query.get(name)
        return values[0] if values else None

    async def departure(self) -> None:
        """Returns when the client has left; what it sends until then is passed over."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def body(self, bytes_max: int) -> bytes:
        """Raises `TooLarge`, and `ClientLeft`."""
        whole = bytearray()
        async for piece in self.pieces(bytes_max):
            whole += piece
        return bytes(whole)

    async def pieces(self, bytes_max: int) -> AsyncGenerator[bytes, None]:
        """The body as it comes. Raises as `body` does."""
        left = bytes_max
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft("The client left while it was sending.")
            piece: bytes = message.get("body", b"")
            left -= len(piece)
            if left < 0:
                raise TooLarge(f"The body is over {bytes_max} bytes.")
            yield piece
            more = message.get("more_body", False)


@dataclass(frozen=True, slots=True)
class Answer:
    """Sent in one go."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = (_JSON,)


def json_answer(value: object, status: int = 200) -> Answer:
    return Answer(status, msgspec.json.encode(value))


async def send_answer(send: Send, answer: Answer) -> None:
    headers = [*answer.headers, (b"content-length", str(len(answer.body)).encode())]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    view = memoryview(answer.body)
    for start in range(0, len(view), _PIECE_BYTES):
        await send({"type": "http.response.body", "body": bytes(view[start : start + _PIECE_BYTES]), "more_body": True})
    await send({"type": "http.response.body", "body": b""})
