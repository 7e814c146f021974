"""Figures by the hour and by the day: what records add up to, worked out as they are written, so that nobody has to add up a year of them.

Promise: a record is in its figures exactly once, for both are written in one transaction; their number does not grow with names that
clients make up.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from operator import add, itemgetter, sub
from typing import Any, Literal

from agent_gateway.core.errors import ProviderTimeout, RequestTimeout, Unauthenticated, UnknownModel
from agent_gateway.record.metrics import DURATION_S, OTHER, OVERHEAD_S
from agent_gateway.record.row import Record

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
#: Of figures; a year can be set beside the one before it.
KEPT_MS = 400 * DAY_MS
#: Models told apart in an hour by one process; those of any more are `other`.
MODELS_MAX = 1_000

#: Figures are kept several times, so that whatever is asked has few rows to add up: by the hour and by the day, each without keys, of keys,
#: and of all requests together.
Kind = Literal["hour", "day", "key hour", "key day", "total hour", "total day"]
STEPS_MS: dict[Kind, int] = {
    "hour": HOUR_MS,
    "day": DAY_MS,
    "key hour": HOUR_MS,
    "key day": DAY_MS,
    "total hour": HOUR_MS,
    "total day": DAY_MS,
}

#: Upper bounds of the buckets of times; the last bucket is everything above.
BOUNDS_MS = tuple(bound * 1000 for bound in DURATION_S)
OVERHEAD_BOUNDS_MS = tuple(bound * 1000 for bound in OVERHEAD_S)
#: By which they are told apart: columns of `Record`, "" where that has NULL, or where the kind of figures does not have it.
DIMENSIONS = ("model", "deployment", "pattern", "dialect", "status", "error_code", "key_id")
#: Those that a kind of figures has, by the first word of its name; all but keys where it has one word.
_HAD = {"key": ("status", "error_code", "key_id"), "total": ("status", "error_code")}
#: Columns of `Record` that are added up.
_COUNTS = (
    *("attempts_count", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens"),
    "tokens_estimated",
)
_AMOUNTS = ("cost_usd", "duration_ms", "overhead_ms", "ttft_ms", "quality")
#: Requests by their whole time, streams by their time to first token, requests that called a model by the time that its calls took, and
#: requests by what the gateway added: one column a bucket.
DURATIONS = tuple(f"duration_{place}" for place in range(len(BOUNDS_MS) + 1))
FIRST_TOKENS = tuple(f"ttft_{place}" for place in range(len(BOUNDS_MS) + 1))
CALLS = tuple(f"calls_{place}" for place in range(len(BOUNDS_MS) + 1))
OVERHEADS = tuple(f"overhead_{place}" for place in range(len(OVERHEAD_BOUNDS_MS) + 1))
#: Whole numbers; `rated`: requests whose quality is known.
_WHOLE = ("requests", *_COUNTS, "rated", *DURATIONS, *FIRST_TOKENS, *CALLS, *OVERHEADS)
#: What is known only later, of `/v1/feedback`.
_SCORES = ("scores", "score")
#: What a record adds to.
MEASURES = (*_WHOLE, *_AMOUNTS)
#: Of which there is one row.
KEY = ("kind", "at_ms", *DIMENSIONS)
COLUMNS = (*KEY, *MEASURES)

#: Requests that ran out of time in the end.
TIMEOUT_CODES = (ProviderTimeout.code, RequestTimeout.code)
#: Of requests whose model is anything that somebody wrote.
_NAMELESS_CODES = (UnknownModel.code, Unauthenticated.code)

_dimensions = itemgetter(*map(Record._fields.index, DIMENSIONS))
_values = itemgetter(*map(Record._fields.index, (*_COUNTS, *_AMOUNTS)))
_started = itemgetter(Record._fields.index("started_ms"))
_ATTEMPTS = _COUNTS.index("attempts_count")
_DURATION, _OVERHEAD, _FIRST_TOKEN, _QUALITY = (
    len(_COUNTS) + _AMOUNTS.index(name) for name in ("duration_ms", "overhead_ms", "ttft_ms", "quality")
)
_ERROR = DIMENSIONS.index("error_code")

_Values = list[tuple[Any, ...]]


class Rollup:
    """Of one writer."""

    def __init__(self) -> None:
        self._hour = 0
        #: That have figures in the hour.
        self._models: set[str] = set()

    def of(self, records: Sequence[Record]) -> list[tuple[Any, ...]]:
        """What these records add: rows of `COLUMNS`, in the order of `KEY`, so that two writers never wait for each other."""
        first, last = min(map(_started, records)) // HOUR_MS, max(map(_started, records)) // HOUR_MS
        if first == last:
            return self._of_hour(first, records)
        by_hour = defaultdict(list)
        for record in records:
            by_hour[record.started_ms // HOUR_MS].append(record)
        return sorted([row for hour in sorted(by_hour) for row in self._of_hour(hour, by_hour[hour])])

    def _of_hour(self, hour: int, records: Sequence[Record]) -> list[tuple[Any, ...]]:
        if hour > self._hour:
            self._hour, self._models = hour, set()
        groups: defaultdict[tuple[Any, ...], _Values] = defaultdict(list)
        for record in records:
            groups[_dimensions(record)].append(_values(record))
        sums: dict[tuple[str, ...], tuple[Any, ...]] = {}
        for dimensions, values in groups.items():
            measured = _measured(values)
            for key in self._keys(hour * HOUR_MS, dimensions):
                known = sums.get(key)
                sums[key] = measured if known is None else tuple(map(add, known, measured))
        return [(*key, *sums[key]) for key in sorted(sums)]

    def _keys(self, at_ms: int, dimensions: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        """The rows that these are counted in, by their `KEY`."""
        _, deployment, pattern, dialect, status, error_code, key = [name or "" for name in dimensions]
        whole = (self._named(dimensions), deployment, pattern, dialect, status, error_code, "")
        nothing = ("", "", "", "", status, error_code)
        for step, step_at_ms in (("hour", at_ms), ("day", at_ms // DAY_MS * DAY_MS)):
            yield step, step_at_ms, *whole
            yield f"key {step}", step_at_ms, *nothing, key
            yield f"total {step}", step_at_ms, *nothing, ""

    def _named(self, dimensions: tuple[Any, ...]) -> str:
        model: str = dimensions[0]
        if dimensions[_ERROR] in _NAMELESS_CODES:
            return OTHER
        if model not in self._models:
            if len(self._models) >= MODELS_MAX:
                return OTHER
            self._models.add(model)
        return model


def _measured(values: _Values) -> tuple[Any, ...]:
    """`MEASURES` of records that have all dimensions in common."""
    columns = list(zip(*values, strict=True))
    sums = [_sum(column) for column in columns]
    durations, overheads = columns[_DURATION], columns[_OVERHEAD]
    first_tokens = [value for value in columns[_FIRST_TOKEN] if value is not None]
    called = [whole - own for attempts, whole, own in zip(columns[_ATTEMPTS], durations, overheads, strict=True) if attempts]
    times = [*_buckets(durations), *_buckets(first_tokens), *_buckets(called), *_buckets(overheads, OVERHEAD_BOUNDS_MS)]
    rated = len(values) - columns[_QUALITY].count(None)
    counts, amounts = sums[: len(_COUNTS)], sums[len(_COUNTS) :]
    return (len(values), *counts, rated, *times, *map(float, amounts))


def _sum(column: tuple[Any, ...]) -> Any:
    try:
        return sum(column)
    except TypeError:  # some are NULL
        return sum(filter(None, column))


def _buckets(times: Sequence[float], bounds: Sequence[float] = BOUNDS_MS) -> list[int]:
    if not times:
        return [0] * (len(bounds) + 1)
    ordered = sorted(times)
    below = [bisect_right(ordered, bound) for bound in bounds]
    return [*map(sub, [*below, len(ordered)], [0, *below])]


def quantile_ms(counts: Sequence[int], share: float) -> float | None:
    """The time within which that share of them was, as if each bucket's were spread evenly over it; None: there are none. Of what is above
    all bounds no more is known than the highest bound.
    """
    sought = sum(counts) * share
    below = 0
    for count, low, high in zip(counts, (0.0, *BOUNDS_MS), BOUNDS_MS, strict=False):
        if count and below + count >= sought:
            return low + (high - low) * (sought - below) / count
        below += count
    return BOUNDS_MS[-1] if sum(counts) else None


# --- as SQL that SQLite and PostgreSQL understand ---------------------------------------------------------------------


def table(text: str = "TEXT", options: str = "") -> str:
    """`text`: the type of a name."""
    columns = [
        f"kind {text} NOT NULL",
        "at_ms BIGINT NOT NULL",
        *[f"{column} {text} NOT NULL" for column in DIMENSIONS],
        *[f"{column} BIGINT NOT NULL" for column in _WHOLE],
        *[f"{column} DOUBLE PRECISION NOT NULL" for column in _AMOUNTS],
        *[f"{column} BIGINT NOT NULL DEFAULT 0" for column in _SCORES],
        f"PRIMARY KEY ({', '.join(KEY)})",
    ]
    return f"CREATE TABLE figures ({', '.join(columns)}) {options}"


_nameless = ", ".join([f"'{code}'" for code in _NAMELESS_CODES])
#: The dimension, out of the columns of `Record`.
MODEL = f"CASE WHEN error_code IN ({_nameless}) THEN '{OTHER}' ELSE model END"
#: What a request's model calls took.
CALLED_MS = "CASE WHEN attempts_count > 0 THEN duration_ms - overhead_ms END"
_sums = ", ".join([f"{column} = figures.{column} + excluded.{column}" for column in MEASURES])
#: Adds a row of `COLUMNS`.
ADD = (
    f"INSERT INTO figures ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) "  # noqa: S608 – our own names
    f"ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET {_sums}"
)


def whole(source: str) -> Iterator[str]:
    """The figures of all rows of a table that has the columns of `Record`: for records that were written before there were figures."""
    for kind, step_ms in STEPS_MS.items():
        had = _HAD.get(kind.split()[0], DIMENSIONS[:-1])
        dimensions = [_named(name) if name in had else "''" for name in DIMENSIONS]
        chosen = [f"'{kind}'", f"started_ms / {step_ms} * {step_ms}", *dimensions, *[ADDED_UP[column] for column in MEASURES]]
        grouped = ", ".join(map(str, range(1, len(KEY) + 1)))
        yield f"INSERT INTO figures ({', '.join(COLUMNS)}) SELECT {', '.join(chosen)} FROM {source} GROUP BY {grouped}"  # noqa: S608 – as above


def _named(dimension: str) -> str:
    return MODEL if dimension == "model" else f"coalesce({dimension}, '')"


def _buckets_of(time: str, bounds: Sequence[float] = BOUNDS_MS) -> list[str]:
    lowest = [f"sum(CASE WHEN {time} <= {bounds[0]} THEN 1 ELSE 0 END)"]
    between = [f"sum(CASE WHEN {time} > {low} AND {time} <= {high} THEN 1 ELSE 0 END)" for low, high in pairwise(bounds)]
    return [*lowest, *between, f"sum(CASE WHEN {time} > {bounds[-1]} THEN 1 ELSE 0 END)"]


#: By measure: what it is of rows of `Record`.
ADDED_UP: dict[str, str] = {
    "requests": "count(*)",
    "rated": "count(quality)",
    **{column: f"coalesce(sum({column}), 0)" for column in _COUNTS},
    **{column: f"coalesce(sum({column}), 0.0)" for column in _AMOUNTS},
    **dict(zip(DURATIONS, _buckets_of("duration_ms"), strict=True)),
    **dict(zip(FIRST_TOKENS, _buckets_of("ttft_ms"), strict=True)),
    **dict(zip(CALLS, _buckets_of(f"({CALLED_MS})"), strict=True)),
    **dict(zip(OVERHEADS, _buckets_of("overhead_ms", OVERHEAD_BOUNDS_MS), strict=True)),
}


# --- times that do not begin and end with an hour ---------------------------------------------------------------------


def spans(begins_ms: int, ends_ms: int) -> list[tuple[Literal["hour", "day"] | None, int, int]]:
    """A time in pieces: days that are whole, of what is left hours that are whole, and of what is left then records (None)."""
    first_hour, last_hour = _steps(begins_ms, ends_ms, HOUR_MS)
    first_day, last_day = _steps(first_hour, last_hour, DAY_MS)
    pieces: list[tuple[Literal["hour", "day"] | None, int, int]] = [
        (None, begins_ms, first_hour),
        ("hour", first_hour, first_day),
        ("day", first_day, last_day),
        ("hour", last_day, last_hour),
        (None, last_hour, ends_ms),
    ]
    return [piece for piece in pieces if piece[1] < piece[2]]


def _steps(begins_ms: int, ends_ms: int, step_ms: int) -> tuple[int, int]:
    """From the first to the end of the last whole step in a time; where there is none, the time's end twice."""
    first, last = -(-begins_ms // step_ms) * step_ms, ends_ms // step_ms * step_ms
    return (first, last) if first < last else (ends_ms, ends_ms)
