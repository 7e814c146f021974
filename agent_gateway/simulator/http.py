"""The simulated provider as a plain ASGI app: what a gateway or an SDK meets on the network.

Promise: hangs hang and cuts cut on the wire, and a client that leaves stops the model at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from agent_gateway.core.clock import SYSTEM_CLOCK, Clock
from agent_gateway.simulator.player import Player, Sleep
from agent_gateway.simulator.simulator import Reply, Simulator
from agent_gateway.wire import openai_chat as wire

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: Listed by `/v1/models`; any other name is answered as well.
MODELS = ("gpt-4o-mini", "gpt-4o", "gpt-4.5", "small", "large")
_MODELS_CREATED = 1_735_689_600  # 2025-01-01

BODY_MAX_BYTES = 64 * 1024 * 1024


class SimulatorApp:
    def __init__(self, simulator: Simulator, clock: Clock = SYSTEM_CLOCK, sleep: Sleep = asyncio.sleep) -> None:
        self._simulator = simulator
        self._clock = clock
        self._sleep = sleep

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the simulator speaks HTTP, not {scope['type']}")
        path = scope["path"].rstrip("/")
        allowed, answer = self._route(path)
        if answer is None:
            await _send_error(send, 404, f"There is no {scope['path']} here.", "not_found")
        elif scope["method"] not in allowed:
            await _send_error(send, 405, f"{scope['path']} takes {allowed[0]}.", "method_not_allowed")
        else:
            await answer(scope, receive, send)

    def _route(self, path: str) -> tuple[tuple[str, ...], Callable[[Scope, Receive, Send], Awaitable[None]] | None]:
        match path.split("/"):
            case ["", "v1", "chat", "completions"]:
                return ("POST",), self._chat
            case ["", "v1", "models", *_]:
                return ("GET", "HEAD"), _models
            case ["", "health"]:
                return ("GET", "HEAD"), _health
            case _:
                return (), None

    async def _chat(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read_body(receive)
        if body is None:
            await _send_error(send, 413, f"The body is over {BODY_MAX_BYTES} bytes.", "request_too_large")
            return
        reply = self._simulator.reply("openai_chat", body, _bearer(scope))
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


async def _models(scope: Scope, receive: Receive, send: Send) -> None:
    name = scope["path"].rstrip("/").removeprefix("/v1/models").removeprefix("/")
    if not name:
        await _send_json(send, 200, wire.ModelList(data=[_model(one) for one in MODELS]))
    else:
        await _send_json(send, 200, _model(name))


def _model(name: str) -> wire.Model:
    return wire.Model(id=name, created=_MODELS_CREATED, owned_by="simulator")


async def _health(scope: Scope, receive: Receive, send: Send) -> None:
    await _send_json(send, 200, {"status": "ok"})


async def _send_error(send: Send, status: int, message: str, code: str) -> None:
    error = wire.Error(message=message, type="invalid_request_error", code=code)
    await _send_json(send, status, wire.ErrorBody(error))


async def _send_json(send: Send, status: int, value: object) -> None:
    body = msgspec.json.encode(value)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _bearer(scope: Scope) -> str:
    value: bytes = dict(scope["headers"]).get(b"authorization", b"")
    scheme, _, key = value.decode("latin-1").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
