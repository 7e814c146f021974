"""Records as they are made, in all workers of the gateway, for those who are told live.

Promise: while nobody listens nothing is kept of them; a worker that was asked by another forgets it when it is not asked any more.
"""

from __future__ import annotations

import asyncio
import secrets

import msgspec

from agent_gateway.control.admin.records import RecordShown, record_shown
from agent_gateway.core.siblings import Siblings
from agent_gateway.record.newest import NEWEST_MAX, Newest
from agent_gateway.record.recorder import Recorder

#: Who asks, asks once a second; who has not for so long is gone (s).
ASKED_S = 5.0
_NEWEST = "records.newest"

_decoder = msgspec.msgpack.Decoder(list[RecordShown])


class NewestRecords:
    """One a process; belongs to the event loop."""

    def __init__(self, recorder: Recorder, siblings: Siblings) -> None:
        self._recorder = recorder
        self._siblings = siblings
        self._name = secrets.token_bytes(8)
        #: How many each reader has seen, the one of this process under its own name.
        self._seen: dict[bytes, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        siblings.answer(_NEWEST, self._asked)

    def begin(self) -> None:
        self._news(self._name)

    def end(self) -> None:
        self._seen.pop(self._name, None)
        self._let_go()

    async def take(self) -> list[RecordShown] | None:
        """What is new since the last time, the newest first; None: nothing."""
        records = self._news(self._name)
        others = [told.body for told in await self._siblings.gather(_NEWEST, self._name) if told.body is not None]
        if others:
            records += [record for body in others for record in _decoder.decode(body)]
            records.sort(key=lambda record: record.at, reverse=True)
        return records[:NEWEST_MAX] or None

    async def _asked(self, reader: bytes) -> bytes:
        records = self._news(reader)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(ASKED_S, self._forget_others)
        return msgspec.msgpack.encode(records)

    def _news(self, reader: bytes) -> list[RecordShown]:
        """For one who was not there before, only what comes from now on."""
        newest = self._recorder.newest
        if newest is None:
            newest = self._recorder.newest = Newest()
        before, self._seen[reader] = self._seen.get(reader, newest.count), newest.count
        return [record_shown(record) for record in newest.after(before)]

    def _forget_others(self) -> None:
        self._timer = None
        self._seen = {self._name: self._seen[self._name]} if self._name in self._seen else {}
        self._let_go()

    def _let_go(self) -> None:
        if not self._seen:
            self._recorder.newest = None
