"""Who is logged in to the dashboard: a cookie stands for a key for some hours, and is good only while the key is.

Promise: who reads the store finds neither a cookie nor a key in it, nor anything that leads to one. Known ones are told from memory, as
keys are: one that ended anywhere is known to have within a second, and a store that is down, or hangs, keeps nobody waiting.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from dataclasses import dataclass
from hashlib import sha256, shake_256

import msgspec
from msgspec import Struct

from agent_gateway.admission.grace import Grace
from agent_gateway.admission.keys import Key, KeyRing
from agent_gateway.core.clock import SYSTEM_CLOCK, Clock
from agent_gateway.core.errors import Forbidden, Unauthenticated
from agent_gateway.stores.base import ValueStore

#: How long one is logged in (s).
LASTS_S = 12 * 3600.0
#: Log-ins kept in memory; the one that came first goes first.
KNOWN_MAX = 1_000
#: How often the store is asked which of them are good still (s).
POLL_S = 0.5
_KIND = "login"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")

_ENDED = "You are not logged in any more: the log-in has ended, or the key it was made with. Log in again."


@dataclass(frozen=True, slots=True)
class Login:
    key: Key
    #: What a page has to show beside the cookie where it changes something: other sites' pages cannot know it.
    csrf: str
    #: Unix seconds.
    expires_at: float


class _Kept(Struct, frozen=True):
    #: By the cookie: the SHA-256 of the key's secret, or the token that is the key; any process can then verify it.
    veiled: bytes
    expires_at: float
    is_token: bool = False


class Logins:
    """One a process. `token`: the cookie's value."""

    def __init__(self, store: ValueStore, keys: KeyRing, clock: Clock = SYSTEM_CLOCK) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        #: By name, as the store has them.
        self._known: dict[str, _Kept] = {}
        #: How many were ended here: what was looked up before is not kept after.
        self._ended = 0
        self._grace = Grace("Log-ins", clock)
        self._polling: asyncio.Task[None] | None = None

    async def check(self, secret: bytes) -> Key:
        """Raises `Unauthenticated`, `Forbidden` or `StoreDown`."""
        key = await self._keys.find(secret)
        if key.role == "user":
            raise Forbidden("This key may use the models, not the dashboard: that takes the key of an admin or an auditor.")
        return key

    async def begin(self, secret: bytes, key: Key) -> tuple[str, Login]:
        """`key`: as `check` gave it."""
        token = secrets.token_urlsafe(32)
        now = self._clock.wall()
        expires_at = min(now + LASTS_S, key.expires_at or now + LASTS_S)
        is_token = self._keys.is_token(secret)
        kept = _Kept(_veiled(secret if is_token else sha256(secret).digest(), token), expires_at, is_token)
        await self._store.keep_value(_KIND, _name(token), msgspec.msgpack.encode(kept), now=now, expires_at=expires_at)
        return token, Login(key, _csrf(token), expires_at)

    async def find(self, token: str) -> Login:
        """Raises `Unauthenticated`, or `StoreDown` when one that is not known cannot be asked for."""
        kept = await self._find_kept(_name(token)) if _TOKEN.fullmatch(token) else None
        if kept is None or kept.expires_at <= self._clock.wall():
            raise Unauthenticated(_ENDED)
        shown = _veiled(kept.veiled, token)
        try:
            key = await (self._keys.find(shown) if kept.is_token else self._keys.find_again(shown))
        except (Unauthenticated, Forbidden):
            raise Unauthenticated(_ENDED) from None
        return Login(key, _csrf(token), kept.expires_at)

    async def end(self, token: str) -> None:
        await self._store.drop_value(_KIND, _name(token))
        self._ended += 1
        self._known.pop(_name(token), None)

    async def refresh(self) -> None:
        """Holds what is known against the store. While that is down it stays as it is, until the grace is over."""
        known = list(self._known)
        try:
            good = await self._store.list_values(_KIND, self._clock.wall())
        except Exception as error:  # whatever it was: who asks again and again must go on doing so
            self._grace.bear(error, self._keys.grace_s, self._known)
        else:
            self._grace.confirm()
            for name in known:
                if name not in good:
                    self._known.pop(name, None)

    async def close(self) -> None:
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.wait([self._polling])

    async def _find_kept(self, name: str) -> _Kept | None:
        kept = self._known.get(name)
        if kept is not None:
            return kept
        ended = self._ended
        body = await self._store.find_value(_KIND, name, self._clock.wall())
        if body is None:
            return None
        kept = _decoder.decode(body)
        if ended != self._ended:
            return kept
        if len(self._known) >= KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[name] = kept
        if self._polling is None or self._polling.done():
            self._grace.confirm()
            self._polling = asyncio.get_running_loop().create_task(self._poll())
        return kept

    async def _poll(self) -> None:
        while self._known:
            await asyncio.sleep(POLL_S)
            await self.refresh()


_decoder = msgspec.msgpack.Decoder(_Kept)


def _name(token: str) -> str:
    return sha256(token.encode()).hexdigest()


def _csrf(token: str) -> str:
    return sha256(b"csrf:" + token.encode()).hexdigest()


def _veiled(shown: bytes, token: str) -> bytes:
    """And back again. A token is used for one key only."""
    veil = shake_256(b"key:" + token.encode()).digest(len(shown))
    return (int.from_bytes(shown) ^ int.from_bytes(veil)).to_bytes(len(shown))
