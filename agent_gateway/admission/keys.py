"""Whose key a request shows: known ones are told from memory in under a microsecond, others are asked of the store.

Promise: a key that any process created, changed or revoked is known to be so within a second. No secret is kept, only its hash.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import string
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING, TypedDict, Unpack

from agent_gateway.admission.grace import Grace
from agent_gateway.core.clock import SYSTEM_CLOCK, Clock
from agent_gateway.core.errors import Forbidden, Overloaded, StoreDown, Unauthenticated
from agent_gateway.core.settings import Auth, Budget
from agent_gateway.stores.base import Key, KeyStore, Role, Team

if TYPE_CHECKING:
    from agent_gateway.admission.tokens import Fetch, Tokens

__all__ = ["ADMIN", "GATEWAY", "PLAYGROUND", "Key", "KeyOptions", "KeyRing", "create_key", "new_key", "rotate_key"]

#: Keys kept in memory; the one that came first goes first.
KNOWN_MAX = 10_000
#: Refused keys kept in memory, and how long they are believed to be wrong (s).
REFUSED_MAX = 10_000
REFUSED_TTL_S = 0.5
#: How long a key that was looked up by its id is believed (s).
BY_ID_TTL_S = 0.5
#: How often the store is asked whether any key changed (s).
POLL_S = 0.25
#: Keys being asked for at once; requests with any more are turned away.
ASKED_MAX = 1_000

NO_AUTH = Auth()
ADMIN = Key(id="admin", name="admin key", role="admin")
#: Of what the gateway asks of models by itself (summaries of sessions). Nobody can show it.
GATEWAY = Key(id="gateway", name="the gateway itself")
#: Of what admins ask in the playground; limited as anybody's. Nobody can show it either.
PLAYGROUND = Key(id="playground", name="the playground")

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
_ROTATED = "This key's secret was replaced by a newer one (`agent-gateway keys rotate`). Use that."


class KeyOptions(TypedDict, total=False):
    """What can be chosen of a new key; see `stores.base.Key`."""

    models: frozenset[str] | None
    expires_at: float | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    max_parallel: int | None
    role: Role
    endpoints: frozenset[str] | None
    owner: str
    team: str | None
    budget: Budget | None
    metadata: bytes | None


async def create_key(store: KeyStore, name: str, clock: Clock = SYSTEM_CLOCK, **options: Unpack[KeyOptions]) -> tuple[Key, str]:
    """The key, and the text that clients send: it cannot be had again."""
    key, secret, secret_hash = new_key(name, clock, **options)
    await store.create_key(key, secret_hash)
    return key, secret


def new_key(name: str, clock: Clock = SYSTEM_CLOCK, **options: Unpack[KeyOptions]) -> tuple[Key, str, bytes]:
    """The same, for who has something to do before it is kept; and the hash to keep it with."""
    key = Key(_random(_ID_CHARS, _ID_LENGTH), name, created_at=clock.wall(), **options)
    secret = _secret_of(key.id)
    return key, secret, _hashed(secret)


async def rotate_key(store: KeyStore, key_id: str, *, overlap_s: float, clock: Clock = SYSTEM_CLOCK) -> tuple[Key, str] | None:
    """The key, and its new text; the one before is good for so long still. None: there is no such key, or it is revoked."""
    secret = _secret_of(key_id)
    key = await store.rotate_key(key_id, _hashed(secret), previous_until=clock.wall() + overlap_s)
    return None if key is None else (key, secret)


def _secret_of(key_id: str) -> str:
    return f"agw_{key_id}_{_random(_SECRET_CHARS, _SECRET_LENGTH)}"


def _random(chars: str, length: int) -> str:
    return "".join(secrets.choice(chars) for _ in range(length))


def _hashed(secret: str) -> bytes:
    return sha256(secret.encode()).digest()


class KeyRing:
    """One a process. Keys are held by the hash of their secret: whoever measures how long a comparison takes learns something of
    the hash, from which nothing follows for the secret.

    `fetch` reads a token issuer's documents; it is needed where `auth.jwt` is set.
    """

    def __init__(self, store: KeyStore, clock: Clock = SYSTEM_CLOCK, *, auth: Auth = NO_AUTH, fetch: Fetch | None = None) -> None:
        self._store = store
        self._clock = clock
        self._fetch = fetch
        # Of the configuration.
        self._auth = NO_AUTH
        self._admin: bytes | None = None
        self._tokens: Tokens | None = None
        #: Keys that may be used (but for their expiry).
        self._known: dict[bytes, Key] = {}
        #: All there are: as many as operators have made.
        self._teams: dict[str, Team] = {}
        #: Hash → until when it is refused unasked (monotonic), and how.
        self._refused: dict[bytes, tuple[float, type[Unauthenticated | Forbidden], str]] = {}
        #: By the key's id: until when it is believed (monotonic); None: there is none.
        self._by_id: dict[str, tuple[float, Key | None]] = {}
        #: Of the store, when `_known` was last held against it; None: never.
        self._version: int | None = None
        #: How often that was begun: what was asked for before is not kept after.
        self._learnings = 0
        self._grace = Grace("Keys", clock)

        self._asked: dict[bytes, asyncio.Future[Key | StoreDown | None]] = {}
        self._asking: asyncio.Task[None] | None = None
        self._polling: asyncio.Task[None] | None = None
        self.configure(auth)

    def configure(self, auth: Auth) -> None:
        """At every reload. The admin key passes as a key that may do anything."""
        self._admin = _hashed(auth.admin_key) if auth.admin_key else None
        if auth.jwt != self._auth.jwt:
            self._end_tokens()
            if auth.jwt is not None:
                from agent_gateway.admission.tokens import Tokens

                assert self._fetch is not None
                self._tokens = Tokens(auth.jwt, self._fetch, self._clock)
        self._auth = auth

    @property
    def grace_s(self) -> float:
        return self._auth.grace_s

    def cached(self, secret: bytes) -> Key | None:
        """The key, if it is known to be good; None: ask `find`."""
        return self._cached(sha256(secret).digest())

    def _cached(self, digest: bytes) -> Key | None:
        key = self._known.get(digest)
        if key is None and self._tokens is not None:
            key = self._tokens.cached(digest)
        if key is not None:
            if key.expires_at is None or self._clock.wall() < key.expires_at:
                return key
        elif self._admin is not None and compare_digest(digest, self._admin):
            return ADMIN
        return None

    def may_be_known(self, secret: bytes) -> bool:
        """Whether it has the form of a key or a token."""
        return _FORMAT.fullmatch(secret) is not None or self.is_token(secret)

    def is_token(self, secret: bytes) -> bool:
        return self._tokens is not None and self._tokens.has_form(secret)

    def check_format(self, secret: bytes) -> None:
        """Raises `Unauthenticated` for what can be no key, whatever the store would say."""
        if not self.may_be_known(secret) and self.cached(secret) is None:
            raise Unauthenticated(_NO_FORMAT)

    async def find(self, secret: bytes) -> Key:
        """Raises `Unauthenticated`, `Forbidden` for a token of an unknown team, or `StoreDown` when a key that is not known cannot be
        asked for.
        """
        key = self.cached(secret)
        if key is not None:
            return key
        self.check_format(secret)
        return await self._find(sha256(secret).digest(), secret)

    async def find_again(self, digest: bytes) -> Key:
        """`find`, for who has kept the SHA-256 of the secret instead of it. A token has to be shown itself."""
        key = self._cached(digest)
        return await self._find(digest) if key is None else key

    async def _find(self, digest: bytes, secret: bytes | None = None) -> Key:
        until, how, why = self._refused.get(digest, (0.0, Unauthenticated, ""))
        if self._clock.monotonic() < until:
            raise how(why)
        try:
            if secret is not None and self.is_token(secret):
                return await self._find_by_token(secret, digest)
            return await self._find_in_store(digest)
        except (Unauthenticated, Forbidden) as error:
            self._refuse(digest, error)
            raise

    async def by_id(self, key_id: str) -> Key:
        """For work that goes on without the secret. Raises `Unauthenticated` once the key is revoked or has expired, or `StoreDown`."""
        until, key = self._by_id.get(key_id, (0.0, None))
        now = self._clock.monotonic()
        if now >= until:
            key = await self._store.find_key(key_id)
            if key is not None and key.team is not None and key.team not in self._teams:
                await self._meet_teams()
            if len(self._by_id) >= KNOWN_MAX:
                del self._by_id[next(iter(self._by_id))]
            self._by_id[key_id] = (now + BY_ID_TTL_S, key)
        wrong = self._wrong(key)
        if key is None or wrong is not None:
            raise Unauthenticated(wrong or _UNKNOWN)
        return key

    def team(self, team_id: str) -> Team | None:
        """Known as soon as any of its keys is. None: there is none of this name."""
        return self._teams.get(team_id)

    async def refresh(self) -> None:
        """Holds what is known against the store, if anything changed in it. While the store is down it stays as it is, until the grace
        is over.
        """
        try:
            version = await self._store.keys_version()
            if version != self._version:
                await self._learn(version)
        except Exception as error:  # whatever it was: who asks again and again must go on doing so
            self._grace.bear(error, self.grace_s, self._known)
        else:
            self._grace.confirm()

    async def close(self) -> None:
        self._end_tokens()
        for task in (self._polling, self._asking):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        self._polling = self._asking = None
        await self._store.close()

    # --- memory

    async def _learn(self, version: int) -> None:
        """A key that did not change stays the same object."""
        self._learnings += 1
        digests = list(self._known)
        found = await self._store.find_keys(digests) if digests else {}
        teams = await self._store.list_teams()
        self._version = version
        self._refused.clear()
        self._teams = {team.id: team for team in teams}
        if self._tokens is not None:
            self._tokens.keep_only(self._teams)
        for digest in digests:
            key = found.get(digest)
            if key is None or self._wrong(key) is not None:
                self._known.pop(digest, None)
            elif key != self._known.get(digest):
                self._known[digest] = key

    def _wrong(self, key: Key | None) -> str | None:
        if key is None:
            return _UNKNOWN
        if key.revoked_at is not None:
            return _REVOKED
        if key.expires_at is None or self._clock.wall() < key.expires_at:
            return None
        return _ROTATED if key.expires_at == key.previous_until else _EXPIRED

    def _keep(self, digest: bytes, key: Key) -> None:
        if len(self._known) >= KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[digest] = key
        self._watch()

    def _watch(self) -> None:
        if self._polling is None or self._polling.done():
            self._grace.confirm()
            self._polling = asyncio.get_running_loop().create_task(self._poll())

    def _refuse(self, digest: bytes, error: Unauthenticated | Forbidden) -> None:
        if len(self._refused) >= REFUSED_MAX:
            del self._refused[next(iter(self._refused))]
        self._refused[digest] = (self._clock.monotonic() + REFUSED_TTL_S, type(error), error.message)

    async def _poll(self) -> None:
        while True:
            await self.refresh()
            await asyncio.sleep(POLL_S)

    # --- tokens

    async def _find_by_token(self, secret: bytes, digest: bytes) -> Key:
        assert self._tokens is not None
        tokens = self._tokens
        key = await tokens.find(secret)
        if key.team is not None:
            if key.team not in self._teams:
                await self._meet_team(key.team)
            self._watch()
        tokens.keep(digest, key)
        return key

    async def _meet_team(self, team: str) -> None:
        """Of a token. Raises `Forbidden` where there is none of this name, for its budget would bind nobody."""
        try:
            await self._meet_teams()
        except StoreDown as error:  # the token is good without it; its team's budget is not known for now
            self._grace.bear(error, self.grace_s, self._known)
            return
        if team not in self._teams:
            raise Forbidden(f"This token's team {team!r} does not exist here. Make it: `agent-gateway keys team create TEAM --budget USD`.")

    def _end_tokens(self) -> None:
        if self._tokens is not None:
            self._tokens.close()
            self._tokens = None

    # --- the store

    async def _find_in_store(self, digest: bytes) -> Key:
        learnings = self._learnings
        key = await self._ask(digest)
        wrong = self._wrong(key)
        if key is None or wrong is not None:
            raise Unauthenticated(wrong or _UNKNOWN)
        if learnings == self._learnings:  # or this answer may be older than the version that a poll is held against
            self._keep(digest, key)
        return key

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
            if any(key.team is not None and key.team not in self._teams for key in answer.values()):
                await self._meet_teams()
        except StoreDown as error:
            answer = error
        except BaseException:
            for waiter in batch.values():
                waiter.cancel()
            raise
        for digest, waiter in batch.items():
            if not waiter.done():
                waiter.set_result(answer if isinstance(answer, StoreDown) else answer.get(digest))

    async def _meet_teams(self) -> None:
        """What a poll has learnt meanwhile is younger."""
        for team in await self._store.list_teams():
            self._teams.setdefault(team.id, team)
