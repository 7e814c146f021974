"""Records put into a database and looked for there, for tests of what reads them back."""

from __future__ import annotations

from typing import Any

from agent_gateway.core.clock import Clock
from agent_gateway.record.archive import LISTED, Archive, Wanted
from agent_gateway.record.row import Record, make_record
from agent_gateway.record.sinks.database import DatabaseSink
from tests.kit.eventually import eventually
from tests.record.exchanges import WALL, attempt, exchange, records

#: A minute after the records began.
CLOCK = Clock(wall=lambda: WALL + 60)
START_MS = int(WALL * 1000)
SECRET = "what nobody but me should know"


async def put(sink: DatabaseSink, rows: list[Record]) -> list[Record]:
    before = sink.written
    sink.write(rows)
    await eventually(lambda: sink.written == before + len(rows), "all rows")
    return rows


def spread(count: int, **fields: Any) -> list[Record]:
    """One a second."""
    return [record._replace(started_ms=START_MS + number * 1000, **fields) for number, record in enumerate(records(count))]


async def ids(archive: Archive, wanted: Wanted, limit: int = 100) -> list[str]:
    return [row[LISTED.index("id")] for row in (await archive.page(wanted, limit)).rows]


def said(user: str) -> Record:
    """It is in the request, the answer, and in what the provider said of it."""
    made = exchange(attempts=[attempt(outcome="error", error_detail=SECRET), attempt()])
    body = made.call.body.replace(b"Who are you", SECRET.encode())
    answer = b'{"text":"%b"}' % SECRET.encode()
    return make_record(made, "full")._replace(user_id=user, session_id=f"{user}-{SECRET}", request=body * 40, answer=answer)
