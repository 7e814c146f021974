"""A record: one request as it is kept, in one flat row that every sink understands.

Promise: `minimal` rows hold figures only — nothing a user said, and nothing that says who they are.
"""

from __future__ import annotations

import zlib
from typing import Literal, NamedTuple

import msgspec

from agent_gateway.core.call import Call
from agent_gateway.core.exchange import Attempt, Edge, Exchange, Status
from agent_gateway.core.plan import Plan
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.transcript import take_answer

Mode = Literal["full", "minimal", "off"]
#: `native`: run in a provider's own batch; how long that took is no latency.
Pattern = Literal["streaming", "batching", "native", "unary"]

#: A request's body beyond this is cut (bytes); `request_bytes` tells its length.
REQUEST_MAX_BYTES = 1024 * 1024
#: Bodies from this size on are compressed (bytes). Below it, zlib costs more CPU than writing the bytes does.
COMPRESS_MIN_BYTES = 32 * 1024
#: Of what a provider or a socket said (characters).
DETAIL_MAX_CHARS = 500
#: Of a name that a client chose: model, user, session, request id (characters).
NAME_MAX_CHARS = 256
#: Of what is told of a choice among deployments (characters).
ROUTE_MAX_CHARS = 500
#: Of W3C's header; a longer one is none.
TRACEPARENT_MAX_CHARS = 128


class Record(NamedTuple):
    """One request. The columns of the table `records`, in order; times of day in Unix ms, durations in ms."""

    id: str
    started_ms: int
    model: str
    deployment: str | None
    dialect: str
    pattern: Pattern
    status: Status
    http_status: int
    error_code: str | None
    reason: str | None
    finish_reason: str | None
    #: 0 or 1, as `tokens_estimated`: sqlite3 takes an integer in a tenth of the time of a bool.
    stream: int
    key_id: str | None
    user_id: str | None
    session_id: str | None
    client_request_id: str | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    tokens_estimated: int
    cost_usd: float | None
    quality: float | None
    duration_ms: float
    ttft_ms: float | None
    overhead_ms: float
    attempts_count: int
    #: JSON: a list of `AttemptRecord`.
    attempts: bytes | None
    request_bytes: int
    #: The client's JSON, perhaps cut; `unpacked` reads it.
    request: bytes | None
    #: JSON: `protocols.transcript.Answer`; `unpacked` reads it.
    answer: bytes | None
    #: What guards did: `injection:flag,pii:mask`.
    guards: str | None
    #: By which door it came; None: an earlier version wrote it.
    edge: Edge | None
    #: How the deployment was chosen, where there was a choice: `balanced, controller: sim/small (backup), local/a; not able: local/b`.
    route: str | None
    #: Streams: mean time of a token after the first.
    per_token_ms: float | None
    #: The client's own trace, as its header told it.
    traceparent: str | None


class AttemptRecord(msgspec.Struct, omit_defaults=True, gc=False):
    """One call of a deployment. All times in ms since the request began, but for `queued_ms`: so long the request had waited for room
    until then. `usage` only where it is not the whole request's. `shared_by`: so many requests were asked for by one call.
    """

    deployment: str
    started_ms: float
    connected_ms: float | None = None
    first_byte_ms: float | None = None
    first_token_ms: float | None = None
    ended_ms: float | None = None
    outcome: str | None = None
    provider_status: int | None = None
    usage: Usage | None = None
    cost_usd: float | None = None
    detail: str | None = None
    queued_ms: float | None = None
    shared_by: int = 1


_json = msgspec.json.Encoder()
_attempts = msgspec.json.Decoder(list[AttemptRecord])
_NO_USAGE = (None, None, None, None, None, 0)


def pattern_of(exchange: Exchange) -> Pattern:
    match exchange.edge:
        case "batch":
            return "batching"
        case "native":
            return "native"
    return "streaming" if exchange.call.stream else "unary"


def overhead_s(exchange: Exchange, ended: float) -> float:
    """The whole time less the time in which an attempt was under way or waited for (s); attempts that overlap count once."""
    total = ended - exchange.started - exchange.queued_s
    covered_until = exchange.started
    for attempt in exchange.attempts:
        attempt_ended = ended if attempt.ended is None else attempt.ended
        begun = attempt.started if attempt.started > covered_until else covered_until
        if attempt_ended > begun:
            total -= attempt_ended - begun
            covered_until = attempt_ended
    return total if total > 0.0 else 0.0


