"""A record as OpenTelemetry looks at it: a span for the request, one for each model call, and what is known of either."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import msgspec

from agent_gateway.core.call import MODEL_PATHS
from agent_gateway.record.base import Address
from agent_gateway.record.otlp.naming import OPERATIONS, PROVIDERS
from agent_gateway.record.row import AttemptRecord, Record

#: W3C's header `traceparent`, version 00 and what later ones begin with.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_SAMPLED = 1
_FINE = ("success", "cancelled")
_attempts = msgspec.json.Decoder(list[AttemptRecord])
_NOWHERE = Address("", None, None)


@dataclass(slots=True)
class Called:
    """One call of a deployment. Times are Unix nanoseconds."""

    span_id: bytes
    started: int
    ended: int
    attempt: AttemptRecord
    streamed: bool
    values: dict[str, Any]


@dataclass(slots=True)
class Story:
    record: Record
    trace_id: bytes
    span_id: bytes
    #: Of the client's span; None: the request began the trace.
    parent_id: bytes | None
    #: False: the client's tracing has chosen not to follow this request, so no span of it is sent.
    sampled: bool
    started: int
    ended: int
    values: dict[str, Any]
    calls: list[Called]


def tell(record: Record, providers: Mapping[str, Address]) -> Story:
    """Ids are made of the request's: told again, it has the same ones."""
    ids = blake2b(record.id.encode(), digest_size=24).digest()
    trace_id, parent_id, sampled = ids[:16], None, True
    if record.traceparent is not None and (parent := _TRACEPARENT.fullmatch(record.traceparent)) is not None:
        trace_id, parent_id = bytes.fromhex(parent[1]), bytes.fromhex(parent[2])
        sampled = bool(int(parent[3], 16) & _SAMPLED)
    started = record.started_ms * 1_000_000
    story = Story(
        record,
        trace_id,
        ids[16:],
        parent_id,
        sampled,
        started,
        started + int(record.duration_ms * 1e6),
        _of_request(record, providers),
        [],
    )
    attempts = _attempts.decode(record.attempts) if record.attempts else []
    answering = _answering(attempts)
    for number, attempt in enumerate(attempts):
        span_id = blake2b(f"{record.id}/{number}".encode(), digest_size=8).digest()
        ended_ms = record.duration_ms if attempt.ended_ms is None else attempt.ended_ms
        begun, over = started + int(attempt.started_ms * 1e6), started + int(ended_ms * 1e6)
        values = _of_call(record, attempt, providers, attempt is answering)
        story.calls.append(Called(span_id, begun, max(over, begun), attempt, bool(record.stream), values))
    return story


def operation(record: Record) -> str:
    return OPERATIONS.get(record.dialect, record.dialect)  # type: ignore[call-overload, no-any-return]


def _of_request(record: Record, providers: Mapping[str, Address]) -> dict[str, Any]:
    values: dict[str, Any] = record._asdict()
    if record.deployment is not None:
        provider, _, model = record.deployment.partition("/")
        values["provider"], values["answering_model"] = _system(provider, providers), model
    values["operation"] = operation(record)
    values["error"] = record.error_code
    values["method"], values["path"] = "POST", route(record)
    values["finish_reasons"] = None if record.finish_reason is None else [record.finish_reason]
    values["tokens_estimated"] = True if record.tokens_estimated else None
    values["overhead_s"] = record.overhead_ms / 1e3
    values["first_token_s"] = _seconds(record.ttft_ms)
    values["guards"] = None if record.guards is None else record.guards.split(",")
    return values


def route(record: Record) -> str:
    """Where it came in, without the model: bounded."""
    if record.dialect == "gemini":
        return f"/v1beta/models/{{model}}:{'streamGenerateContent' if record.stream else 'generateContent'}"
    return MODEL_PATHS.get(record.dialect, "/")  # type: ignore[call-overload, no-any-return]


def _of_call(record: Record, attempt: AttemptRecord, providers: Mapping[str, Address], answering: bool) -> dict[str, Any]:
    provider, _, model = attempt.deployment.partition("/")
    address = providers.get(provider, _NOWHERE)
    values: dict[str, Any] = {
        "operation": operation(record),
        "provider": _system(provider, providers),
        "model": model,
        "deployment": attempt.deployment,
        "http_status": attempt.provider_status,
        "error": None if attempt.outcome in _FINE else attempt.outcome,
        "address": address.host,
        "port": address.port,
        "cost_usd": attempt.cost_usd,
        "queued_s": _seconds(attempt.queued_ms),
    }
    if attempt.first_token_ms is not None and record.stream:
        values["first_token_s"] = (attempt.first_token_ms - attempt.started_ms) / 1e3
    usage = attempt.usage
    if usage is not None:
        values["input_tokens"], values["output_tokens"] = usage.input, usage.output
        values["cache_read_tokens"], values["cache_write_tokens"] = usage.cache_read or None, usage.cache_write or None
        values["reasoning_tokens"] = usage.reasoning or None
    elif answering:
        names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
        values |= {name: getattr(record, name) for name in names}
    return values


def _answering(attempts: list[AttemptRecord]) -> AttemptRecord | None:
    """The one whose usage is the whole request's, which is told there alone: the last with content that has none of its own."""
    for attempt in reversed(attempts):
        if attempt.usage is None and (attempt.first_token_ms is not None or attempt.outcome == "success"):
            return attempt
    return None


def _system(provider: str, providers: Mapping[str, Address]) -> str:
    kind = providers[provider].kind if provider in providers else provider
    return PROVIDERS.get(kind, kind)


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1e3
