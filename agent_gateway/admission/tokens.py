"""Tokens (JWT) of an OpenID Connect provider, as keys: who has one that the issuer signed for us comes in as its claims say.

Promise: a token costs a look into memory once it was verified; the issuer is asked for its keys seldom, and missed only by new ones.
"""

from __future__ import annotations

import asyncio
import logging
import re
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable, Container, Mapping
from hashlib import sha256
from typing import Any, get_args

import msgspec
from joserfc import jwt
from joserfc.errors import ClaimError, ExpiredTokenError, InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import GatewayError, StoreDown, Unauthenticated
from agent_gateway.core.settings import Jwt
from agent_gateway.stores.base import Key, Role

#: Gives the body at a URL; raises `OSError` or `GatewayError`.
Fetch = Callable[[str], Awaitable[bytes]]

#: Verified tokens kept in memory; the one that came first goes first. Each is verified anew after so long, should its issuer have taken
#: its signing key back.
VERIFIED_MAX = 10_000
VERIFIED_TTL_S = 3600.0
TOKEN_MAX_BYTES = 16_384
#: Of a subject or a team.
NAME_MAX = 200
#: The issuer's keys are read anew so often, and for a token signed with another one; but then not more often than that.
KEYS_TTL_S = 3600.0
KEYS_RETRY_S = 10.0
#: Both documents of the issuer, and the length of each.
FETCH_TIMEOUT_S = 5.0
DOCUMENT_MAX_BYTES = 1_000_000
#: Between the issuer's clock and ours (s).
LEEWAY_S = 30

