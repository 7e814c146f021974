"""Service levels out of records: what those of a time add up to, also of a gateway that was restarted, or that shares its database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from agent_gateway.core.errors import GatewayError
from agent_gateway.record.slo import TIMES, Sums, add_errors, add_requests, add_streams

#: A statement and its values; its rows.
Ask = Callable[[str, Sequence[Any]], Awaitable[Sequence[Sequence[Any]]]]

_DURING = "FROM records WHERE started_ms >= ? AND started_ms < ?"
_COUNTS = (
    "SELECT pattern, status, coalesce(error_code, ''), stream, CASE WHEN attempts_count > 0 THEN 1 ELSE 0 END, count(*), "
    "coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0), coalesce(sum(cost_usd), 0.0), coalesce(sum(quality), 0.0), "
    f"count(quality) {_DURING} GROUP BY 1, 2, 3, 4, 5"
)
_PEAK = f"SELECT max(items) FROM (SELECT count(*) AS items {_DURING} AND pattern = 'batching' GROUP BY started_ms / 60000) AS minutes"  # noqa: S608
#: By what is counted: the time (ms), and of which records. A request's model calls took what the gateway did not. Of what a provider runs
#: in a batch of its own no time is one that somebody waited.
_MEASURED = {
    "durations": ("duration_ms", "pattern NOT IN ('batching', 'native')"),
    "batch_durations": ("duration_ms", "pattern = 'batching'"),
    "degraded_durations": ("duration_ms", "status = 'degraded'"),
    "first_tokens": ("ttft_ms", "ttft_ms IS NOT NULL"),
    "model_calls": ("duration_ms - overhead_ms", "attempts_count > 0 AND pattern <> 'native'"),
    "overheads": ("overhead_ms", "overhead_ms IS NOT NULL AND pattern <> 'native'"),
}


async def sums_of(ask: Ask, since_ms: int, until_ms: int) -> Sums:
    """Everything but whether records are complete, which they cannot tell."""
    sums = Sums()
    during = (since_ms, until_ms)
    for pattern, status, code, stream, attempted, count, *figures in await ask(_COUNTS, during):
        add_requests(sums, pattern, status, count)
        if status == "error":
            add_errors(sums, code, _FAULTS.get(code, "gateway"), count)
        if stream and (attempted or not code):
            add_streams(sums, status if status in ("error", "cancelled") else "completed", count)
        input_tokens, output_tokens, cost_usd, quality, rated = map(float, figures)
        sums.add("input_tokens", input_tokens)
        sums.add("output_tokens", output_tokens)
        sums.add("cost_usd", cost_usd)
        if status == "fallback":
            sums.add("fallback_quality", quality)
            sums.add("fallback_rated", rated)
    for name, (time, which) in _MEASURED.items():
        for bucket, count in await ask(_histogram(time, which, TIMES[name]), during):
            sums.add(name, count, bucket)
    ((peak,),) = await ask(_PEAK, during) or [(None,)]
    sums.add("batch_peak", peak or 0)
    return sums


def _histogram(time: str, which: str, bounds: Sequence[float]) -> str:
    steps = " ".join([f"WHEN {time} <= {bound * 1000:g} THEN {place}" for place, bound in enumerate(bounds)])
    return f"SELECT CASE {steps} ELSE {len(bounds)} END, count(*) {_DURING} AND {which} GROUP BY 1"


def _tree(error: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield error
    for child in error.__subclasses__():
        yield from _tree(child)


#: By code: whose fault it is.
_FAULTS = {error.code: error.fault for error in _tree(GatewayError)}
