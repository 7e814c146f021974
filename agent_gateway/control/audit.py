"""The audit log: who did what to the gateway, from where, and how it looked before and after.

Promise: what the admin API or a command changed is in the log first; a log whose end was cut or rewritten says so itself from the
next entry on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from msgspec import Struct

from agent_gateway.admission.refusals import OTHERS, RefusedAccess
from agent_gateway.control.audit_chain import MISMATCH, Actor, Entry, Head, Outcome, chained, number_after, sign, why_unsigned
from agent_gateway.control.times import told
from agent_gateway.core.clock import SYSTEM_CLOCK, Clock
from agent_gateway.core.errors import StoreDown
from agent_gateway.core.settings import Settings
from agent_gateway.stores.base import NO_ROW, AuditRow, AuditStore, database_path, is_in_memory

#: Others may append in between; after so many of them in a row the action is refused.
TRIES_MAX = 20
KEY_BYTES = 32
#: Sources and reasons told apart in one entry.
REFUSED_MAX = 50
#: Beside a database on a server there is no file: then the key lies in the working folder.
_KEY_FILE = Path("agent-gateway.audit.key")
#: Whoever acts without a key: the gateway itself.
_GATEWAY = Actor("", "agent-gateway", "local")

OPEN = Actor("", "", "open")


@dataclass(frozen=True, slots=True)
class By:
    """Who acts, from where, and in which request."""

    actor: Actor = _GATEWAY
    source: str = ""
    request_id: str = ""

    @property
    def name(self) -> str:
        """Who acts, in a word."""
        return self.actor.name or self.actor.id or self.actor.role


_ITSELF = By()
_log = logging.getLogger("agent_gateway.control")


class Refused(Struct, frozen=True):
    """As the log has it."""

    source: str
    reason: str
    count: int
    first: str
    last: str


class AuditLog:
    """One a process; several processes may share a log. `key` blocks, and raises `OSError`: it is asked once, in a thread."""

    def __init__(self, store: AuditStore, key: Callable[[], bytes], clock: Clock = SYSTEM_CLOCK) -> None:
        self._store = store
        self._make_key = key
        self._key: bytes | None = None
        self._clock = clock
        self._turn = asyncio.Lock()
        #: The end as it was left, or met and checked; None: there is no entry.
        self._head: AuditRow | None = None
        self._has_met = False

    def configure(self) -> None:
        """At every reload: the key may be another one."""
        self._key = None

    async def append(
        self, action: str, target: str, by: By = _ITSELF, *, before: Any = None, after: Any = None, outcome: Outcome = "allowed"
    ) -> int:
        """The entry's number, once it is in the log. Raises `StoreDown`: then the action must not take place."""
        said = {**_who(by), "action": action, "target": target, "before": before, "after": after, "outcome": outcome}
        async with self._turn:
            return await self._append(said)

    @asynccontextmanager
    async def acting(self, action: str, target: str, by: By = _ITSELF, *, before: Any = None, after: Any = None) -> AsyncIterator[None]:
        """Around what takes effect: it is in the log first, and what fails is said after it. Raises `StoreDown` before it begins."""
        await self.append(action, target, by, before=before, after=after)
        try:
            yield
        except Exception as error:
            with suppress(StoreDown):
                await self.append(action, target, by, after={"error": getattr(error, "code", "internal_error")}, outcome="failed")
            raise

    async def refused(self, refusals: Sequence[RefusedAccess]) -> None:
        """What a minute's refusals were, counted by source and reason: one entry, however many there were."""
        await self.append("access.refused", "", after=_summed(refusals), outcome="refused")

    async def newest(self, limit: int, below: int | None = None) -> Sequence[AuditRow]:
        """Newest first; those with a number under `below`."""
        if below is None:
            found = await self._store.audit_head()
            below = 1 if found is None else found[0].number + 1
        after = max(below - 1 - limit, 0)
        rows = await self._store.read_audit(after=after, limit=below - 1 - after) if below > 1 else ()
        return [row for row in reversed(rows) if row.number < below]

    async def head(self) -> Head | None:
        """None: nothing was ever appended."""
        found = await self._store.audit_head()
        return None if found is None else Head(found[0].number, found[0].hash.hex(), found[1].hex())

    # --- appending, one at a time

    async def _append(self, said: dict[str, Any]) -> int:
        key = await self._signing_key()
        for _ in range(TRIES_MAX):
            try:
                row = await self._store.append_audit(lambda previous: self._following(previous, said), lambda row: sign(key, row))
            except _Moved:
                if (wrong := await self._meet_head(key)) is not None:
                    await self._append(_mismatch(wrong, self._head))
                continue
            self._head = row
            return row.number
        raise StoreDown("Too many write to the audit log at once.", retry_after_s=1)

    def _following(self, previous: AuditRow | None, said: dict[str, Any]) -> AuditRow:
        """In the store's own thread."""
        if previous != self._head or not self._has_met:
            raise _Moved
        return chained(previous, Entry(number=number_after(previous), at=told(self._clock.wall()), **said))

    async def _meet_head(self, key: bytes) -> str | None:
        """Takes the end that is there for the known one; what is wrong with it, or None."""
        known = self._head
        found = await self._store.audit_head()
        self._head = None if found is None or found[0] == NO_ROW else found[0]
        self._has_met = True
        if known is not None and (found is None or found[0].number < known.number):
            return f"the entries up to {known.number} that followed this end were missing"
        return None if found is None else why_unsigned(key, *found)

    async def _signing_key(self) -> bytes:
        if self._key is None:
            try:
                self._key = await asyncio.to_thread(self._make_key)
            except OSError as error:
                _log.error("The audit log cannot be signed: %s. Set auth.audit_key, or make that file's folder writable.", error)
                raise StoreDown("The key that signs the audit log cannot be read or made.", detail=str(error)) from error
        return self._key