_FORMAT = re.compile(rb"eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
#: The mightiest of those that a token names.
_ROLES: tuple[Role, ...] = get_args(Role)[::-1]

_log = logging.getLogger("agent_gateway.admission")


class _Header(msgspec.Struct):
    """Of the token: what the library expects unasked."""

    alg: str
    kid: str | None = None


class _Discovery(msgspec.Struct):
    issuer: str
    jwks_uri: str


class Tokens:
    """One for each version of `auth.jwt`."""

    def __init__(self, settings: Jwt, fetch: Fetch, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._issuer = _Issuer(settings, fetch, clock)
        # Headers that the standard does not name are common (Entra's `nonce`); `crit` is checked nevertheless.
        self._registry = JWSRegistry(algorithms=settings.algorithms, strict_check_header=False)
        self._verified: dict[bytes, Key] = {}

    @staticmethod
    def has_form(secret: bytes) -> bool:
        return len(secret) <= TOKEN_MAX_BYTES and _FORMAT.fullmatch(secret) is not None

    def cached(self, digest: bytes) -> Key | None:
        return self._verified.get(digest)

    async def find(self, secret: bytes) -> Key:
        """Raises `Unauthenticated`, or `StoreDown` when only the issuer, who cannot be reached, could tell."""
        return self._key(await self._claims(secret))

    def keep(self, digest: bytes, key: Key) -> None:
        if len(self._verified) >= VERIFIED_MAX:
            del self._verified[next(iter(self._verified))]
        self._verified[digest] = key

    def keep_only(self, teams: Container[str]) -> None:
        """Of the tokens that name a team, those of these."""
        self._verified = {digest: key for digest, key in self._verified.items() if key.team is None or key.team in teams}

    def close(self) -> None:
        self._issuer.close()

    async def _claims(self, secret: bytes) -> dict[str, Any]:
        _check_header(secret)
        for read_keys in (self._issuer.keys, self._issuer.keys_after_change):
            keys = await read_keys()
            try:
                claims: dict[str, Any] = jwt.decode(secret, keys, registry=self._registry).claims
                self._check(claims)
            except InvalidKeyIdError:
                continue
            except ExpiredTokenError:
                raise _refused("it has expired") from None
            except ClaimError as error:
                raise _refused(f"its claim {error.claim!r} is missing or wrong") from None
            except (JoseError, ValueError, TypeError):
                raise _refused("its signature is wrong, or of an algorithm that auth.jwt.algorithms does not name") from None
            return claims
        raise _refused("its issuer publishes no key that it is signed with")

    def _check(self, claims: dict[str, Any]) -> None:
        settings = self._settings
        registry = jwt.JWTClaimsRegistry(
            now=int(self._clock.wall()),
            leeway=LEEWAY_S,
            iss={"essential": True, "value": settings.issuer},
            aud={"essential": True, "value": settings.audience},
            exp={"essential": True},
        )
        try:
            registry.validate(claims)
        except ClaimError as error:
            if error.claim == "nbf" and isinstance(claims["nbf"], int | float):
                raise _refused("it is not valid yet, as its claim 'nbf' says") from None
            raise

    def _key(self, claims: Mapping[str, Any]) -> Key:
        settings, now = self._settings, self._clock.wall()
        subject = _named(claims, settings.subject_claim)
        roles = _names(_claim(claims, settings.role_claim))
        return Key(
            id="jwt:" + sha256(f"{settings.issuer}\0{subject}".encode()).hexdigest()[:32],
            name=subject,
            models=None if settings.models_claim is None else _names(_claim(claims, settings.models_claim)),
            created_at=now,
            expires_at=float(min(claims["exp"] + LEEWAY_S, now + VERIFIED_TTL_S)),
            role=next((role for role in _ROLES if role in roles), "user"),
            endpoints=None if settings.endpoints_claim is None else _names(_claim(claims, settings.endpoints_claim)),
            owner=subject,
            team=None if settings.team_claim is None else _named(claims, settings.team_claim),
        )


class _Issuer:
    """The keys that tokens are signed with. Those read last are kept while the issuer is down."""

    def __init__(self, settings: Jwt, fetch: Fetch, clock: Clock) -> None:
        self._settings = settings
        self._fetch = fetch
        self._clock = clock
        self._keys: KeySet | None = None
        self._read_at = 0.0
        self._tried_at: float | None = None
        #: Why the last try failed; None: it did not.
        self._failure: str | None = None
        #: The document that was asked for last.
        self._asked = settings.issuer
        self._reading: asyncio.Task[None] | None = None

    async def keys(self) -> KeySet:
        if self._keys is None:
            return await self.keys_after_change()
        if self._clock.monotonic() - self._read_at >= KEYS_TTL_S:
            self._start_reading()
        return self._keys

    async def keys_after_change(self) -> KeySet:
        """Read just now, unless that was tried a moment ago. Raises `StoreDown` when it failed."""
        reading = self._start_reading()
        if reading is not None:
            await asyncio.wait([reading])  # a reload may end it; who waits is told that the issuer could not be asked
        if self._keys is None or self._failure is not None:
            raise StoreDown("The issuer of this token cannot be reached, so that it cannot be checked. Try again.", detail=self._failure)
        return self._keys

    def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()

    def _start_reading(self) -> asyncio.Task[None] | None:
        """One for all who wait for it."""
        now = self._clock.monotonic()
        if self._reading is None and (self._tried_at is None or now - self._tried_at >= KEYS_RETRY_S):
            self._tried_at = now
            self._reading = asyncio.get_running_loop().create_task(self._read())
        return self._reading

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                self._keys = KeySet.import_key_set(msgspec.json.decode(await self._document(await self._url())))
            self._read_at, self._failure = self._clock.monotonic(), None
        except (OSError, GatewayError, JoseError, ValueError, TypeError, KeyError, RecursionError) as error:  # from the fourth on: no keys
            why = f"{type(error).__name__}({error.detail!r})" if isinstance(error, GatewayError) else repr(error)
            self._failure = f"the keys of {self._settings.issuer} cannot be read at {self._asked}: {why}"
            _log.warning("%s", self._failure)
        finally:
            self._reading = None

    async def _url(self) -> str:
        issuer = self._settings.issuer
        if self._settings.jwks_url is not None:
            return self._settings.jwks_url
        text = await self._document(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        told = msgspec.json.decode(text, type=_Discovery)
        if told.issuer != issuer:
            raise ValueError(f"it calls itself {told.issuer[:200]!r}")
        return told.jwks_uri

    async def _document(self, url: str) -> bytes:
        self._asked = url
        body = await self._fetch(url)
        if len(body) > DOCUMENT_MAX_BYTES:
            raise ValueError(f"{url} has {len(body)} bytes")
        return body


def _check_header(secret: bytes) -> None:
    encoded = secret.partition(b".")[0]
    try:
        msgspec.json.decode(urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4)), type=_Header)
    except (ValueError, RecursionError):
        raise _refused("its header cannot be read") from None


def _refused(why: str) -> Unauthenticated:
    return Unauthenticated(f"This token is not accepted here: {why}. Get one from the issuer that this gateway trusts.")


def _claim(claims: Mapping[str, Any], name: str | None) -> Any:
    """By its whole name (`https://example.org/roles`), or by a path through objects (`realm_access.roles`)."""
    if name is None or name in claims:
        return None if name is None else claims[name]
    value: Any = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _named(claims: Mapping[str, Any], claim: str) -> str:
    """Somebody's name: fit to be stored and shown. Raises `Unauthenticated`."""
    value = _claim(claims, claim)
    if isinstance(value, str) and 0 < len(value) <= NAME_MAX and value.isprintable():
        return value
    raise _refused(f"its claim {claim!r} is missing or wrong")


def _names(value: Any) -> frozenset[str]:
    """A list, or words as in `scope`; of anything else there is none, so that a claim that is missing opens nothing."""
    if isinstance(value, str):
        return frozenset(value.split())
    return frozenset(name for name in value if isinstance(name, str)) if isinstance(value, list) else frozenset()
