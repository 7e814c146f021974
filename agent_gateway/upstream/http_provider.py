"""What every provider behind HTTP has in common: keys in turn, the request's head, refusals, and bounds on what comes back.

No plug-in itself: a plug-in adds which protocols are spoken, and at which endpoint.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import cycle
from urllib.parse import urlsplit

import msgspec

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import MalformedReply, ProviderError, ProviderKeyRefused, ProviderTimeout
from agent_gateway.core.exchange import Attempt
from agent_gateway.core.route import Deployment
from agent_gateway.upstream.base import Answer
from agent_gateway.upstream.origin import Origin
from agent_gateway.upstream.refusal import refusal, refusal_under_200
from agent_gateway.upstream.transport import ReadTimeout, Reply, Transport

#: Of an error's body, no more is read (bytes), nor waited for longer (s).
ERROR_MAX_BYTES = 256 * 1024
ERROR_WAIT_S = 5.0
#: A key that was refused is not used for so long (s), as long as there is another.
KEY_REST_S = 60.0

_NO_HEADERS: Mapping[str, str] = {}

_log = logging.getLogger("agent_gateway.upstream")


@dataclass(slots=True)
class Endpoint:
    """Where calls of one protocol go. `path` is what stands in the request's first line, query included."""

    path: str
    #: All of a header line that stands before the key.
    key_header: str = "authorization: Bearer "
    #: Headers that are sent where the client's own do not say otherwise.
    headers: dict[str, str] = field(default_factory=dict)
    # As they go on the wire:
    first_line: bytes = field(init=False)
    key_start: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.first_line = f"POST {self.path} HTTP/1.1\r\n".encode("ascii")
        self.key_start = self.key_header.encode("ascii")


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What such a provider is configured with at least. `api_keys` are used in turn; without any key, none is shown."""

    kind: str
    base_url: str
    api_key: str | None = None
    api_keys: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(kind={self.kind!r}, base_url={self.base_url!r}, keys={len(self.keys)})"

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.api_key, *self.api_keys) if self.api_key else self.api_keys


class HttpProvider(ABC):
    """A `Provider` but for its `Settings`, what it `speaks`, and at which `endpoint`."""

    def __init__(self, settings: HttpSettings, transport: Transport, clock: Clock) -> None:
        self._transport = transport
        self._clock = clock
        self._origin = Origin.from_url(settings.base_url)
        #: What of the address is path, without a slash at its end.
        self.path = urlsplit(settings.base_url).path.rstrip("/")
        #: Whose path stands before every path of its API, without a slash at its end; and how a key is shown there.
        self.root = Endpoint(self.path)
        self._always = (
            f"host: {self._origin.host_header}\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\n"
            "accept-encoding: identity\r\nuser-agent: agent-gateway\r\n"
        ).encode("ascii")
        self._keys = [_Key(number, key.encode("latin-1")) for number, key in enumerate(settings.keys or ("",), start=1)]
        self._turns = cycle(self._keys)

    @abstractmethod
    def speaks(self, call: Call, deployment: Deployment) -> Dialect: ...

    def takes_several(self, dialect: Dialect) -> bool:
        return False

    @abstractmethod
    def endpoint(self, call: Call, deployment: Deployment, dialect: Dialect) -> Endpoint:
        """`dialect` is one that it speaks."""

    async def send(
        self, call: Call, deployment: Deployment, attempt: Attempt, *, dialect: Dialect, body: bytes, connect_until: float, until: float
    ) -> Answer:
        """With several keys, one that is refused rests, and the call goes on with the next."""
        endpoint = self.endpoint(call, deployment, dialect)
        while True:
            key = self._next_key()
            head = self._head(endpoint, key, call, len(body))
            reply = await self._transport.send(self._origin, head, body, connect_until=connect_until, until=until, attempt=attempt)
            attempt.first_byte = reply.first_byte_at
            attempt.provider_status = reply.status
            if reply.status == 200:
                break
            said = await self._error_body(reply, until)
            error = refusal(reply.status, reply.headers, said, self._clock.wall(), dialect)
            if not isinstance(error, ProviderKeyRefused) or not self._rest(key, reply.status):
                raise error
        if call.stream and not reply.headers.get(b"content-type", b"").lower().startswith(b"text/event-stream"):
            raise await self._not_a_stream(reply, until, dialect)
        return reply

    def account(self) -> str:
        """Whose turn it is of the keys: what is made with one may be seen with it alone. Tells nothing of the key's text."""
        return self._next_key().account

    async def ask(
        self, method: str, path: str, account: str, *, body: bytes = b"", headers: Mapping[str, str] = _NO_HEADERS, until: float
    ) -> Reply:
        """What is no call of a model, with the key of that account (of any, where it is gone). `path`: whole, query included.

        Returns when a 2xx status has come; the reply is the caller's to read and close. Every other outcome is a `ProviderError`.
        """
        key = next((key for key in self._keys if key.account == account), None) or self._next_key()
        root = self.root
        shown = {"host": self._origin.host_header, "accept-encoding": "identity", "user-agent": "agent-gateway", **root.headers, **headers}
        lines = "".join([f"{name}: {value}\r\n" for name, value in {**shown, "content-length": str(len(body))}.items()])
        key_line = b"%b%b\r\n" % (root.key_start, key.secret) if key.secret else b""
        head = b"%b%b%b\r\n" % (f"{method} {path} HTTP/1.1\r\n".encode("ascii"), lines.encode("latin-1"), key_line)
        try:
            reply = await self._transport.send(self._origin, head, body, connect_until=until, until=until)
        except ReadTimeout:
            raise ProviderTimeout("The model provider did not answer in time.", kind="attempt") from None
        if 200 <= reply.status < 300:
            return reply
        said = await self._error_body(reply, until)
        error = refusal(reply.status, reply.headers, said, self._clock.wall(), None)
        if isinstance(error, ProviderKeyRefused):
            self._rest(key, reply.status)
        raise error

    def redact(self, text: str) -> str:
        for key in self._keys:
            if key.secret:
                text = text.replace(key.secret.decode("latin-1"), "[key]")
        return text

    async def close(self) -> None:  # noqa: B027 - a plug-in may hold more
        """The transport is shared; whoever made it closes it."""

    def _head(self, endpoint: Endpoint, key: _Key, call: Call, body_bytes: int) -> bytes:
        shown = b"%b%b\r\n" % (endpoint.key_start, key.secret) if key.secret else b""
        headers = {**endpoint.headers, **call.forward_headers} if endpoint.headers else call.forward_headers
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()]).encode("latin-1") if headers else b""
        return b"%b%b%bcontent-length: %d\r\n%b\r\n" % (endpoint.first_line, self._always, shown, body_bytes, lines)

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

    async def _not_a_stream(self, reply: Reply, until: float, dialect: Dialect) -> ProviderError:
        error = refusal_under_200(await self._error_body(reply, until), dialect)
        if error is not None:
            return error
        content_type = reply.headers.get(b"content-type", b"").decode("latin-1")
        return MalformedReply("The model provider answered a stream with something else.", detail=f"content-type {content_type!r}")

    async def _error_body(self, reply: Reply, until: float) -> bytes:
        """The error's body as far as it can be had: the status alone already says enough."""
        try:
            said = await reply.read(min(until, self._clock.monotonic() + ERROR_WAIT_S), ERROR_MAX_BYTES)
        except (ProviderError, ReadTimeout):
            return b""
        finally:
            reply.close()
        return self.redact(said.decode("latin-1")).encode("latin-1")


@dataclass(slots=True)
class _Key:
    """`number` counts from 1 in the configuration; `secret` is empty where no key is shown."""

    number: int
    secret: bytes
    rests_until: float = 0.0

    @property
    def account(self) -> str:
        return sha256(self.secret).hexdigest()[:16]
