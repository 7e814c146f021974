"""The bytes of all requests' bodies that this process holds at once, bounded: from the first one read to the end of the answer.

Promise: what a request holds is given back once, by its exchange's end or by the edge that gave up reading it.
"""

from __future__ import annotations

from agent_gateway.core.errors import Overloaded

#: A client is told to come back after this long (s).
RETRY_AFTER_S = 1.0


class Bodies:
    """One a process; both lanes and every WebSocket share it."""

    __slots__ = ("held_bytes", "max_bytes")

    def __init__(self, max_bytes: float = float("inf")) -> None:
        self.max_bytes = max_bytes
        self.held_bytes = 0

    def hold(self, size: int) -> BodyHold:
        """Raises `Overloaded`."""
        self.take(size)
        return BodyHold(self, size)

    def take(self, size: int) -> None:
        if self.held_bytes + size > self.max_bytes:
            raise Overloaded("The requests under way are as large as the gateway can hold.", param="bodies", retry_after_s=RETRY_AFTER_S)
        self.held_bytes += size


class BodyHold:
    """What one request holds."""

    __slots__ = ("_bodies", "size")

    def __init__(self, bodies: Bodies, size: int) -> None:
        self._bodies = bodies
        self.size = size

    def grow(self, size: int) -> None:
        """Raises `Overloaded`; what was held before still is."""
        self._bodies.take(size)
        self.size += size

    def release(self) -> None:
        self._bodies.held_bytes -= self.size
        self.size = 0
