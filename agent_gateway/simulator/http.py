"""The simulated provider as a plain ASGI app: what a gateway or an SDK meets on the network, in whichever protocol.

Promise: hangs hang and cuts cut on the wire, and a client that leaves stops the model at once.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Any

from agent_gateway.core.call import Dialect
from agent_gateway.core.clock import SYSTEM_CLOCK, Clock
from agent_gateway.core.errors import ClientLeft, TooLarge
from agent_gateway.simulator import catalogue
from agent_gateway.simulator.batches.apis import BatchApis
from agent_gateway.simulator.batches.billing import Billing
from agent_gateway.simulator.batches.settings import BatchSettings
from agent_gateway.simulator.exchange import Answer, Ask, Receive, Scope, Send, json_answer, send_answer
from agent_gateway.simulator.player import Player, Sleep
from agent_gateway.simulator.simulator import Reply, Simulator
from agent_gateway.wire import openai_chat as wire

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


class SimulatorApp:
    def __init__(
        self,
        simulator: Simulator,
        batch_settings: BatchSettings,
        clock: Clock = SYSTEM_CLOCK,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._simulator = simulator
        self._clock = clock
        self._sleep = sleep
        self._billing = Billing(batch_settings)
        self._batches = BatchApis(simulator, self._billing, batch_settings, clock, sleep)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the simulator speaks HTTP, not {scope['type']}")
        path = scope["path"].rstrip("/")
        ask = Ask(scope, receive)
        if dialect := _dialect_of(path):
            if ask.method == "POST":
                await self._answer(dialect, ask, send)
            else:
                await send_answer(send, _wrong_method(ask, "POST"))
            return
        with suppress(ClientLeft):
            await send_answer(send, await self._batches.answer(ask) or self._told(path, ask))

    def _told(self, path: str, ask: Ask) -> Answer:
        told = self._billing.told() if path == "/billing" else _told_at(path, ask)
        if told is None:
            return _error(404, f"There is no {ask.path} here.", "not_found")
        return json_answer(told) if ask.method in ("GET", "HEAD") else _wrong_method(ask, "GET")

    async def _answer(self, dialect: Dialect, ask: Ask, send: Send) -> None:
        try:
            body = await ask.body(BODY_MAX_BYTES)
        except TooLarge as error:
            await send_answer(send, _error(error.status, error.message, "request_too_large"))
            return
        except ClientLeft:
            return
        reply = self._simulator.reply(dialect, body, ask.key, ask.target)
        performance = asyncio.ensure_future(self._perform(reply, send))
        departure = asyncio.ensure_future(ask.departure())
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
        if reply.model:
            self._billing.note(reply.model, reply.usage, "live")
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


def _told_at(path: str, ask: Ask) -> dict[str, Any] | None:
    """What a GET of it is answered with; None: nothing."""
    if path == "/health":
        return {"status": "ok"}
    asked = _MODELS.fullmatch(path)
    if asked is None:
        return None
    name: str | None = asked["name"]
    if asked["base"] == "/v1beta" or ask.has_google_key:
        return catalogue.gemini_entry(name) if name else catalogue.gemini_list()
    if b"anthropic-version" in ask.headers:
        return catalogue.anthropic_entry(name) if name else catalogue.anthropic_list()
    return catalogue.openai_entry(name) if name else catalogue.openai_list()


def _wrong_method(ask: Ask, right: str) -> Answer:
    return _error(405, f"{ask.path} takes {right}.", "method_not_allowed")


def _error(status: int, message: str, code: str) -> Answer:
    return json_answer(wire.ErrorBody(wire.Error(message=message, type="invalid_request_error", code=code)), status)
