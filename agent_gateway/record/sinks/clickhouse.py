"""The sink that inserts records into ClickHouse, over its HTTP interface.

Promise: a record is in the table once in the end: a batch that is given again after a lost answer is known by its rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.util import find_spec
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from msgspec import Meta

from agent_gateway.core.errors import StoreDown
from agent_gateway.core.settings import Seconds
from agent_gateway.record.base import SinkSettings, Tools, check_address
from agent_gateway.record.row import NAME_MAX_CHARS, Record, unpacked
from agent_gateway.record.shipping import Refused, Shipping, Untaken, gently

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

#: What is told of an error (characters).
TOLD_MAX_CHARS = 300
#: So many batches are known again, should one be given twice.
DEDUPLICATED_BATCHES = 1000
#: For all of one user's records (s).
ERASE_TIMEOUT_S = 60.0

T = TypeVar("T")
Name = Annotated[str, Meta(min_length=1, max_length=128)]

#: Names of configured things and codes of the program's own: few different ones, so ClickHouse keeps them as numbers.
_FEW = frozenset({"model", "deployment", "error_code", "reason", "finish_reason", "key_id", "guards"})
#: What providers said is in `attempts`, and may quote the user.
_OF_USER = ("user_id", "session_id", "client_request_id", "traceparent", "attempts", "request", "answer")


class ClickHouseSettings(SinkSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: str = "clickhouse"
    #: Of the HTTP interface.
    url: str = "http://127.0.0.1:8123"
    user: Name = "default"
    password: str = ""
    #: It must be there; the table is made where it is not.
    database: Name = "default"
    table: Name = "agent_gateway_records"
    #: Of a table that is made: how long ClickHouse keeps a record. None: for good.
    retention_days: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    timeout_s: Seconds = 10

    def __post_init__(self) -> None:
        if find_spec("clickhouse_connect") is None:
            raise ValueError("kind: needs a library that is not installed; in a clone: pip install '.[clickhouse]'")
        check_address("url", self.url)
        for name in ("database", "table"):
            if "`" in getattr(self, name) or "\\" in getattr(self, name):
                raise ValueError(f"{name}: holds a ` or a \\; take another name")


class ClickHouseSink(Shipping):
    Settings = ClickHouseSettings
    linger_s = 1.0

    def __init__(self, settings: ClickHouseSettings, tools: Tools) -> None:
        super().__init__(settings.title, tools.clock)
        self._settings = settings
        self._table = f"`{settings.database}`.`{settings.table}`"
        # The thread's own.
        self._client: Client | None = None

    async def erase(self, user: str) -> int:
        try:
            async with asyncio.timeout(ERASE_TIMEOUT_S):
                return await self.ask(lambda: self._erase(user[:NAME_MAX_CHARS]))
        except (TimeoutError, Untaken, Refused, OSError) as error:
            why = "The user's records in ClickHouse are not all erased: they cannot be written at the moment. Ask again."
            raise StoreDown(why, detail=str(error) or "it takes too long") from None

    # --- in the thread

    def ship(self, records: list[Record]) -> int:
        rows = [_row(record) for record in gently(records)]
        self._do(lambda client: client.insert(self._settings.table, rows, COLUMNS, column_type_names=list(TYPES.values())))
        return len(records)

    def release(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None

    def _erase(self, user: str) -> int:
        def erase(client: Client) -> int:
            known, where = {"user": user}, "WHERE user_id = {user:String}"
            ((count,),) = client.query(f"SELECT count() FROM {self._table} {where}", known).result_rows  # noqa: S608 – our own names
            if count:
                nothing = ", ".join([f"{name} = NULL" for name in _OF_USER])
                client.command(f"ALTER TABLE {self._table} UPDATE {nothing} {where}", known, settings={"mutations_sync": 1})
            return int(count)

        return self._do(erase)

    def _do(self, work: Callable[[Client], T]) -> T:
        """With the client, made where there is none. Its errors become ours; after one the next call begins anew."""
        from clickhouse_connect.driver.exceptions import ClickHouseError, DataError, ProgrammingError

        try:
            if self._client is None:
                self._client = self._connect()
            return work(self._client)
        except (DataError, ProgrammingError) as error:
            raise Refused(_told(error)) from None
        except (ClickHouseError, OSError) as error:
            self.release()
            raise Untaken(_told(error)) from None

    def _connect(self) -> Client:
        """With the table as it has to be: made, or given the columns that it lacks."""
        from clickhouse_connect import get_client

        settings, place = self._settings, urlsplit(self._settings.url)
        secure = place.scheme == "https"
        client = get_client(
            interface=place.scheme,
            host=place.hostname,
            port=place.port or (8443 if secure else 8123),
            secure=secure,
            username=settings.user,
            password=settings.password,
            database=settings.database,
            connect_timeout=settings.timeout_s,
            send_receive_timeout=settings.timeout_s,
            query_retries=0,
            client_name="agent-gateway",
            autogenerate_session_id=False,
            proxy_path=place.path.strip("/"),
        )
        client.command(self._definition())
        client.command(
            f"ALTER TABLE {self._table} {', '.join([f'ADD COLUMN IF NOT EXISTS {name} {kind}' for name, kind in TYPES.items()])}"
        )
        return client

    def _definition(self) -> str:
        columns = ", ".join([f"{name} {kind}" for name, kind in TYPES.items()])
        days = self._settings.retention_days
        ttl = "" if days is None else f"TTL toDateTime(intDiv(started_ms, 1000)) + INTERVAL {days} DAY "
        return (
            f"CREATE TABLE IF NOT EXISTS {self._table} "
            f"({columns}, started_at DateTime64(3, 'UTC') ALIAS fromUnixTimestamp64Milli(started_ms, 'UTC')) "
            "ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(toDateTime(intDiv(started_ms, 1000), 'UTC')) ORDER BY (started_ms, id) "
            f"{ttl}SETTINGS non_replicated_deduplication_window = {DEDUPLICATED_BATCHES}"
        )


def _types() -> dict[str, str]:
    """The columns of `Record`, in its order, as ClickHouse's types."""
    return {name: _type(name, hint) for name, hint in get_type_hints(Record).items()}


def _type(name: str, hint: Any) -> str:
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kind = next(kind for kind in kinds if kind is not NoneType)
    text = get_origin(kind) is Literal or kind in (str, bytes)
    told = "String" if text else {int: "Int64", float: "Float64"}[kind]
    if NoneType in kinds:
        told = f"Nullable({told})"
    return f"LowCardinality({told})" if name in _FEW or get_origin(kind) is Literal else told


TYPES = _types()
COLUMNS = list(TYPES)


def _row(record: Record) -> list[Any]:
    return [_text(unpacked(value) if isinstance(value, bytes) else value) for value in record]


def _text(value: Any) -> Any:
    """Bytes as text; half a character, which a client's JSON can hold, becomes a question mark."""
    match value:
        case bytes():
            return value.decode("utf-8", "replace")
        case str() if not value.isascii():
            return value.encode("utf-8", "replace").decode()
        case _:
            return value


def _told(error: Exception) -> str:
    """The first line: what follows is the query, with its rows."""
    return (str(error).strip() or repr(error)).splitlines()[0][:TOLD_MAX_CHARS]
