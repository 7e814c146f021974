"""What a sink promises: records go in at any rate, nothing waits for it, and what it loses it counts.

A sink is one file in `record/sinks`; the recorder hands each of them every record, batch by batch. The database is always one of them:
the archive reads from there. `monitoring.sinks` names the further ones, each of which hands the records on to another system.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol
from urllib.parse import urlsplit

from msgspec import Struct

from agent_gateway.core.clock import SYSTEM_CLOCK, Clock
from agent_gateway.core.plugins import Seat
from agent_gateway.record.row import Record

SINKS = Seat(
    "sinks",
    {
        "database": "agent_gateway.record.sinks.database:DatabaseSink",
        "jsonl": "agent_gateway.record.sinks.jsonl:JsonlSink",
        "clickhouse": "agent_gateway.record.sinks.clickhouse:ClickHouseSink",
        "otlp": "agent_gateway.record.sinks.otlp:OtlpSink",
    },
)
#: The one that `state.database` configures.
DATABASE = "database"


class SinkSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every further sink is configured with; a plug-in adds its own, and `kind` with its default.

    `__post_init__` raises `ValueError` for what cannot be, told with the setting's path where the text begins with its name (`path: …`).
    """

    kind: str
    #: None: as the kind.
    name: str | None = None

    @property
    def title(self) -> str:
        return self.name or self.kind

    def __repr__(self) -> str:
        """Without what may be a key."""
        return f"{type(self).__name__}({self.title})"


def check_address(name: str, url: str) -> None:
    """Of another system, in the setting `name`. Raises `ValueError`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{name}: is not an address: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(f"{name}: is not an address; use http://… or https://…")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"{name}: holds a user, a query or a fragment; an address ends with its path, and keys have settings of their own")


class Sink(Protocol):
    """All methods are called on the event loop; those that are not awaited return at once and never raise."""

    #: The label of `records_total`.
    name: str

    @property
    def written(self) -> int:
        """Records that are safe where this sink puts them, each counted once."""

    @property
    def adopted(self) -> int:
        """Of those written, the ones that an earlier process had left behind."""

    @property
    def dropped(self) -> int:
        """Records that this sink was given and lost."""

    def start(self) -> None:
        """Called before the first `write`, more than once without harm."""

    def keep(self, retention_days: float) -> None:
        """Records older than this may go."""

    def write(self, records: Sequence[Record]) -> None: ...

    async def erase(self, user: str) -> int:
        """Takes out of all records written so far what this user said, was told and is known by; figures stay. How many there were.

        What was handed on to a system that takes nothing back is out of reach: 0. Raises `StoreDown` when it cannot be done now.
        """

    async def close(self, timeout_s: float) -> None:
        """Everything written is safe when it returns, or `timeout_s` is over. Nothing is written after it."""


class Address(NamedTuple):
    """Where a provider of the configuration is, and what kind of provider is there."""

    kind: str
    host: str | None
    port: int | None


@dataclass(frozen=True, slots=True)
class Tools:
    """What a further sink may need to know. `providers` by name: it follows the configuration."""

    clock: Clock = SYSTEM_CLOCK
    providers: Mapping[str, Address] = field(default_factory=dict)


class FurtherSink(Sink, Protocol):
    """One that `monitoring.sinks` can name."""

    Settings: ClassVar[type[SinkSettings]]

    def __init__(self, settings: Any, tools: Tools) -> None: ...
