"""Records: the file as an operator's own tool would read it, by SQLite, while the gateway runs or after it died; and how tests fill one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from agent_gateway.record import row
from agent_gateway.record.sinks.database import DatabaseSink

#: One row of the table `records`, by column.
Record = dict[str, Any]


def read_records(path: Path) -> list[Record]:
    """Every record in the order of writing; empty while the file or its table does not exist yet."""
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
        database.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in database.execute("select * from records order by rowid")]
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise


async def keep_records(records: list[row.Record], url: str) -> None:
    """As the gateway with that database would have."""
    sink = DatabaseSink.for_url(url)
    sink.write(records)
    await sink.close(20)
    assert sink.written == len(records)
