"""What a provider plug-in promises, and the seat they sit in."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import msgspec

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.clock import Clock
from agent_gateway.core.exchange import Attempt
from agent_gateway.core.plugins import Seat
from agent_gateway.core.route import Deployment
from agent_gateway.upstream.known_providers import known_providers
from agent_gateway.upstream.reply import Taker
from agent_gateway.upstream.transport import Transport

PROVIDERS = Seat(
    "providers",
    {
        "openai": "agent_gateway.upstream.providers.openai:OpenAIProvider",
        "anthropic": "agent_gateway.upstream.providers.anthropic:AnthropicProvider",
        "gemini": "agent_gateway.upstream.providers.gemini:GeminiProvider",
        "simulated": "agent_gateway.upstream.providers.simulated:SimulatedProvider",
    },
    lambda: {known.kind: "agent_gateway.upstream.providers.openai:OpenAIProvider" for known in known_providers()},
)


class Answer(Protocol):
    """A provider's reply whose status was 2xx. `until` is an absolute monotonic time; a wait past it raises `ReadTimeout`."""

    async def read(self, until: float) -> bytes:
        """The whole body of a unary answer."""

    async def next(self, until: float) -> bytes:
        """What has arrived of a stream since the last call; `b""` at its clean end."""

    def pass_to(self, taker: Taker | None) -> None:
        """What comes of a stream while `next` waits is offered to `taker`; what it takes, `next` does not return. May be ignored."""

    def close(self) -> None:
        """Stops the provider's work at once if it has not ended. Idempotent."""


class ReadyAnswer:
    """An unary answer that is there already."""

    __slots__ = ("_body",)

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self, until: float) -> bytes:
        return self._body

    async def next(self, until: float) -> bytes:
        """Nothing is streamed."""
        return b""

    def pass_to(self, taker: Taker | None) -> None:
        """Nor is there anything to pass."""

    def close(self) -> None:
        """There is nothing to stop."""


class Provider(Protocol):
    """One provider: its address, key, quirks and protocol. Built from its own `Settings`; lives until a reload changes them."""

    Settings: ClassVar[type[msgspec.Struct]]

    def __init__(self, settings: Any, transport: Transport, clock: Clock) -> None:
        """`transport` is shared by all providers and outlives them."""

    def speaks(self, call: Call, deployment: Deployment) -> Dialect:
        """The protocol in which this call goes out: the client's own where the provider speaks it. Raises `NotExpressible`."""

    def takes_several(self, dialect: Dialect) -> bool:
        """One call of this protocol may hold the inputs of several, each answered as if it had come alone: asked of embeddings and
        completions.
        """

    async def send(
        self, call: Call, deployment: Deployment, attempt: Attempt, *, dialect: Dialect, body: bytes, connect_until: float, until: float
    ) -> Answer:
        """Sends `body`, which is the call in `dialect`, and returns when a 2xx status has come.

        Every other outcome is a `ProviderError`, classed here once.
        """

    def redact(self, text: str) -> str:
        """What it said, as it may be kept and logged: without the keys that it was shown."""

    async def close(self) -> None: ...
