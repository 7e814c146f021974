"""An answer that is told piece by piece, on its way from who makes it to the edge; neither knows the other."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field

from agent_gateway.core.exchange import Exchange


@dataclass(frozen=True, slots=True)
class Streamed:
    """Told until it ends or the client leaves; then the generator is closed."""

    pieces: AsyncGenerator[bytes, None]
    media: str = "text/event-stream"
    #: Further headers.
    head: Mapping[str, str] = field(default_factory=dict)
    #: Its `client_left` is set before the generator is cancelled; None: nobody asks.
    exchange: Exchange | None = None
