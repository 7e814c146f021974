"""Figures by the hour: what records add up to, worked out as they are written, so that nobody has to add up a year of them.

Promise: a record is in its hour's figures exactly once, for both are written in one transaction; their number does not grow with names
that clients make up.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from operator import itemgetter, sub
from typing import Any

from agent_gateway.core.errors import ProviderTimeout, RequestTimeout, Unauthenticated, UnknownModel
from agent_gateway.record.metrics import DURATION_S, OTHER
from agent_gateway.record.row import Record

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
#: Of figures; a year can be set beside the one before it.
KEPT_MS = 400 * DAY_MS
#: Models told apart in an hour by one process; those of any more are `other`.
MODELS_MAX = 1_000

#: Upper bounds of the buckets of times; the last bucket is everything above.
BOUNDS_MS = tuple(bound * 1000 for bound in DURATION_S)
#: By which they are told apart: columns of `Record`, "" where that has NULL.
DIMENSIONS = ("model", "deployment", "pattern", "dialect", "status", "error_code", "key_id")
#: Columns of `Record` that are added up.
_COUNTS = (
    *("attempts_count", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens"),
    "tokens_estimated",
)
_AMOUNTS = ("cost_usd", "duration_ms", "overhead_ms", "ttft_ms", "quality")
#: Requests by their whole time, and streams by their time to first token: one column a bucket.
DURATIONS = tuple(f"duration_{place}" for place in range(len(BOUNDS_MS) + 1))
FIRST_TOKENS = tuple(f"ttft_{place}" for place in range(len(BOUNDS_MS) + 1))
#: Whole numbers; `rated`: requests whose quality is known.
_WHOLE = ("requests", *_COUNTS, "rated", *DURATIONS, *FIRST_TOKENS)
#: What is known only later, of `/v1/feedback`.
SCORES = ("scores", "score")
#: What a record adds to.
MEASURES = (*_WHOLE, *_AMOUNTS)
COLUMNS = ("hour_ms", *DIMENSIONS, *MEASURES)

#: Requests that ran out of time in the end.
TIMEOUT_CODES = (ProviderTimeout.code, RequestTimeout.code)
#: Of requests whose model is anything that somebody wrote.
_NAMELESS_CODES = (UnknownModel.code, Unauthenticated.code)

_dimensions = itemgetter(*map(Record._fields.index, DIMENSIONS))
_values = itemgetter(*map(Record._fields.index, (*_COUNTS, *_AMOUNTS)))
_DURATION, _FIRST_TOKEN, _QUALITY = (len(_COUNTS) + _AMOUNTS.index(name) for name in ("duration_ms", "ttft_ms", "quality"))
_STARTED, _MODEL, _ERROR = Record._fields.index("started_ms"), DIMENSIONS.index("model"), DIMENSIONS.index("error_code")


class Rollup:
    """Of one writer."""

    def __init__(self) -> None:
        self._hour = 0
        #: That have figures in the hour.
        self._models: set[str] = set()

    def of(self, records: Sequence[Record]) -> list[tuple[Any, ...]]:
        """What these records add: rows of `COLUMNS`, each for other dimensions, in order, so that two writers never wait for each other."""
        first, last = min(map(_started, records)) // HOUR_MS, max(map(_started, records)) // HOUR_MS
        if first == last:
            return self._of_hour(first, records)
        by_hour = defaultdict(list)
        for record in records:
            by_hour[record.started_ms // HOUR_MS].append(record)
        return [row for hour in sorted(by_hour) for row in self._of_hour(hour, by_hour[hour])]

    def _of_hour(self, hour: int, records: Sequence[Record]) -> list[tuple[Any, ...]]:
        if hour > self._hour:
            self._hour, self._models = hour, set()
        groups: defaultdict[tuple[Any, ...], list[Any]] = defaultdict(list)
        for record in records:
            groups[_dimensions(record)].append(_values(record))
        named: defaultdict[tuple[str, ...], list[Any]] = defaultdict(list)
        for dimensions, values in groups.items():
            named[self._named(dimensions)] += values
        return [(hour * HOUR_MS, *dimensions, *_measured(named[dimensions])) for dimensions in sorted(named)]

    def _named(self, dimensions: tuple[Any, ...]) -> tuple[str, ...]:
        model = dimensions[_MODEL]
        if dimensions[_ERROR] in _NAMELESS_CODES:
            model = OTHER
        elif model not in self._models:
            if len(self._models) < MODELS_MAX:
                self._models.add(model)
            else:
                model = OTHER
        return (model, *[name or "" for name in dimensions[1:]])


_started = itemgetter(_STARTED)


def _measured(values: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """`MEASURES` of records that have all dimensions in common."""
    columns = list(zip(*values, strict=True))
    sums = [_sum(column) for column in columns]
    durations, first_tokens = sorted(columns[_DURATION]), sorted([value for value in columns[_FIRST_TOKEN] if value is not None])
    rated = len(values) - columns[_QUALITY].count(None)
    counts, amounts = sums[: len(_COUNTS)], sums[len(_COUNTS) :]
    return (len(values), *counts, rated, *_buckets(durations), *_buckets(first_tokens), *map(float, amounts))


def _sum(column: tuple[Any, ...]) -> Any:
    try:
        return sum(column)
    except TypeError:  # some are NULL
        return sum(filter(None, column))


def _buckets(ordered: list[float]) -> list[int]:
    if not ordered:
        return _NO_TIMES
    below = [bisect_right(ordered, bound) for bound in BOUNDS_MS]
    return [*map(sub, [*below, len(ordered)], [0, *below])]


_NO_TIMES = [0] * (len(BOUNDS_MS) + 1)


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


def table(name: str, text: str = "TEXT", options: str = "") -> str:
    """`text`: the type of a dimension."""
    columns = [
        "hour_ms BIGINT NOT NULL",
        *[f"{column} {text} NOT NULL" for column in DIMENSIONS],
        *[f"{column} BIGINT NOT NULL" for column in _WHOLE],
        *[f"{column} DOUBLE PRECISION NOT NULL" for column in _AMOUNTS],
        *[f"{column} BIGINT NOT NULL DEFAULT 0" for column in SCORES],
        f"PRIMARY KEY (hour_ms, {', '.join(DIMENSIONS)})",
    ]
    return f"CREATE TABLE {name} ({', '.join(columns)}) {options}"


def _adding(columns: Sequence[str]) -> str:
    sums = ", ".join([f"{column} = figures.{column} + excluded.{column}" for column in columns])
    return f"ON CONFLICT (hour_ms, {', '.join(DIMENSIONS)}) DO UPDATE SET {sums}"


_nameless = ", ".join([f"'{code}'" for code in _NAMELESS_CODES])
#: The dimension, out of the columns of `Record`.
MODEL = f"CASE WHEN error_code IN ({_nameless}) THEN '{OTHER}' ELSE model END"
#: Adds a row of `COLUMNS`.
ADD = f"INSERT INTO figures ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) {_adding(MEASURES)}"  # noqa: S608 – our own names


def _buckets_of(column: str) -> list[str]:
    lowest = [f"sum(CASE WHEN {column} <= {BOUNDS_MS[0]} THEN 1 ELSE 0 END)"]
    between = [f"sum(CASE WHEN {column} > {low} AND {column} <= {high} THEN 1 ELSE 0 END)" for low, high in pairwise(BOUNDS_MS)]
    return [*lowest, *between, f"sum(CASE WHEN {column} > {BOUNDS_MS[-1]} THEN 1 ELSE 0 END)"]


def whole(source: str) -> str:
    """The figures of all rows of a table that has the columns of `Record`: for records that were written before there were figures."""
    chosen = [
        f"started_ms / {HOUR_MS} * {HOUR_MS}",
        MODEL,
        *[f"coalesce({column}, '')" for column in DIMENSIONS[1:]],
        "count(*)",
        *[f"coalesce(sum({column}), 0)" for column in _COUNTS],
        "count(quality)",
        *_buckets_of("duration_ms"),
        *_buckets_of("ttft_ms"),
        *[f"coalesce(sum({column}), 0.0)" for column in _AMOUNTS],
    ]
    grouped = ", ".join(map(str, range(1, len(DIMENSIONS) + 2)))
    return f"INSERT INTO figures ({', '.join(COLUMNS)}) SELECT {', '.join(chosen)} FROM {source} GROUP BY {grouped}"  # noqa: S608 – as above
