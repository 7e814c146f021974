"""Recorded requests as they can be asked again, and what became of every call of a deployment that was made for them.

Promise: only what decides about routes, limits, times and cost is taken from a record; nothing that anybody said is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from random import Random
from typing import cast

import msgspec

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.errors import (
    BudgetSpent,
    ClientLeft,
    ContentFiltered,
    ContextTooLong,
    GatewayError,
    NotCapable,
    NotExpressible,
    Overloaded,
    ProviderRefusedRequest,
    RateLimited,
    UnknownModel,
)
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.base import codec_of
from agent_gateway.record.row import AttemptRecord, Record, unpacked
from agent_gateway.rehearsal.figures import Tally

#: Requests that are asked again at once; more would not fit into memory beside what they did.
REQUESTS_MAX = 500_000
#: Output tokens of an answer that nobody has seen, where no request of its model was answered either.
EXPECTED_OUTPUT_TOKENS = 256
_BYTES_PER_TOKEN = 4

#: Requests that no deployment was asked for, because of what a configuration says: another may say otherwise.
_DECIDED_HERE = frozenset(error.code for error in (RateLimited, BudgetSpent, Overloaded, UnknownModel, NotCapable, ContextTooLong))
#: Said of the request by a deployment, not of the deployment by the request.
_ABOUT_THE_REQUEST = frozenset(error.code for error in (ProviderRefusedRequest, ContextTooLong, ContentFiltered, NotExpressible))

_attempts = msgspec.json.Decoder(list[AttemptRecord])


@dataclass(frozen=True, slots=True)
class Done:
    """One call of a deployment, as it was recorded. `at` in Unix seconds, the others since then."""

    request: int
    deployment: str
    at: float
    #: The client asked for a stream.
    stream: bool
    #: None: no connection came about.
    connected_s: float | None
    #: Of a stream that began.
    first_token_s: float | None
    ended_s: float
    outcome: str
    provider_status: int | None
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, to be asked again. `call` has no body, but for its size."""

    number: int
    #: Unix seconds.
    at: float
    call: Call
    body_bytes: int
    key_id: str | None
    of_batch: bool
    #: What answering it takes, wherever that is done.
    usage: Usage
    #: Its client left so long after it had asked (s).
    left_after_s: float | None
    #: By deployment: what was said of this request, whoever else was asked at that time.
    refused: dict[str, Done]
    #: A deployment has answered it, to the end.
    answered: bool


@dataclass(slots=True)
class Traffic:
    """In the order of arrival."""

    requests: list[Asked] = field(default_factory=list)
    done: list[Done] = field(default_factory=list)
    #: What the requests came to when they were recorded.
    then: Tally = field(default_factory=Tally)
    #: Records that nothing here decides about, by why.
    left_out: Counter[str] = field(default_factory=Counter)
    #: Requests of which it is not known what they need, for their bodies are not kept.
    without_body: int = 0


class TooMany(Exception):
    """More records than can be asked again at once."""


async def read(pages: AsyncIterable[Sequence[Record]]) -> Traffic:
    """Of records, oldest first. Raises `TooMany`."""
    traffic = Traffic()
    requests = traffic.requests
    async for page in pages:
        for record in page:
            why = _why_left_out(record)
            if why is not None:
                traffic.left_out[why] += 1
            elif len(requests) >= REQUESTS_MAX:
                raise TooMany
            else:
                requests.append(_asked(len(requests), record, traffic))
    typical = _Typical(requests)
    traffic.requests = [asked if asked.answered else replace(asked, usage=typical.usage(asked)) for asked in requests]
    return traffic


def _why_left_out(record: Record) -> str | None:
    if record.status == "cached":
        return "answered from the cache"
    if record.edge == "native":
        return "run as a provider's own batch"
    if record.attempts is None and record.error_code not in _DECIDED_HERE:
        return record.error_code or record.status
    return None


def _asked(number: int, record: Record, traffic: Traffic) -> Asked:
    """As far as it is known by itself. What its calls met goes to `traffic`."""
    attempts = _attempts.decode(record.attempts) if record.attempts else []
    done = [_done(number, record, attempt) for attempt in attempts if attempt.ended_ms is not None]
    traffic.done += [each for each in done if each.outcome not in _ABOUT_THE_REQUEST]
    traffic.then.add([record])
    if record.request is None:
        traffic.without_body += 1
    usage = _usage(record, attempts)
    return Asked(
        number,
        record.started_ms / 1000,
        _call(record),
        record.request_bytes,
        record.key_id,
        of_batch=record.pattern == "batching",
        usage=usage or Usage(),
        left_after_s=record.duration_ms / 1000 if record.error_code == ClientLeft.code else None,
        refused={each.deployment: each for each in done if each.outcome in _ABOUT_THE_REQUEST},
        answered=usage is not None and record.status in ("success", "fallback"),
    )