def make_record(exchange: Exchange, mode: Mode) -> Record:
    """Of a settled exchange. Reads what is left of its answer, in mode `full`."""
    call, error, started = exchange.call, exchange.error, exchange.started
    ended = started if exchange.ended is None else exchange.ended
    first_token = exchange.first_token if call.stream else None
    full = mode == "full"
    answer = None
    if full:
        content = take_answer(exchange)
        if content is not None:
            exchange.finish_reason = exchange.finish_reason or content.finish_reason
            answer = _json.encode(content)
    usage = exchange.usage
    values = (
        exchange.id,
        int(exchange.started_wall * 1000),
        call.model[:NAME_MAX_CHARS],
        exchange.deployment,
        call.dialect,
        pattern_of(exchange),
        exchange.status or "error",
        exchange.http_status,
        None if error is None else error.code,
        exchange.reason,
        exchange.finish_reason,
        +call.stream,
        None if exchange.key is None else exchange.key.id,
        _name(call.user) if full else None,
        _name(exchange.session) if full else None,
        _name(exchange.client_request_id) if full else None,
        *_tokens(usage),
        exchange.cost_usd,
        exchange.quality,
        _ms(ended - started),
        None if first_token is None else _ms(first_token - started),
        _ms(overhead_s(exchange, ended)),
        len(exchange.attempts),
        _json.encode([attempt_record(attempt, started, usage, full=full) for attempt in exchange.attempts]) if exchange.attempts else None,
        len(call.body),
        call.body[:REQUEST_MAX_BYTES] if full else None,
        answer,
        ",".join([f"{check}:{action}" for check, action in exchange.guards]) if exchange.guards else None,
        exchange.edge,
        _route(exchange.plan),
        None if first_token is None or usage is None or usage.output < 2 else _ms((ended - first_token) / (usage.output - 1)),
        _trace(call) if full and call.forward_headers else None,
    )
    return Record._make(values)  # half the cost of calling it


def attempt_record(attempt: Attempt, started: float, usage: Usage | None, *, full: bool) -> AttemptRecord:
    """`started` and `usage`: the request's; `full`: with what the provider said."""
    connected, first_byte, first_token, ended = attempt.connected, attempt.first_byte, attempt.first_token, attempt.ended
    detail = attempt.error_detail if full else None
    return AttemptRecord(
        attempt.deployment,
        _ms(attempt.started - started),
        None if connected is None else _ms(connected - started),
        None if first_byte is None else _ms(first_byte - started),
        None if first_token is None else _ms(first_token - started),
        None if ended is None else _ms(ended - started),
        attempt.outcome,
        attempt.provider_status,
        None if attempt.usage is usage else attempt.usage,
        attempt.cost_usd,
        None if detail is None else detail[:DETAIL_MAX_CHARS],
        _ms(attempt.queued_s) if attempt.queued_s else None,
        attempt.shared_by,
    )


def packed(body: bytes | None) -> bytes | None:
    """A large body as a zlib stream, which no JSON text can be taken for: it begins with `x`."""
    if body is None or len(body) < COMPRESS_MIN_BYTES:
        return body
    return zlib.compress(body, 1)


def unpacked(stored: bytes | None) -> bytes | None:
    return zlib.decompress(stored) if stored is not None and stored.startswith(b"x") else stored


def body_bytes(record: Record) -> int:
    return (len(record.request) if record.request else 0) + (len(record.answer) if record.answer else 0)


def without_details(attempts: bytes | None) -> bytes | None:
    """A record's attempts without what providers and sockets said: that may quote the user."""
    if attempts is None:
        return None
    try:
        return _json.encode([msgspec.structs.replace(attempt, detail=None) for attempt in _attempts.decode(attempts)])
    except msgspec.MsgspecError:  # nothing of ours
        return None


def _tokens(usage: Usage | None) -> tuple[int | None, int | None, int | None, int | None, int | None, int]:
    if usage is None:
        return _NO_USAGE
    return usage.input, usage.output, usage.cache_read, usage.cache_write, usage.reasoning, +usage.estimated


def _route(plan: Plan | None) -> str | None:
    """The strategy, the detour, the candidates in their order, and who cannot take the request; None: there was no choice."""
    if plan is None or (len(plan.candidates) == 1 and len(plan.route.deployments) == 1 and plan.detour is None):
        return None
    names = [
        f"{candidate.deployment.id} ({candidate.route.name})" if candidate.fallback else candidate.deployment.id
        for candidate in plan.candidates
    ]
    told = f"{plan.route.strategy}{', ' + plan.detour if plan.detour else ''}: {', '.join(names)}"
    if unable := [deployment.id for deployment in plan.route.deployments if deployment.id not in names]:
        told = f"{told}; not able: {', '.join(unable)}"
    return told[:ROUTE_MAX_CHARS]


def _ms(seconds: float) -> float:
    """To the microsecond; cheaper than `round`."""
    return int(seconds * 1e6) / 1e3


def _trace(call: Call) -> str | None:
    told = call.forward_headers.get("traceparent")
    return told if told is None or len(told) <= TRACEPARENT_MAX_CHARS else None


def _name(name: str | None) -> str | None:
    return name if name is None else name[:NAME_MAX_CHARS]
