"""`POST /v1/feedback`: what the client thinks of an answer that it got; one score a request, the last one counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from agent_gateway.core.errors import BadRequest, NotFound
from agent_gateway.pipeline import Runtime
from agent_gateway.record.changes import Feedback
from agent_gateway.stores.base import Owner

COMMENT_MAX_CHARS = 2_000


class _Given(Struct, forbid_unknown_fields=True):
    request_id: Annotated[str, Meta(min_length=1, max_length=100)]
    score: Annotated[int, Meta(ge=1, le=5)]
    comment: Annotated[str, Meta(max_length=COMMENT_MAX_CHARS)] | None = None


#: What another process has just answered is in the records within this time (s).
_ELSEWHERE_S = 0.3
_decoder = msgspec.json.Decoder(_Given)
_EXPECTED = f'{{"request_id": "req_…", "score": 1 to 5, "comment": up to {COMMENT_MAX_CHARS} characters or left out}}'


async def take_feedback(owner: Owner, body: bytes, runtime: Runtime) -> dict[str, Any]:
    """Raises `BadRequest`, `NotFound` where the owner's key has made no such request, and `StoreDown`."""
    try:
        given = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        what, _, at = str(error).partition(" - at `$.")
        name = at.rstrip("`") or None
        raise BadRequest(f"{name or 'The body'}: {what.replace('`', '')}. Expected is {_EXPECTED}.", param=name) from None
    feedback = Feedback(given.request_id, owner.key, given.score, given.comment, int(runtime.clock.wall() * 1000))
    score = runtime.recorder.score
    if not await score(feedback) and not await _later(score, feedback):
        raise NotFound(
            f"There is no request {given.request_id[:100]!r} of this key: request_id is the header x-request-id of its answer. "
            "It is known about 0.1 s after its end, until its record is deleted."
        )
    return {"request_id": given.request_id, "object": "feedback", "score": given.score}


async def _later(score: Callable[[Feedback], Awaitable[bool]], feedback: Feedback) -> bool:
    await asyncio.sleep(_ELSEWHERE_S)
    return await score(feedback)