class _Typical:
    """What requests take that were not answered to their end: as much as others of their model."""

    def __init__(self, requests: Sequence[Asked]) -> None:
        self._answered: dict[tuple[str, bool], list[Asked]] = {}
        for each in requests:
            if each.answered:
                self._answered.setdefault((each.call.model, each.call.stream), []).append(each)

    def usage(self, asked: Asked) -> Usage:
        call, known = asked.call, asked.usage
        others = self._answered.get((call.model, call.stream)) or self._answered.get((call.model, not call.stream))
        if others is None:
            return Usage(input=known.input or asked.body_bytes // _BYTES_PER_TOKEN, output=max(known.output, EXPECTED_OUTPUT_TOKENS))
        other = Random(asked.number).choice(others)
        per_byte = other.usage.input / max(other.body_bytes, 1)
        output = max(known.output, min(other.usage.output, call.max_output_tokens or other.usage.output))
        return Usage(input=known.input or int(asked.body_bytes * per_byte), output=output)


def _usage(record: Record, attempts: Sequence[AttemptRecord]) -> Usage | None:
    """Of the call that answered, or began to; what failed before it, and was billed too, is not part of what an answer takes."""
    answering = next(
        (attempt for attempt in reversed(attempts) if attempt.first_token_ms is not None or attempt.outcome == "success"), None
    )
    if answering is None or record.status == "degraded":
        return None
    if answering.usage is not None and record.reason != "recovered":
        return answering.usage
    if record.input_tokens is None:
        return None
    return Usage(
        input=record.input_tokens,
        output=record.output_tokens or 0,
        cache_read=record.cache_read_tokens or 0,
        cache_write=record.cache_write_tokens or 0,
        reasoning=record.reasoning_tokens or 0,
    )


def _done(number: int, record: Record, attempt: AttemptRecord) -> Done:
    started_ms, usage = attempt.started_ms, attempt.usage

    def after_s(at_ms: float | None) -> float | None:
        return None if at_ms is None else (at_ms - started_ms) / 1000

    return Done(
        number,
        attempt.deployment,
        (record.started_ms + started_ms) / 1000,
        bool(record.stream),
        after_s(attempt.connected_ms),
        after_s(attempt.first_token_ms),
        after_s(attempt.ended_ms) or 0.0,
        attempt.outcome or "cancelled",
        attempt.provider_status,
        (record.input_tokens if usage is None else usage.input) or 0,
        (record.output_tokens if usage is None else usage.output) or 0,
    )


def _call(record: Record) -> Call:
    """From the client's own JSON where it was kept whole; else by the record's figures alone."""
    plain = Call(cast(Dialect, record.dialect), record.model, b"", stream=bool(record.stream))
    body = unpacked(record.request)
    if body is None or len(body) != record.request_bytes:
        return msgspec.structs.replace(plain, wants_usage=True)
    with suppress(GatewayError):
        read = codec_of(plain.dialect).read_call(body, {}, plain.path)
        # What the answer says is not rehearsed, so it is not looked at either.
        return msgspec.structs.replace(
            read, model=plain.model, body=b"", stream=plain.stream, wants_usage=True, wants_json=False, keeping=None
        )
    return msgspec.structs.replace(plain, wants_usage=True)


# --- bodies of a size -------------------------------------------------------------------------------------------------

_TURN = '"messages":[{"role":"user","content":"'
_OPENINGS: dict[Dialect, tuple[str, str]] = {
    "openai_chat": (_TURN, '"}]'),
    "openai_completions": ('"prompt":"', '"'),
    "openai_embeddings": ('"input":"', '"'),
    "openai_responses": ('"input":"', '"'),
    "anthropic": ('"max_tokens":4096,' + _TURN, '"}]'),
    "anthropic_count": (_TURN, '"}]'),
    "gemini": ('"contents":[{"role":"user","parts":[{"text":"', '"}]}]'),
}


def with_body(call: Call, body_bytes: int, headers: dict[str, str]) -> Call:
    """The call with a text of that many bytes, and nothing in it."""
    opening, end = _OPENINGS[call.dialect]
    head = f"{{{msgspec.json.encode({'model': call.model, 'stream': call.stream}).decode()[1:-1]},{opening}"
    text = "and " * (max(body_bytes - len(head) - len(end) - 1, 4) // 4)
    return msgspec.structs.replace(call, body=f"{head}{text}{end}}}".encode(), forward_headers=headers)
