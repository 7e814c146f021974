"""The simulated provider as a plain ASGI app: what a gateway or an SDK meets on the network, in whichever protocol.

Promise: hangs hang and cuts cut on the wire, and a client that leaves stops the model at once.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

import msgspec

from agent_gateway.core.call import Dialect
from agent_gateway.core.clock import SYSTEM_CLOCK, Clock
from agent_gateway.simulator import catalogue
from agent_gateway.simulator.player import Player, Sleep
from agent_gateway.simulator.simulator import Reply, Simulator
from agent_gateway.wire import openai_chat as wire

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_MAX_BYTES = 64 * 1024 * 1024

#: The protocols by their path. The base URL of OpenAI's SDK ends in `/v1` (or is Gemini's compatible one), others' before it.
_CALLS: dict[str, Dialect] = {
    "chat/completions": "openai_chat",
    "completions": "openai_completions",
    "embeddings": "openai_embeddings",
    "responses": "openai_responses",
    "messages": "anthropic",
    "messages/count_tokens": "anthropic_count",
}
_CALL = re.compile(r"(?:/v1|/v1beta/openai)?/(?P<name>[a-z_/]+)")
_GEMINI_CALL = re.compile(r"/v1(?:beta)?/.+:(?:generateContent|streamGenerateContent)")
_MODELS = re.compile(r"(?P<base>/v1|/v1beta|/v1beta/openai|)/models(?:/(?P<name>.+))?")
#: Headers that carry the key, each with the scheme before it.
_KEY_HEADERS = ((b"authorization", "Bearer "), (b"x-api-key", ""), (b"x-goog-api-key", ""), (b"api-key", ""))


class SimulatorApp:
    def __init__(self, simulator: Simulator, clock: Clock = SYSTEM_CLOCK, sleep: Sleep = asyncio.sleep) -> None:
        self._simulator = simulator
        self._clock = clock
        self._sleep = sleep

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the simulator speaks HTTP, not {scope['type']}")
        path = scope["path"].rstrip("/")
        dialect = _dialect_of(path)
        told = None if dialect else _told_at(path, scope)
        if dialect is None and told is None:
            await _send_error(send, 404, f"There is no {scope['path']} here.", "not_found")
        elif scope["method"] not in (("POST",) if dialect else ("GET", "HEAD")):
            await _send_error(send, 405, f"{scope['path']} takes {'POST' if dialect else 'GET'}.", "method_not_allowed")
        elif dialect is None:
            await _send_json(send, 200, told)
        else:
            await self._answer(dialect, scope, receive, send)

    async def _answer(self, dialect: Dialect, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read_body(receive)
        if body is None:
            await _send_error(send, 413, f"The body is over {BODY_MAX_BYTES} bytes.", "request_too_large")
            return
        query = scope["query_string"].decode("latin-1")
        path = f"{scope['path']}?{query}" if query else scope["path"]
        reply = self._simulator.reply(dialect, body, _key(scope, query), path)
        performance = asyncio.ensure_future(self._perform(reply, send))
        departure = asyncio.ensure_future(_departure(receive))
        try:
            await asyncio.wait((performance, departure), return_when=asyncio.FIRST_COMPLETED)
        finally:
            departure.cancel()
            performance.cancel()
            failures = await asyncio.gather(performance, departure, return_exceptions=True)
        if isinstance(failures[0], Exception):
            raise failures[0]

    async def _perform(self, reply: Reply, send: Send) -> None:
        player = Player(reply, self._clock, self._sleep)
        await player.open()
        headers = [(name.encode(), value.encode()) for name, value in reply.headers]
        if reply.body_bytes is not None:
            headers.append((b"content-length", str(reply.body_bytes).encode()))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        left = reply.body_bytes
        while data := await player.next():
            if left is not None:
                left -= len(data)
            await send({"type": "http.response.body", "body": data, "more_body": left != 0})
        if left != 0:
            await send({"type": "http.response.body", "body": b""})


def _dialect_of(path: str) -> Dialect | None:
    if _GEMINI_CALL.fullmatch(path):
        return "gemini"
    call = _CALL.fullmatch(path)
    return _CALLS.get(call["name"]) if call else None


def _told_at(path: str, scope: Scope) -> dict[str, Any] | None:
    """What a GET of it is answered with; None: nothing."""
    if path == "/health":
        return {"status": "ok"}
    asked = _MODELS.fullmatch(path)
    if asked is None:
        return None
    name: str | None = asked["name"]
    headers = dict(scope["headers"])
    if asked["base"] == "/v1beta" or b"x-goog-api-key" in headers:
        return catalogue.gemini_entry(name) if name else catalogue.gemini_list()
    if b"anthropic-version" in headers:
        return catalogue.anthropic_entry(name) if name else catalogue.anthropic_list()
    return catalogue.openai_entry(name) if name else catalogue.openai_list()


async def _read_body(receive: Receive) -> bytes | None:
    """None when it is over the bound."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        part = message.get("body", b"")
        size += len(part)
        if size > BODY_MAX_BYTES:
            return None
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


async def _departure(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_error(send: Send, status: int, message: str, code: str) -> None:
    error = wire.Error(message=message, type="invalid_request_error", code=code)
    await _send_json(send, status, wire.ErrorBody(error))


async def _send_json(send: Send, status: int, value: object) -> None:
    body = msgspec.json.encode(value)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _key(scope: Scope, query: str) -> str:
    """The caller's, in any of the places where an SDK puts it."""
    headers = dict(scope["headers"])
    for name, scheme in _KEY_HEADERS:
        value: str = headers.get(name, b"").decode("latin-1")
        if value and value[: len(scheme)].lower() == scheme.lower():
            return value[len(scheme) :].strip()
    return parse_qs(query).get("key", [""])[0]
