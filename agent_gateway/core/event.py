"""What happens while an answer is made. A stream is `Chunk`s, perhaps ended by a `Failure`; a unary answer is one `Whole`."""

from __future__ import annotations

from msgspec import Struct

from agent_gateway.core.errors import GatewayError


class Chunk(Struct):
    """Whole SSE frames in the client's protocol, as they go on the wire."""

    data: bytes


class Whole(Struct):
    """A unary answer's body in the client's protocol."""

    body: bytes


class Failure(Struct):
    """The stream failed after it had begun; nothing follows."""

    error: GatewayError


Event = Chunk | Whole | Failure
