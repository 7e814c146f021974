"""Service levels out of records: what those of a time add up to, also of a gateway that was restarted, or that shares its database.

Whole days and hours are read off the figures, which outlive the records; what is left at either end, off the records themselves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from agent_gateway.core.errors import GatewayError
from agent_gateway.record.figures import ADDED_UP, CALLS, DURATIONS, FIRST_TOKENS, HOUR_MS, OVERHEADS, spans
from agent_gateway.record.slo import PEAK_LEAST, Sums, add_errors, add_requests, add_streams

#: A statement and its values; its rows.
Ask = Callable[[str, Sequence[Any]], Awaitable[Sequence[Sequence[Any]]]]

#: The busiest minute is looked for in the hours with the most items of batches.
PEAK_HOURS_MAX = 24

_NUMBERS = ("requests", "input_tokens", "output_tokens", "cost_usd", "quality", "rated")
_MEASURES = (*_NUMBERS, *DURATIONS, *FIRST_TOKENS, *CALLS, *OVERHEADS)
_GROUPS = ("pattern", "status", "error_code")
_OF_STEP = f"SELECT {', '.join([*_GROUPS, *_MEASURES])} FROM figures WHERE kind = ? AND at_ms >= ? AND at_ms < ?"  # noqa: S608 – our own names
_OF_RECORDS = (
    "SELECT pattern, status, coalesce(error_code, '') AS error_code, "  # noqa: S608 – as above
    f"{', '.join([f'{ADDED_UP[measure]} AS {measure}' for measure in _MEASURES])} "
    "FROM records WHERE started_ms >= ? AND started_ms < ? GROUP BY 1, 2, 3"
)
_FULLEST = (
    "SELECT at_ms FROM figures WHERE kind = 'hour' AND pattern = 'batching' AND at_ms > ? AND at_ms < ? "
    "GROUP BY at_ms HAVING sum(requests) >= ? ORDER BY sum(requests) DESC LIMIT ?"
)
_PEAK = (
    "SELECT max(items) FROM (SELECT count(*) AS items FROM records WHERE started_ms >= ? AND started_ms < ? AND pattern = 'batching' "
    "GROUP BY started_ms / 60000) AS minutes"
)


async def sums_of(ask: Ask, since_ms: int, until_ms: int) -> Sums:
    """Everything but whether records are complete, which they cannot tell."""
    sums = Sums()
    if since_ms >= until_ms:
        return sums
    parts: list[str] = []
    values: list[Any] = []
    for step, begins_ms, ends_ms in spans(since_ms, until_ms):
        parts.append(f"SELECT * FROM ({_OF_RECORDS}) AS left_over" if step is None else _OF_STEP)  # noqa: S608 – as above
        values += [begins_ms, ends_ms] if step is None else [step, begins_ms, ends_ms]
    added = ", ".join([*_GROUPS, *[f"sum({measure})" for measure in _MEASURES]])
    for pattern, status, code, *measured in await ask(
        f"SELECT {added} FROM ({' UNION ALL '.join(parts)}) AS measured GROUP BY 1, 2, 3",  # noqa: S608 – as above
        values,
    ):
        _add(sums, pattern, status, code, dict(zip(_MEASURES, map(float, measured), strict=True)))
    sums.add("batch_peak", await _peak(ask, since_ms, until_ms))
    return sums


def _add(sums: Sums, pattern: str, status: str, code: str, measured: dict[str, float]) -> None:
    """Of requests that have these three in common."""
    count = measured["requests"]
    add_requests(sums, pattern, status, count)
    if status == "error":
        add_errors(sums, code, _FAULTS.get(code, "gateway"), count)
    if pattern == "streaming":  # a request refused before any call is no stream
        began = sum(measured[name] for name in CALLS) if code else count
        add_streams(sums, status if status in ("error", "cancelled") else "completed", began)
    for name in ("input_tokens", "output_tokens", "cost_usd"):
        sums.add(name, measured[name])
    if status == "fallback":
        sums.add("fallback_quality", measured["quality"])
        sums.add("fallback_rated", measured["rated"])
    if pattern == "native":
        return
    times = {"batch_durations" if pattern == "batching" else "durations": DURATIONS, "first_tokens": FIRST_TOKENS}
    times |= {"model_calls": CALLS, "overheads": OVERHEADS}
    if status == "degraded":
        times["degraded_durations"] = DURATIONS
    for name, columns in times.items():
        for bucket, column in enumerate(columns):
            sums.add(name, measured[column], bucket)


async def _peak(ask: Ask, since_ms: int, until_ms: int) -> int:
    """The most items of batches in a minute. An hour that has fewer than would be judged is not looked into."""
    peak = 0
    for (at_ms,) in await ask(_FULLEST, (since_ms - HOUR_MS, until_ms, PEAK_LEAST, PEAK_HOURS_MAX)):
        ((items,),) = await ask(_PEAK, (max(since_ms, at_ms), min(until_ms, at_ms + HOUR_MS))) or [(None,)]
        peak = max(peak, items or 0)
    return peak


def _tree(error: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield error
    for child in error.__subclasses__():
        yield from _tree(child)


#: By code: whose fault it is.
_FAULTS = {error.code: error.fault for error in _tree(GatewayError)}
