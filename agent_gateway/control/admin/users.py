"""`/admin/v1/users/{id}`: erases what is kept of one user, everywhere; what was spent stays.

Promise: when it answers, nothing is left of what requests that had ended said or were told; asked again after a failure, it does the rest.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256

from msgspec import Struct

from agent_gateway.control.admin_route import Asked, NoQuery, Route
from agent_gateway.control.audit import AuditLog
from agent_gateway.record.recorder import Recorder
from agent_gateway.session.live_streams import LiveStreams
from agent_gateway.stores.base import SessionStore


class Erased(Struct, frozen=True):
    """How many there were."""

    sessions_and_responses: int
    streams: int
    cached_answers: int
    records: int


def user_routes(
    store: SessionStore, audit: AuditLog, recorder: Recorder, streams: LiveStreams, erase_answers: Callable[[str], Awaitable[int]]
) -> Sequence[Route]:
    async def erase(asked: Asked[NoQuery, None]) -> Erased:
        user = asked.of
        async with audit.acting("users.erase", fingerprint(user), asked.by):
            return Erased(
                sessions_and_responses=await store.delete_user(user),
                streams=await streams.erase(user),
                cached_answers=await erase_answers(user),
                records=await recorder.erase(user),
            )

    return (
        Route(
            method="DELETE",
            path="users/{id}",
            slashes=True,
            summary="Erases what is kept of a user: sessions, responses, streams, cached answers, and what records hold of them",
            role="admin",
            answer=Erased,
            handler=erase,
        ),
    )


def fingerprint(user: str) -> str:
    """The audit log cannot forget, so it is not told the user's name: whoever has it can find the entry."""
    return f"sha256:{sha256(user.encode('utf-8', 'surrogatepass')).hexdigest()}"
