"""`/admin/v1/records`: the records of requests, looked through; one is shown whole, with what was asked and answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from agent_gateway.control.admin_route import Asked, Listed, NoQuery, PageQuery, Route
from agent_gateway.control.times import span, told
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import NotFound
from agent_gateway.core.exchange import Status
from agent_gateway.record.archive import LISTED, Archive, Wanted
from agent_gateway.record.row import AttemptRecord, Record, unpacked


class RecordsQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: str | None = None
    key: str | None = None
    status: Status | None = None
    session: str | None = None
    user: str | None = None
    error: str | None = None
    since: str | None = None
    until: str | None = None


class FeedbackShown(Struct, frozen=True):
    #: 1–5.
    score: int
    comment: str | None
    at: str


class RecordShown(Struct, frozen=True, kw_only=True):
    """Without what was asked and answered."""

    id: str
    at: str
    model: str
    deployment: str | None
    dialect: str
    pattern: str
    status: str
    http_status: int
    error: str | None
    reason: str | None
    finish_reason: str | None
    stream: bool
    key: str | None
    user: str | None
    session: str | None
    client_request_id: str | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    tokens_estimated: bool
    cost_usd: float | None
    quality: float | None
    duration_ms: float
    ttft_ms: float | None
    overhead_ms: float
    attempts_count: int
    request_bytes: int
    #: What checks did, as `check:action`.
    guards: list[str]
    #: By which door it came.
    edge: str | None
    #: How the deployment was chosen, where there was a choice.
    route: str | None
    #: Streams: mean time of a token after the first.
    per_token_ms: float | None
    #: The client's trace, as its header of that name told it.
    traceparent: str | None


class RecordWhole(RecordShown, frozen=True, kw_only=True):
    attempts: list[AttemptRecord]
    #: As it came; a text where it is no whole JSON, null where it was not kept.
    request: Any
    answer: Any
    feedback: FeedbackShown | None


def record_routes(archive: Archive, clock: Clock) -> Sequence[Route]:
    async def listed(asked: Asked[RecordsQuery, None]) -> Listed[RecordShown]:
        page = await archive.page(_wanted(asked.query, clock.wall()), asked.query.limit, asked.query.cursor)
        return Listed([RecordShown(**_figures(row)) for row in page.rows], page.next)

    async def one(asked: Asked[NoQuery, None]) -> RecordWhole:
        record = await archive.find(asked.of)
        if record is None:
            raise NotFound(f"There is no record of a request {asked.of[:100]!r}; those of the last second may still be on their way.")
        return await asyncio.to_thread(_whole, record, await archive.feedback_of(record.id))  # it may be megabytes

    return (
        Route(
            method="GET",
            path="records",
            summary="Records of requests, newest first",
            query=RecordsQuery,
            answer=Listed[RecordShown],
            handler=listed,
        ),
        Route(
            method="GET",
            path="records/{request_id}",
            summary="One record, with its attempts, what was asked and what was answered",
            answer=RecordWhole,
            handler=one,
        ),
    )


def record_shown(record: Record) -> RecordShown:
    return RecordShown(**_figures(tuple(getattr(record, name) for name in LISTED)))


def _wanted(query: RecordsQuery, now: float) -> Wanted:
    since_ms, until_ms = (None if at is None else int(at * 1000) for at in span(query.since, query.until, now))
    return Wanted(query.model, query.key, query.status, query.session, query.user, query.error, since_ms, until_ms)


def _whole(record: Record, feedback: tuple[int, str | None, int] | None) -> RecordWhole:
    listed = tuple(getattr(record, name) for name in LISTED)
    attempts = msgspec.json.decode(record.attempts, type=list[AttemptRecord]) if record.attempts else []
    given = None if feedback is None else FeedbackShown(feedback[0], feedback[1], told(feedback[2] / 1000))
    return RecordWhole(**_figures(listed), attempts=attempts, request=_json(record.request), answer=_json(record.answer), feedback=given)


_SHOWN_AS = {"key_id": "key", "user_id": "user", "session_id": "session", "error_code": "error"}


def _figures(row: Sequence[Any]) -> dict[str, Any]:
    """The columns `LISTED`, as they are shown."""
    values = {_SHOWN_AS.get(name, name): value for name, value in zip(LISTED, row, strict=True)}
    at = told(values.pop("started_ms") / 1000)
    guards = values["guards"].split(",") if values["guards"] else []
    flags = {name: bool(values[name]) for name in ("stream", "tokens_estimated")}
    return {**values, **flags, "at": at, "guards": guards}


def _json(stored: bytes | None) -> Any:
    body = unpacked(stored)
    if not body:
        return None
    try:
        msgspec.json.decode(body)
        return Raw(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body.decode("utf-8", "replace")
