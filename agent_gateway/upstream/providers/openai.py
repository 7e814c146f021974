"""Any provider that speaks the OpenAI API: OpenAI itself, or whatever answers at `base_url`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import cycle
from typing import Any, ClassVar

import msgspec

from agent_gateway.core.call import Call
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import MalformedReply, ProviderError, ProviderKeyRefused
from agent_gateway.core.exchange import Attempt
from agent_gateway.core.route import Deployment
from agent_gateway.protocols.openai_chat.relay import error_in_body, provider_body
from agent_gateway.upstream.base import Answer
from agent_gateway.upstream.refusal import refusal
from agent_gateway.upstream.transport import Origin, ReadTimeout, Reply, Transport

#: An unary answer over this is refused; base64 images and audio fit (bytes).
ANSWER_MAX_BYTES = 64 * 1024 * 1024
#: Of an error's body, no more is read (bytes), nor waited for longer (s).
ERROR_MAX_BYTES = 256 * 1024
ERROR_WAIT_S = 5.0
#: A key that was refused is not used for so long (s), as long as there is another.
KEY_REST_S = 60.0

_log = logging.getLogger("agent_gateway.upstream")


class OpenAISettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`api_keys` are used in turn. `base_url` ends where `/chat/completions` begins."""

    kind: str = "openai"
    base_url: str = "https://api.openai.com/v1"
    api_key: str | None = None
    api_keys: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"OpenAISettings(kind={self.kind!r}, base_url={self.base_url!r}, keys={len(self.keys)})"

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.api_key, *self.api_keys) if self.api_key else self.api_keys


class OpenAIProvider:
    Settings: ClassVar[type[OpenAISettings]] = OpenAISettings

    def __init__(self, settings: OpenAISettings, transport: Transport, clock: Clock) -> None:
        self._transport = transport
        self._clock = clock
        self._origin = Origin.from_url(settings.base_url)
        path = _path_of(settings.base_url)
        host = self._origin.host_header
        self._keys = [
            _Key(
                number,
                f"POST {path}/chat/completions HTTP/1.1\r\nhost: {host}\r\n{_authorization(key)}"
                "content-type: application/json\r\naccept: application/json, text/event-stream\r\n"
                "accept-encoding: identity\r\nuser-agent: agent-gateway\r\n".encode("latin-1"),
            )
            for number, key in enumerate(settings.keys or (None,), start=1)
        ]
        self._turns = cycle(self._keys)

    async def send(self, call: Call, deployment: Deployment, attempt: Attempt, *, connect_until: float, until: float) -> Answer:
        """With several keys, one that is refused rests, and the call goes on with the next."""
        body = provider_body(call, deployment)
        lines = _header_lines(call.forward_headers)
        while True:
            key = self._next_key()
            head = b"%bcontent-length: %d\r\n%b\r\n" % (key.head, len(body), lines)
            reply = await self._transport.send(self._origin, head, body, connect_until=connect_until, until=until, attempt=attempt)
            attempt.first_byte = reply.first_byte_at
            attempt.provider_status = reply.status
            if reply.status == 200:
                break
            error = await self._refusal(reply, until)
            if not isinstance(error, ProviderKeyRefused) or not self._rest(key, reply.status):
                raise error
        if call.stream and not reply.headers.get(b"content-type", b"").lower().startswith(b"text/event-stream"):
            raise await self._not_a_stream(reply, until)
        return _HttpAnswer(reply)

    def _next_key(self) -> _Key:
        """The next one that does not rest; when all do, the next one all the same."""
        key = next(self._turns)
        if len(self._keys) > 1 and key.rests_until:
            now = self._clock.monotonic()
            for _ in self._keys:
                if now >= key.rests_until:
                    break
                key = next(self._turns)
        return key

    def _rest(self, key: _Key, status: int) -> bool:
        """Whether another key is left to try. The operator is told once a rest, by the key's number and never by its text."""
        now = self._clock.monotonic()
        if now >= key.rests_until:
            which = f"key {key.number} of {len(self._keys)}"
            _log.error("%s refused %s with status %d; it rests for %d s", self._origin.host, which, status, KEY_REST_S)
        key.rests_until = now + KEY_REST_S
        return any(now >= other.rests_until for other in self._keys)

    async def close(self) -> None:
        """The transport is shared; whoever made it closes it."""

    async def _refusal(self, reply: Reply, until: float) -> ProviderError:
        body = await self._error_body(reply, until)
        return refusal(reply.status, reply.headers, body, self._clock.wall())

    async def _not_a_stream(self, reply: Reply, until: float) -> ProviderError:
        body = await self._error_body(reply, until)
        try:
            said: Any = msgspec.json.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            said = None
        if isinstance(said, dict) and said.get("error") is not None:
            return error_in_body(said["error"])
        content_type = reply.headers.get(b"content-type", b"").decode("latin-1")
        return MalformedReply("The model provider answered a stream with something else.", detail=f"content-type {content_type!r}")

    async def _error_body(self, reply: Reply, until: float) -> bytes:
        """The error's body as far as it can be had: the status alone already says enough."""
        try:
            return await reply.read(min(until, self._clock.monotonic() + ERROR_WAIT_S), ERROR_MAX_BYTES)
        except (ProviderError, ReadTimeout):
            return b""
        finally:
            reply.close()


@dataclass(slots=True)
class _Key:
    """`head` is all of a request's head that does not change; `number` counts from 1 in the configuration."""

    number: int
    head: bytes
    rests_until: float = 0.0


class _HttpAnswer:
    """`Reply` with the bound on its body."""

    __slots__ = ("_reply", "close", "next")

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.next = reply.next
        self.close = reply.close

    async def read(self, until: float) -> bytes:
        return await self._reply.read(until, ANSWER_MAX_BYTES)


def _header_lines(headers: dict[str, str]) -> bytes:
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()]).encode("latin-1") if headers else b""


def _authorization(key: str | None) -> str:
    return f"authorization: Bearer {key}\r\n" if key else ""


def _path_of(base_url: str) -> str:
    rest = base_url.split("://", 1)[1]
    slash = rest.find("/")
    return "" if slash < 0 else rest[slash:].rstrip("/")
