"""`/admin/v1/users/{id}`: erases what is kept of one user, everywhere; what was spent stays.

Promise: when it answers, nothing is left of what requests that had ended said or were told; asked again after a failure, it does the rest.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256

import msgspec
from msgspec import Struct

from agent_gateway.control.admin_route import Asked, NoQuery, Route
from agent_gateway.control.audit import AuditLog
from agent_gateway.core.errors import StoreDown
from agent_gateway.core.siblings import Siblings
from agent_gateway.record.recorder import Recorder
from agent_gateway.session.live_streams import LiveStreams
from agent_gateway.stores.base import SessionStore

#: As long as records may take, and a little (s).
ERASE_TIMEOUT_S = 65.0
_ERASE = "users.erase"


class Erased(Struct, frozen=True):
    """How many there were."""

    sessions_and_responses: int
    streams: int
    cached_answers: int
    records: int


_counts = msgspec.msgpack.Decoder(tuple[int, int])


class Erasure:
    """Of what processes keep beside the stores: each its own, whichever is asked."""

    def __init__(self, recorder: Recorder, erase_answers: Callable[[str], Awaitable[int]], siblings: Siblings) -> None:
        self._recorder = recorder
        self._erase_answers = erase_answers
        self._siblings = siblings
        siblings.answer(_ERASE, self._asked)

    async def everywhere(self, user: str) -> tuple[int, int]:
        """How many cached answers and records. Raises `StoreDown` where not all of it is erased."""
        answers, records = await self._here(user)
        for told in await self._siblings.gather(_ERASE, user.encode("utf-8", "surrogatepass"), ERASE_TIMEOUT_S):
            if told.body is None:
                raise StoreDown("Not all workers of the gateway have erased what they keep of the user. Ask again.")
            more_answers, more_records = _counts.decode(told.body)
            answers, records = answers + more_answers, records + more_records
        return answers, records

    async def _here(self, user: str) -> tuple[int, int]:
        return await self._erase_answers(user), await self._recorder.erase(user)

    async def _asked(self, user: bytes) -> bytes:
        return msgspec.msgpack.encode(await self._here(user.decode("utf-8", "surrogatepass")))


def user_routes(store: SessionStore, audit: AuditLog, streams: LiveStreams, erasure: Erasure) -> Sequence[Route]:
    async def erase(asked: Asked[NoQuery, None]) -> Erased:
        user = asked.of
        async with audit.acting("users.erase", fingerprint(user), asked.by):
            kept = await store.delete_user(user)
            return Erased(kept, await streams.erase(user), *await erasure.everywhere(user))

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
