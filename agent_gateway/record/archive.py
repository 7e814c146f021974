"""Records read back: one, those that were looked for, and what they add up to; the same questions to every database.

Promise: nothing here runs on the event loop, and no question takes longer than `READ_TIMEOUT_S`, however much there is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, get_args

from agent_gateway.core.errors import BadRequest
from agent_gateway.core.exchange import Status
from agent_gateway.record.figures import DAY_MS, DURATIONS, FIRST_TOKENS, MODEL, TIMEOUT_CODES, Kind, spans
from agent_gateway.record.row import Record
from agent_gateway.record.slo import Sums
from agent_gateway.record.slo_records import sums_of
from agent_gateway.record.table import Reader

Group = Literal["key", "model", "day", "user"]
FigureGroup = Literal["all", "model", "deployment", "pattern", "dialect", "status", "error", "key"]
FeedbackGroup = Literal["all", "model", "pattern", "status", "key"]
Step = Literal["hour", "day"]

#: What a list shows: all but the bodies.
LISTED = tuple(name for name in Record._fields if name not in ("attempts", "request", "answer"))
_ID, _STARTED = LISTED.index("id"), LISTED.index("started_ms")

#: Groups of feedback that are told at once.
SCORES_MAX = 1_000
#: By group: the column of `figures`.
_FIGURES: dict[FigureGroup, str] = {
    "all": "''",
    "model": "model",
    "deployment": "deployment",
    "pattern": "pattern",
    "dialect": "dialect",
    "status": "status",
    "error": "error_code",
    "key": "key_id",
}
#: By group: what it is called in `figures`, and in `records`.
_USED: dict[Group, tuple[str, str]] = {
    "key": ("key_id", "coalesce(key_id, '')"),
    "model": ("model", MODEL),
    "day": (f"at_ms / {DAY_MS}", f"started_ms / {DAY_MS}"),
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records; None: whatever it is. Times in Unix ms: `since_ms` is in, `until_ms` is out."""

    model: str | None = None
    key: str | None = None
    status: str | None = None
    session: str | None = None
    user: str | None = None
    error: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class RecordPage:
    """`rows`: the columns `LISTED`, newest first."""

    rows: Sequence[tuple[Any, ...]]
    next: str | None


@dataclass(frozen=True, slots=True)
class UsageRow:
    #: The key's id, the model, the day (UTC) or the user; "" where there was none.
    group: str
    requests: int
    errors: int
    input_tokens: int
    output_tokens: int
    cost_usd: float


