"""What the simulator needs of a protocol: one file a protocol, which reads prompts and writes scripts as bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from agent_gateway.core.errors import BadRequest
from agent_gateway.simulator.script import Prompt, Script


@dataclass(frozen=True, slots=True)
class Request:
    """A request as read: what it says to the model, and how it wants the answer."""

    prompt: Prompt
    stream: bool
    with_usage: bool


@dataclass(frozen=True, slots=True)
class Stamp:
    """What marks one answer as itself."""

    #: The protocol puts its own prefix before it.
    id: str
    created: int
    #: As the client spelt it.
    model: str


@dataclass(frozen=True, slots=True)
class Frame:
    at_s: float
    data: bytes


class Dialect(Protocol):
    def read(self, body: bytes) -> Request:
        """Raises `BadRequest`."""

    def whole(self, script: Script, stamp: Stamp) -> bytes:
        """The body of a unary answer."""

    def frames(self, script: Script, stamp: Stamp, *, with_usage: bool) -> Iterator[Frame]:
        """The stream of the same answer, to its last byte."""

    def error(self, status: int) -> bytes:
        """The body that a provider answers with under `status`."""

    def error_frame(self) -> bytes:
        """A failure inside a stream."""

    def refusal(self, error: BadRequest) -> bytes:
        """The body of a 400."""

    def garbage(self, *, stream: bool) -> bytes:
        """Bytes that are not of the protocol."""
