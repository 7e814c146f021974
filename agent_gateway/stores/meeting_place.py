"""A place where processes meet becomes a meeting there: by its kind, and only that kind's library is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias, TypeVar

from agent_gateway.stores.meeting import Meeting, Script

T = TypeVar("T")

#: A Redis URL, or the file that the workers of one machine share.
Place: TypeAlias = str | Path


def open_meeting(place: Place, script: Script[T]) -> Meeting[T]:
    """Opens nothing yet."""
    if isinstance(place, Path):
        from agent_gateway.stores.shared_file import FileMeeting

        return FileMeeting(place, script)
    from agent_gateway.stores.redis_meeting import RedisMeeting

    return RedisMeeting(place, script)