_CONDITIONS = (
    ("model = ?", "model"),
    ("key_id = ?", "key"),
    ("status = ?", "status"),
    ("session_id = ?", "session"),
    ("user_id = ?", "user"),
    ("error_code = ?", "error"),
    ("started_ms >= ?", "since_ms"),
    ("started_ms < ?", "until_ms"),
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What the requests of one step that are alike add up to: their number, and sums of what they have."""

    at_ms: int
    #: "" where there was none.
    group: str
    requests: int
    by_status: dict[str, int]
    timeouts: int
    attempts: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    #: Requests whose tokens the gateway counted itself.
    estimated: int
    cost_usd: float
    #: Sums; those of quality and score over so many requests as `rated` and `scores` tell.
    duration_ms: float
    overhead_ms: float
    ttft_ms: float
    rated: int
    quality: float
    scores: int
    score: int
    #: By bucket of `figures.BOUNDS_MS`: requests, and streams by their time to first token.
    durations: tuple[int, ...]
    first_tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """How many there were, and their sum: of fixed replies, and of all other answers."""

    group: str
    scores: int
    score: int
    degraded_scores: int
    degraded_score: int


_STATUSES = get_args(Status)
_FIGURE_SUMS = (
    *[f"CASE WHEN status = '{status}' THEN requests ELSE 0 END" for status in _STATUSES],
    f"CASE WHEN error_code IN ({', '.join(map(repr, TIMEOUT_CODES))}) THEN requests ELSE 0 END",
    *("attempts_count", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens"),
    *("tokens_estimated", "cost_usd", "duration_ms", "overhead_ms", "ttft_ms", "rated", "quality", "scores", "score"),
    *DURATIONS,
    *FIRST_TOKENS,
)
_REALS = ("cost_usd", "duration_ms", "overhead_ms", "ttft_ms", "quality")


class Archive:
    """All methods raise `StoreDown` and `Overloaded`."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def page(self, wanted: Wanted, limit: int, cursor: str | None = None) -> RecordPage:
        """Raises `BadRequest` for a cursor that was never given."""
        conditions, values = _where(wanted)
        if cursor is not None:
            conditions.append("(started_ms, id) < (?, ?)")
            values += _place(cursor)
        # The columns are those of `Record`, the conditions those above; what was asked for is bound.
        statement = f"SELECT {', '.join(LISTED)} FROM records {_clause(conditions)} ORDER BY started_ms DESC, id DESC LIMIT ?"  # noqa: S608
        rows = await self._reader.rows(statement, [*values, limit + 1])
        shown = rows[:limit]
        return RecordPage(shown, _cursor(shown[-1][_STARTED], shown[-1][_ID]) if len(rows) > limit else None)

    async def find(self, request_id: str) -> Record | None:
        statement = f"SELECT {', '.join(Record._fields)} FROM records WHERE id = ?"  # noqa: S608 – as above
        rows = await self._reader.rows(statement, [request_id])
        return Record._make(rows[0]) if rows else None

    async def oldest(self, after: tuple[int, str], until_ms: int, limit: int) -> list[Record]:
        """Whole records, oldest first: those behind one that began at a time (Unix ms) and has an id."""
        statement = (
            f"SELECT {', '.join(Record._fields)} FROM records WHERE (started_ms, id) > (?, ?) AND started_ms < ? "  # noqa: S608 – as above
            "ORDER BY started_ms, id LIMIT ?"
        )
        return [Record._make(row) for row in await self._reader.rows(statement, [*after, until_ms, limit])]

    async def usage(
        self, group: Group, since_ms: int, until_ms: int | None, limit: int, after: str | None = None
    ) -> tuple[list[UsageRow], bool]:
        """In the order of their groups, those behind `after`; whether there are more. Exact: hours that are not whole are added up anew."""
        if until_ms is not None and until_ms <= since_ms:
            return [], False
        source, values = _used(group, since_ms, until_ms)
        behind = ""
        if after is not None:
            behind = "WHERE name > ?"
            values.append(_day_number(after) if group == "day" else after)
        sums = ", ".join([_sum(column) for column in ("requests", "errors", "input_tokens", "output_tokens")])
        statement = f"SELECT name, {sums}, sum(cost_usd) FROM ({source}) AS used {behind} GROUP BY name ORDER BY name LIMIT ?"  # noqa: S608
        rows = await self._reader.rows(statement, [*values, limit + 1])
        told = [UsageRow(_day(name) if group == "day" else name, *figures) for name, *figures in rows[:limit]]
        return told, len(rows) > limit

    async def figures(
        self, group: FigureGroup, step: Step, since_ms: int, until_ms: int, limit: int, cursor: str | None = None
    ) -> tuple[list[Figures], str | None]:
        """Steps that begin in the time, in their order, then that of their groups; and where to go on. `BadRequest`: as of `page`."""
        name = _FIGURES[group]
        values: list[Any] = [_kind(group, step), since_ms, until_ms]
        behind = ""
        if cursor is not None:
            behind = f"AND (at_ms, {name}) > (?, ?)"
            values += _place(cursor)
            values[1] = max(since_ms, values[-2])
        sums = ", ".join([f"sum({column})" if column in _REALS else _sum(column) for column in ("requests", *_FIGURE_SUMS)])
        statement = (
            f"SELECT at_ms, {name}, {sums} FROM figures WHERE kind = ? AND at_ms >= ? AND at_ms < ? {behind} "  # noqa: S608
            "GROUP BY 1, 2 ORDER BY 1, 2 LIMIT ?"
        )
        rows = await self._reader.rows(statement, [*values, limit + 1])
        told = [_figures(row) for row in rows[:limit]]
        return told, _cursor(told[-1].at_ms, told[-1].group) if len(rows) > limit else None

    async def feedback(self, group: FeedbackGroup, since_ms: int, until_ms: int) -> list[Scores]:
        """Of requests of the days that begin in the time; the groups that have any, at most `SCORES_MAX`."""
        name, degraded = _FIGURES[group], "status = 'degraded'"
        sums = [
            _sum(f"CASE WHEN {which} THEN {column} ELSE 0 END") for which in (f"NOT {degraded}", degraded) for column in ("scores", "score")
        ]
        statement = (
            f"SELECT {name}, {', '.join(sums)} FROM figures WHERE kind = ? AND at_ms >= ? AND at_ms < ? AND scores > 0 "  # noqa: S608
            "GROUP BY 1 ORDER BY 1 LIMIT ?"
        )
        return [Scores(*row) for row in await self._reader.rows(statement, [_kind(group, "day"), since_ms, until_ms, SCORES_MAX])]

    async def feedback_of(self, request_id: str) -> tuple[int, str | None, int] | None:
        """Score, comment, and when it was given (Unix ms)."""
        rows = await self._reader.rows("SELECT score, comment, given_ms FROM feedback WHERE request_id = ?", [request_id])
        return (rows[0][0], rows[0][1], rows[0][2]) if rows else None

    async def sums(self, since_ms: int, until_ms: int) -> Sums:
        """For service levels."""
        return await sums_of(self._reader.rows, since_ms, until_ms)

    async def close(self) -> None:
        await self._reader.close()


def _kind(group: Group | FigureGroup | FeedbackGroup, step: Step) -> Kind:
    """Of the figures that have the group, those of the fewest rows."""
    if group == "key":
        return "key hour" if step == "hour" else "key day"
    if group in ("all", "day", "status", "error"):
        return "total hour" if step == "hour" else "total day"
    return step


def _used(group: Group, since_ms: int, until_ms: int | None) -> tuple[str, list[Any]]:
    """SQL that gives `name, requests, errors, input_tokens, output_tokens, cost_usd`, in parts: days that are whole, then of what is left
    hours that are whole, and of what is left then records. What has no end ends with a day that is yet to come.
    """
    ends_ms = _FOREVER_MS if until_ms is None else until_ms
    if group == "user":
        return _used_by_record("user_id", "AND user_id IS NOT NULL"), [since_ms, ends_ms]
    by_step, by_record = _USED[group]
    parts: list[str] = []
    values: list[Any] = []
    for step, begins, ends in spans(since_ms, ends_ms):
        parts.append(_used_by_record(by_record) if step is None else _used_by_step(by_step))
        values += [begins, ends] if step is None else [_kind(group, step), begins, ends]
    return " UNION ALL ".join(parts), values


def _used_by_step(name: str) -> str:
    return (
        f"SELECT {name} AS name, requests, CASE WHEN status = 'error' THEN requests ELSE 0 END AS errors, input_tokens, "  # noqa: S608
        "output_tokens, cost_usd FROM figures WHERE kind = ? AND at_ms >= ? AND at_ms < ?"
    )


def _used_by_record(name: str, also: str = "") -> str:
    return (
        f"SELECT {name} AS name, 1 AS requests, CASE WHEN status = 'error' THEN 1 ELSE 0 END AS errors, "  # noqa: S608
        "coalesce(input_tokens, 0) AS input_tokens, coalesce(output_tokens, 0) AS output_tokens, coalesce(cost_usd, 0.0) AS cost_usd "
        f"FROM records WHERE started_ms >= ? AND started_ms < ? {also}"
    )


def _sum(column: str) -> str:
    """PostgreSQL would give more digits than a number here has."""
    return f"CAST(sum({column}) AS BIGINT)"


def _figures(row: Sequence[Any]) -> Figures:
    at_ms, group, requests, *rest = row
    statuses, rest = rest[: len(_STATUSES)], rest[len(_STATUSES) :]
    plain, buckets = rest[: -2 * len(DURATIONS)], rest[-2 * len(DURATIONS) :]
    by_status = dict(zip(_STATUSES, statuses, strict=True))
    values = [at_ms, group, requests, by_status, *plain, tuple(buckets[: len(DURATIONS)]), tuple(buckets[len(DURATIONS) :])]
    return Figures(*values)


def _where(wanted: Wanted) -> tuple[list[str], list[Any]]:
    given = [(condition, value) for condition, name in _CONDITIONS if (value := getattr(wanted, name)) is not None]
    return [condition for condition, _ in given], [value for _, value in given]


def _clause(conditions: list[str]) -> str:
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""


# --- where to go on ---------------------------------------------------------------------------------------------------

#: Later than any request, and less than what a database holds.
_FOREVER_MS = 2**53 // DAY_MS * DAY_MS
_PLACE = re.compile(r"(\d{1,16})~(.*)", re.ASCII | re.DOTALL)
_EPOCH = date(1970, 1, 1)


def _cursor(at_ms: int, name: str) -> str:
    return f"{at_ms}~{name}"


def _place(cursor: str) -> list[Any]:
    """The time, and the id or the group, of the last one that was shown."""
    found = _PLACE.fullmatch(cursor)
    if found is None:
        raise _unknown_cursor()
    return [int(found[1]), found[2]]


def _day(number: int) -> str:
    return datetime.fromtimestamp(number * DAY_MS / 1000, UTC).date().isoformat()


def _day_number(day: str) -> int:
    try:
        return (date.fromisoformat(day) - _EPOCH) // timedelta(days=1)
    except ValueError:
        raise _unknown_cursor() from None


def _unknown_cursor() -> BadRequest:
    return BadRequest("This cursor is none that was given here.", param="cursor")
