"""Whose key a request shows: known ones are told from memory in under a microsecond, others are asked of the store.

Promise: a key that any process created or revoked is known to be so within a second. No secret is kept, only its hash.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import string
from collections.abc import Iterable
from hashlib import sha256
from hmac import compare_digest

from agent_gateway.core.clock import SYSTEM_CLOCK, Clock
from agent_gateway.core.errors import Overloaded, StoreDown, Unauthenticated
from agent_gateway.stores.base import Key, KeyStore

__all__ = ["ADMIN", "KEY_PREFIX", "Key", "KeyRing", "create_key"]

KEY_PREFIX = b"agw_"
#: Keys kept in memory; the one that came first goes first.
KNOWN_MAX = 10_000
#: Refused keys kept in memory, and how long they are believed to be wrong (s).
REFUSED_MAX = 10_000
REFUSED_TTL_S = 0.5
#: How often the store is asked whether any key changed (s).
POLL_S = 0.25
#: Keys being asked for at once; requests with any more are turned away.
ASKED_MAX = 1_000

ADMIN = Key(id="admin", name="admin key", role="admin")

_ID_CHARS = string.ascii_lowercase + string.digits
_SECRET_CHARS = string.ascii_letters + string.digits
_ID_LENGTH = 12
#: 62^43 > 2^256: nothing is gained by a slow or salted hash.
_SECRET_LENGTH = 43
_FORMAT = re.compile(rb"agw_[a-z0-9]{%d}_[A-Za-z0-9]{%d}" % (_ID_LENGTH, _SECRET_LENGTH))

_NO_FORMAT = (
    "This is not a key of this gateway. Its keys begin with agw_ and are made with `agent-gateway keys create NAME`; "
    "a model provider's key is not needed here."
)
_UNKNOWN = "This key is not known here. Make one with `agent-gateway keys create NAME`."
_REVOKED = "This key was revoked. Make a new one with `agent-gateway keys create NAME`."
_EXPIRED = "This key has expired. Make a new one with `agent-gateway keys create NAME`."

_log = logging.getLogger("agent_gateway.admission")


async def create_key(
    store: KeyStore,
    name: str,
    *,
    models: Iterable[str] | None = None,
    expires_at: float | None = None,
    limits: tuple[int | None, int | None, int | None] = (None, None, None),
    clock: Clock = SYSTEM_CLOCK,
) -> tuple[Key, str]:
    """The key, and the text that clients send: it cannot be had again. `limits`: requests and tokens a minute, requests at once."""
    key_id = "".join(secrets.choice(_ID_CHARS) for _ in range(_ID_LENGTH))
    secret = f"agw_{key_id}_{''.join(secrets.choice(_SECRET_CHARS) for _ in range(_SECRET_LENGTH))}"
    key = Key(key_id, name, None if models is None else frozenset(models), clock.wall(), expires_at, None, *limits)
    await store.create_key(key, sha256(secret.encode()).digest())
    return key, secret


class KeyRing:
    """One a process. Keys are held by the hash of their secret, which also makes every comparison blind to its timing."""

    def __init__(self, store: KeyStore, clock: Clock = SYSTEM_CLOCK, *, admin_key: str | None = None) -> None:
        self._store = store
        self._clock = clock
        self._admin: bytes | None = None
        #: Keys that may be used (but for their expiry).
        self._known: dict[bytes, Key] = {}
        #: Hash → until when it is refused unasked (monotonic), and what is said.
        self._refused: dict[bytes, tuple[float, str]] = {}
        #: Of the store, when `_known` was last held against it; None: never.
        self._version: int | None = None
        self._store_was_down = False

        self._asked: dict[bytes, asyncio.Future[Key | StoreDown | None]] = {}
        self._asking: asyncio.Task[None] | None = None
        self._polling: asyncio.Task[None] | None = None
        self.configure(admin_key)

    def configure(self, admin_key: str | None) -> None:
        """At every reload. The admin key passes as a key that may do anything."""
        self._admin = sha256(admin_key.encode()).digest() if admin_key else None

    def cached(self, secret: bytes) -> Key | None:
        """The key, if it is known to be good; None: ask `find`."""
        digest = sha256(secret).digest()
        key = self._known.get(digest)
        if key is not None:
            if key.expires_at is None or self._clock.wall() < key.expires_at:
                return key
        elif self._admin is not None and compare_digest(digest, self._admin):
            return ADMIN
        return None

    def check_format(self, secret: bytes) -> None:
        """Raises `Unauthenticated` for what can be no key, whatever the store would say."""
        if _FORMAT.fullmatch(secret) is None and self.cached(secret) is None:
            raise Unauthenticated(_NO_FORMAT)

    async def find(self, secret: bytes) -> Key:
        """Raises `Unauthenticated`, or `StoreDown` when a key that is not known cannot be asked for."""
        key = self.cached(secret)
        if key is not None:
            return key
        self.check_format(secret)
        digest = sha256(secret).digest()
        until, why = self._refused.get(digest, (0.0, ""))
        if self._clock.monotonic() < until:
            raise Unauthenticated(why)
        version = self._version
        key = await self._ask(digest)
        wrong = self._wrong(key)
        if key is None or wrong is not None:
            self._refuse(digest, wrong or _UNKNOWN)
            raise Unauthenticated(wrong or _UNKNOWN)
        if version == self._version:  # or this answer may be older than what a poll has learnt since
            self._keep(digest, key)
        return key

    async def refresh(self) -> None:
        """Holds the known keys against the store, if any key changed in it. While the store is down they stay as they are."""
        try:
            version = await self._store.keys_version()
            if version == self._version:
                return
            digests = list(self._known)
            found = await self._store.find_keys(digests) if digests else {}
        except StoreDown as error:
            if not self._store_was_down:
                _log.warning("Keys cannot be read; those already known go on working: %s", error.detail)
            self._store_was_down = True
            return
        self._store_was_down = False
        self._version = version
        self._refused.clear()
        for digest in digests:
            key = found.get(digest)
            if key is None or self._wrong(key) is not None:
                self._known.pop(digest, None)
            else:
                self._known[digest] = key

    async def close(self) -> None:
        for task in (self._polling, self._asking):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        self._polling = self._asking = None
        await self._store.close()

    # --- memory

    def _wrong(self, key: Key | None) -> str | None:
        if key is None:
            return _UNKNOWN
        if key.revoked_at is not None:
            return _REVOKED
        return _EXPIRED if key.expires_at is not None and key.expires_at <= self._clock.wall() else None

    def _keep(self, digest: bytes, key: Key) -> None:
        if len(self._known) >= KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[digest] = key
        if self._polling is None or self._polling.done():
            self._polling = asyncio.get_running_loop().create_task(self._poll())

    def _refuse(self, digest: bytes, why: str) -> None:
        if len(self._refused) >= REFUSED_MAX:
            del self._refused[next(iter(self._refused))]
        self._refused[digest] = (self._clock.monotonic() + REFUSED_TTL_S, why)

    async def _poll(self) -> None:
        while True:
            await self.refresh()
            await asyncio.sleep(POLL_S)

    # --- the store

    async def _ask(self, digest: bytes) -> Key | None:
        """All that is asked for while the store answers is asked for together next, so that the wait is two answers at most."""
        waiter = self._asked.get(digest)
        if waiter is None:
            if len(self._asked) >= ASKED_MAX:
                raise Overloaded("Too many keys that are not known yet are being checked. Try again.", retry_after_s=1)
            waiter = self._asked[digest] = asyncio.get_running_loop().create_future()
            if self._asking is None:
                self._asking = asyncio.get_running_loop().create_task(self._ask_store())
        answer = await asyncio.shield(waiter)
        if isinstance(answer, StoreDown):
            raise StoreDown(answer.message, detail=answer.detail, retry_after_s=1)
        return answer

    async def _ask_store(self) -> None:
        try:
            while self._asked:
                batch, self._asked = self._asked, {}
                await self._answer(batch)
        finally:
            self._asking = None

    async def _answer(self, batch: dict[bytes, asyncio.Future[Key | StoreDown | None]]) -> None:
        answer: dict[bytes, Key] | StoreDown
        try:
            answer = dict(await self._store.find_keys(batch.keys()))
        except StoreDown as error:
            answer = error
        except BaseException:
            for waiter in batch.values():
                waiter.cancel()
            raise
        for digest, waiter in batch.items():
            if not waiter.done():
                waiter.set_result(answer if isinstance(answer, StoreDown) else answer.get(digest))