class _Moved(Exception):
    """The log's end is not the one that is known here."""


def _mismatch(wrong: str, head: AuditRow | None) -> dict[str, Any]:
    found = None if head is None else {"number": head.number, "hash": head.hash.hex()}
    return {**_who(_ITSELF), "action": MISMATCH, "target": wrong, "after": found, "outcome": "noted"}


def _who(by: By) -> dict[str, Any]:
    return {"actor": by.actor, "source": by.source, "request_id": by.request_id}


def _summed(refusals: Sequence[RefusedAccess]) -> list[Refused]:
    """Those that were refused most, and all others by reason: however many sources there are, the log grows by a few KB."""
    most = sorted(refusals, key=lambda each: each.count, reverse=True)
    shown = [Refused(each.source, each.reason, each.count, told(each.first_at), told(each.last_at)) for each in most[:REFUSED_MAX]]
    rest: dict[str, list[RefusedAccess]] = {}
    for each in most[REFUSED_MAX:]:
        rest.setdefault(each.reason, []).append(each)
    for reason, few in rest.items():
        first, last = min(each.first_at for each in few), max(each.last_at for each in few)
        shown.append(Refused(OTHERS, reason, sum(each.count for each in few), told(first), told(last)))
    return shown


# --- the key ----------------------------------------------------------------------------------------------------------


class NoKey(OSError):
    """There is no key yet: nothing was ever signed here."""


def signing_key(settings: Settings, *, make: bool = True) -> bytes:
    """`auth.audit_key`, or a key of its own in a file that only its owner reads. Blocks. Raises `OSError`; `NoKey` unless `make`."""
    if settings.auth.audit_key is not None:
        return sha256(settings.auth.audit_key.encode()).digest()
    path = key_path(settings)
    if path is None:
        return _OF_THIS_PROCESS
    with suppress(FileNotFoundError):
        return _read(path)
    if not make:
        raise NoKey(f"{path} does not exist")
    return _make(path)


def key_path(settings: Settings) -> Path | None:
    """Beside the database; None: it is in memory, and so is the key."""
    url = settings.state.database
    if is_in_memory(url):
        return None
    path = database_path(url)
    return _KEY_FILE if path is None else path.with_name(f"{path.stem}.audit.key")


_OF_THIS_PROCESS = secrets.token_bytes(KEY_BYTES)


def _read(path: Path) -> bytes:
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise OSError(f"{path} has {len(key)} bytes; a key has {KEY_BYTES}")
    return key


def _make(path: Path) -> bytes:
    """Whole or not at all, and the same for all who make it at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return _read(path)


# --- the commands -----------------------------------------------------------------------------------------------------


def acting_locally(
    store: AuditStore, settings: Settings, action: str, target: str, *, before: Any = None, after: Any = None
) -> AbstractAsyncContextManager[None]:
    """`AuditLog.acting`, of a command on this machine."""
    return AuditLog(store, lambda: signing_key(settings)).acting(action, target, By(_local_user()), before=before, after=after)


def _local_user() -> Actor:
    import getpass  # a start needs no terminal

    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # no name, as in many containers
        name = f"uid {os.getuid()}"
    return Actor("", name, "local")
