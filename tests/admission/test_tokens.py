"""Tokens of an OpenID Connect provider: what each of their claims opens, and that nothing else does."""

from __future__ import annotations

import asyncio
import base64
import hmac
import subprocess
import sys
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import example, given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey
from joserfc.jws import JWSRegistry

from agent_gateway.admission import tokens as module
from agent_gateway.admission.keys import REFUSED_TTL_S, KeyRing
from agent_gateway.admission.logins import Logins
from agent_gateway.admission.tokens import Tokens
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import ConnectFailed, Forbidden, StoreDown, Unauthenticated
from agent_gateway.core.settings import Auth, Budget, Jwt
from agent_gateway.stores.backends.memory import MemoryStore
from agent_gateway.stores.base import Key, Team

ISSUER = "https://login.example"
SETTINGS = Jwt(
    issuer=ISSUER,
    audience="gateway",
    role_claim="realm_access.roles",
    models_claim="https://gateway.example/models",
    endpoints_claim="scope",
    team_claim="team",
)
RSA = RSAKey.generate_key(2048, {"kid": "rsa"})
EC = ECKey.generate_key("P-256", {"kid": "ec"})
STRANGER = RSAKey.generate_key(2048, {"kid": "rsa"})
NOW = 1_760_000_000.0
RS256 = b'{"alg":"RS256","kid":"rsa"}'


class Time:
    def __init__(self) -> None:
        self.now = NOW

    @property
    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.now, wall=lambda: self.now)


class Issuer:
    """What is published, and how often it was read."""

    def __init__(self) -> None:
        self.keys: list[Any] = [RSA, EC]
        self.name = ISSUER
        self.down = False
        self.read: list[str] = []

    async def fetch(self, url: str) -> bytes:
        self.read.append(url.removeprefix(ISSUER))
        await asyncio.sleep(0)
        if self.down:
            raise ConnectionRefusedError
        if url == f"{ISSUER}/.well-known/openid-configuration":
            return msgspec.json.encode({"issuer": self.name, "jwks_uri": f"{ISSUER}/keys", "more": []})
        assert url == f"{ISSUER}/keys"
        return msgspec.json.encode(KeySet(self.keys).as_dict())


@pytest.fixture
def moment() -> Time:
    return Time()


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def tokens(issuer: Issuer, moment: Time) -> Tokens:
    return Tokens(SETTINGS, issuer.fetch, moment.clock)


def signed(key: Any = RSA, header: dict[str, Any] | None = None, **changes: Any) -> bytes:
    claims = {"iss": ISSUER, "aud": ["other", "gateway"], "sub": "ann", "team": "search", "exp": int(NOW) + 600, **changes}
    claims = {name: value for name, value in claims.items() if value is not None}
    algorithm = {"RSA": "RS256", "EC": "ES256", "oct": "HS256"}[key.key_type]
    header = {"alg": algorithm, "kid": key.kid, **(header or {})}
    registry = JWSRegistry(algorithms=[header["alg"]], strict_check_header=False)
    return jwt.encode(header, claims, key, registry=registry).encode()


async def find(tokens: Tokens, token: bytes) -> Key:
    return await tokens.find(token)


async def refused(tokens: Tokens, token: bytes) -> str:
    with pytest.raises(Unauthenticated) as error:
        await find(tokens, token)
    return error.value.message


async def test_a_token_is_a_key_as_its_claims_say(tokens: Tokens) -> None:
    claims: dict[str, Any] = {
        "team": "search",
        "realm_access": {"roles": ["offline", "auditor"]},
        "https://gateway.example/models": ["small", "large"],
        "scope": "/v1/chat/completions /v1/models*",
    }
    key = await find(tokens, signed(**claims))
    assert key == Key(
        id="jwt:" + sha256(f"{ISSUER}\0ann".encode()).hexdigest()[:32],
        name="ann",
        models=frozenset({"small", "large"}),
        created_at=NOW,
        expires_at=NOW + 600 + module.LEEWAY_S,
        role="auditor",
        endpoints=frozenset({"/v1/chat/completions", "/v1/models*"}),
        owner="ann",
        team="search",
    )
    assert (await find(tokens, signed(EC))).id == key.id
    assert (await find(tokens, signed(sub="bob"))).id != key.id


async def test_a_claim_that_is_not_looked_at_opens_all_and_one_that_is_missing_nothing(issuer: Issuer, moment: Time) -> None:
    missing = await find(Tokens(SETTINGS, issuer.fetch, moment.clock), signed())
    assert (missing.models, missing.endpoints, missing.role) == (frozenset(), frozenset(), "user")
    unasked = await find(Tokens(Jwt(issuer=ISSUER, audience="gateway"), issuer.fetch, moment.clock), signed(role="admin", team="a"))
    assert (unasked.models, unasked.endpoints, unasked.role, unasked.team) == (None, None, "user", None)


@pytest.mark.parametrize("team", [None, "a\0b", "", "a" * 201, 7, ["search"]])
async def test_who_has_no_team_escapes_no_budget(tokens: Tokens, team: Any) -> None:
    assert "claim 'team' is missing or wrong" in await refused(tokens, signed(team=team))


async def test_what_never_expires_is_looked_at_anew_all_the_same(tokens: Tokens) -> None:
    assert (await find(tokens, signed(exp=10**400))).expires_at == NOW + module.VERIFIED_TTL_S


async def test_what_is_no_unicode_is_no_name(tokens: Tokens) -> None:
    claims = b'{"iss":"https://login.example","aud":"gateway","exp":1760000600,"team":"%b","sub":"%b"}'
    assert "'team'" in await refused(tokens, truly_signed(RS256, claims % (b"\\ud800", b"ann")))
    assert "'sub'" in await refused(tokens, truly_signed(RS256, claims % (b"search", b"\\ud800")))


@pytest.mark.parametrize(
    ("roles", "role"),
    [("admin", "admin"), (["user", "admin"], "admin"), ("x auditor", "auditor"), (["Admin"], "user"), ({"admin": 1}, "user"), (7, "user")],
)
async def test_a_role_is_ours_to_the_letter(tokens: Tokens, roles: Any, role: str) -> None:
    assert (await find(tokens, signed(realm_access={"roles": roles}))).role == role


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"exp": int(NOW) - module.LEEWAY_S}, "expired"),
        ({"exp": None}, "'exp'"),
        ({"exp": "later"}, "'exp'"),
        ({"nbf": int(NOW) + 600}, "it is not valid yet"),
        ({"nbf": "later"}, "claim 'nbf' is missing or wrong"),
        ({"iss": "https://login.example.attacker"}, "'iss'"),
        ({"iss": None}, "'iss'"),
        ({"aud": "another"}, "'aud'"),
        ({"aud": None}, "'aud'"),
        ({"aud": {"gateway": 1}}, "'aud'"),
        ({"sub": None}, "'sub'"),
        ({"sub": ""}, "'sub'"),
        ({"sub": ["ann"]}, "'sub'"),
        ({"sub": "a\0b"}, "'sub'"),
        ({"sub": "a" * 201}, "'sub'"),
    ],
)
async def test_a_token_that_is_not_for_us_or_not_now_is_refused(tokens: Tokens, changes: dict[str, Any], said: str) -> None:
    assert said in await refused(tokens, signed(**changes))


def with_header(header: bytes, token: bytes) -> bytes:
    return b".".join([encoded(header), *token.split(b".")[1:]])


def with_other_claims(token: bytes) -> bytes:
    header, _, signature = token.split(b".")
    return b".".join([header, signed(sub="eve").split(b".")[1], signature])


def confused() -> bytes:
    """The public key as a shared secret: what a library that believes the token's `alg` would verify with."""
    head = with_header(b'{"alg":"HS256","kid":"rsa"}', signed()).rpartition(b".")[0]
    return head + b"." + encoded(hmac.digest(RSA.as_pem(private=False), head, "sha256"))


def truly_signed(header: bytes, claims: bytes | None = None) -> bytes:
    head = encoded(header) + b"." + (signed().split(b".")[1] if claims is None else encoded(claims))
    return head + b"." + encoded(RSA.get_op_key("sign").sign(head, PKCS1v15(), SHA256()))


def encoded(text: bytes) -> bytes:
    return base64.urlsafe_b64encode(text).rstrip(b"=")


async def test_a_signature_that_was_made_by_hand_counts(tokens: Tokens) -> None:
    """Or the tests below would prove nothing."""
    assert (await find(tokens, truly_signed(RS256[:-1] + b',"nonce":"of ours"}'))).name == "ann"


@pytest.mark.parametrize(
    "token",
    [
        signed(STRANGER),
        with_header(b'{"alg":"none","kid":"rsa"}', signed()),
        with_other_claims(signed()),
        confused(),
        signed(RSA, {"alg": "RS512"}),
        signed(EC, {"kid": "rsa"}),
        truly_signed(RS256[:-1] + b',"crit":["other"],"other":1}'),
    ],
    ids=["another's key", "unsigned", "other claims", "key confusion", "algorithm", "another kid", "crit"],
)
async def test_only_the_issuers_own_signature_counts(tokens: Tokens, token: bytes) -> None:
    assert tokens.has_form(token)
    assert "not accepted" in await refused(tokens, token)


TOKEN = signed()
_NAMES = st.sampled_from(["alg", "kid", "crit", "b64", "typ", "zip"])
_LEAVES = st.none() | st.booleans() | st.integers() | st.sampled_from(["RS256", "rsa", ""])
_HEADERS = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4), max_leaves=8)


@given(header=_HEADERS)
@example(header={"alg": "RS256", "kid": ["rsa"]})
@example(header={"alg": "RS256", "crit": "b64", "b64": False})
@example(header=["alg"])
@example(header="alg")
@example(header={"alg": "RS256", "x": msgspec.Raw(b"[" * 8000 + b"]" * 8000)})
def test_no_header_is_too_strange_to_be_refused(header: Any) -> None:
    token = with_header(msgspec.json.encode(header), TOKEN)
    with pytest.raises(Unauthenticated):
        asyncio.run(find(Tokens(SETTINGS, Issuer().fetch, Time().clock), token))


@given(st.from_regex(module._FORMAT.pattern.decode(), fullmatch=True) | st.text(st.sampled_from("eyJ.-_a0="), max_size=40))
def test_no_bytes_are_too_strange_to_be_refused(text: str) -> None:
    with pytest.raises(Unauthenticated):
        asyncio.run(find(Tokens(SETTINGS, Issuer().fetch, Time().clock), text.encode()))


# --- the issuer's keys ------------------------------------------------------------------------------------------------


async def test_the_issuers_keys_are_read_once_for_all(tokens: Tokens, issuer: Issuer) -> None:
    await asyncio.gather(*(find(tokens, signed(sub=f"user {number}")) for number in range(5)))
    assert issuer.read == ["/.well-known/openid-configuration", "/keys"]


async def test_a_new_signing_key_is_looked_for_but_seldom(tokens: Tokens, issuer: Issuer, moment: Time) -> None:
    await find(tokens, signed())
    new = ECKey.generate_key("P-256", {"kid": "new"})
    issuer.keys.append(new)
    for _ in range(3):
        assert "publishes no key" in await refused(tokens, signed(new))
    assert issuer.read.count("/keys") == 1
    moment.now += module.KEYS_RETRY_S
    assert (await find(tokens, signed(new))).name == "ann"
    assert issuer.read.count("/keys") == 2


async def test_while_the_issuer_is_down_its_keys_are_kept(tokens: Tokens, issuer: Issuer, moment: Time) -> None:
    issuer.down = True
    with pytest.raises(StoreDown) as down:
        await find(tokens, signed())
    assert down.value.status == 503
    issuer.down = False
    moment.now += module.KEYS_RETRY_S
    await find(tokens, signed())
    issuer.down = True
    moment.now += module.KEYS_TTL_S
    assert (await find(tokens, signed(sub="bob", exp=int(moment.now) + 600))).name == "bob"
    with pytest.raises(StoreDown):
        await find(tokens, signed(EC, {"kid": "new"}, exp=int(moment.now) + 600))


async def test_who_waits_for_the_keys_as_other_settings_come_is_told_so(issuer: Issuer, moment: Time) -> None:
    asked = asyncio.Event()

    async def never(url: str) -> bytes:
        asked.set()
        await asyncio.Event().wait()
        return b""

    tokens = Tokens(SETTINGS, never, moment.clock)
    finding = asyncio.create_task(find(tokens, signed()))
    await asked.wait()
    tokens.close()
    with pytest.raises(StoreDown):
        await finding


async def test_every_hour_the_keys_are_read_anew(tokens: Tokens, issuer: Issuer, moment: Time) -> None:
    await find(tokens, signed())
    issuer.keys.remove(RSA)
    moment.now += module.KEYS_TTL_S
    await find(tokens, signed(EC, exp=int(moment.now) + 600))
    for _ in range(5):
        await asyncio.sleep(0)
    assert issuer.read.count("/keys") == 2
    assert "publishes no key" in await refused(tokens, signed(exp=int(moment.now) + 600))


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"keys": []}', b'{"keys": [7]}', b'{"keys": [{"kty": "RSA"}]}', b"[" * 10_000])
async def test_an_issuer_that_publishes_nonsense_is_down(moment: Time, document: bytes) -> None:
    async def fetch(_: str) -> bytes:
        return document

    with pytest.raises(StoreDown):
        await find(Tokens(SETTINGS, fetch, moment.clock), signed())


async def test_the_operator_is_told_which_document_cannot_be_had(moment: Time) -> None:
    async def fetch(_: str) -> bytes:
        raise ConnectFailed("The model provider could not be reached.", detail="login.example:443: refused")

    settings = msgspec.structs.replace(SETTINGS, jwks_url=f"{ISSUER}/keys")
    with pytest.raises(StoreDown) as down:
        await find(Tokens(settings, fetch, moment.clock), signed())
    assert f"{ISSUER}/keys: ConnectFailed('login.example:443: refused')" in (down.value.detail or "")


async def test_an_issuer_of_another_name_is_not_believed(tokens: Tokens, issuer: Issuer) -> None:
    issuer.name = "https://login.example.attacker"
    with pytest.raises(StoreDown) as down:
        await find(tokens, signed())
    assert "calls itself" in (down.value.detail or "")
    assert issuer.read == ["/.well-known/openid-configuration"]


async def test_where_the_keys_are_can_be_configured(issuer: Issuer, moment: Time) -> None:
    settings = msgspec.structs.replace(SETTINGS, jwks_url=f"{ISSUER}/keys")
    assert (await find(Tokens(settings, issuer.fetch, moment.clock), signed())).name == "ann"
    assert issuer.read == ["/keys"]


# --- in the key ring --------------------------------------------------------------------------------------------------


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


SEARCH = Team("search", "Search", 1.0, Budget(usd=5))


@pytest_asyncio.fixture
async def ring(store: MemoryStore, issuer: Issuer, moment: Time) -> AsyncIterator[KeyRing]:
    await store.put_team(SEARCH)
    ring = KeyRing(store, moment.clock, auth=Auth(jwt=SETTINGS), fetch=issuer.fetch)
    yield ring
    await ring.close()


async def test_a_verified_token_is_told_from_memory_until_it_expires(ring: KeyRing, moment: Time) -> None:
    token = signed()
    assert ring.cached(token) is None
    assert ring.may_be_known(token)
    key = await ring.find(token)
    assert ring.cached(token) is key
    moment.now += 600 + module.LEEWAY_S
    assert ring.cached(token) is None
    with pytest.raises(Unauthenticated, match="expired"):
        await ring.find(token)


async def test_a_long_lived_token_is_verified_anew_after_a_while(ring: KeyRing, issuer: Issuer, moment: Time) -> None:
    token = signed(exp=int(NOW) + 10 * 86_400)
    await ring.find(token)
    issuer.keys.remove(RSA)
    moment.now += module.VERIFIED_TTL_S
    assert ring.cached(token) is None
    await ring.find(token)  # by the keys that are known; new ones are being read
    for _ in range(5):
        await asyncio.sleep(0)
    moment.now += module.VERIFIED_TTL_S
    with pytest.raises(Unauthenticated, match="publishes no key"):
        await ring.find(token)


async def test_verified_tokens_are_bounded(ring: KeyRing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VERIFIED_MAX", 2)
    shown = [signed(sub=f"user {number}") for number in range(4)]
    for token in shown:
        await ring.find(token)
    assert [ring.cached(token) is not None for token in shown] == [False, False, True, True]


async def test_other_settings_verify_anew_and_without_any_a_token_is_no_key(ring: KeyRing) -> None:
    token = signed()
    await ring.find(token)
    ring.configure(Auth(jwt=SETTINGS))
    assert ring.cached(token) is not None
    ring.configure(Auth(jwt=msgspec.structs.replace(SETTINGS, audience="another")))
    assert ring.cached(token) is None
    with pytest.raises(Unauthenticated, match="'aud'"):
        await ring.find(token)
    ring.configure(Auth())
    assert not ring.may_be_known(token)
    with pytest.raises(Unauthenticated, match="agw_"):
        await ring.find(token)


async def test_a_tokens_team_is_known_and_followed(ring: KeyRing, store: MemoryStore) -> None:
    await ring.find(signed())
    assert ring.team("search") == SEARCH
    await store.put_team(larger := Team("search", "Search", 1.0, Budget(usd=50)))
    await ring.refresh()
    assert ring.team("search") == larger


async def test_a_token_of_a_team_that_is_not_here_is_refused(ring: KeyRing, store: MemoryStore, moment: Time) -> None:
    token = signed(team="research")
    for _ in range(2):  # the second time from memory
        with pytest.raises(Forbidden, match="team 'research' does not exist here"):
            await ring.find(token)
    await store.put_team(Team("research", "Research", 1.0, Budget(usd=5)))
    moment.now += REFUSED_TTL_S
    assert (await ring.find(token)).team == "research"


async def test_a_team_that_is_gone_takes_its_tokens_with_it(ring: KeyRing, store: MemoryStore) -> None:
    token = signed()
    await ring.find(token)
    await store.delete_team("search")
    await ring.refresh()
    assert ring.cached(token) is None
    with pytest.raises(Forbidden, match="does not exist"):
        await ring.find(token)


async def test_a_token_needs_no_store(ring: KeyRing, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail() -> None:
        raise StoreDown("The store is down.")

    for name in ("list_teams", "keys_version"):
        monkeypatch.setattr(store, name, fail)
    token = signed(team="research")
    assert (await ring.find(token)).team == "research"
    assert ring.cached(token) is not None
    monkeypatch.undo()
    await ring.refresh()  # now it can be told that there is none
    assert ring.cached(token) is None


async def test_a_log_in_with_a_token_holds_in_every_process(ring: KeyRing, store: MemoryStore, issuer: Issuer, moment: Time) -> None:
    logins = Logins(store, ring, moment.clock)
    secret = signed(realm_access={"roles": ["admin"]})
    token, begun = await logins.begin(secret, await logins.check(secret))
    elsewhere = KeyRing(store, moment.clock, auth=Auth(jwt=SETTINGS), fetch=issuer.fetch)
    assert await Logins(store, elsewhere, moment.clock).find(token) == begun
    kept = await store.list_values("login", moment.now)
    assert not any(part in body for body in kept.values() for part in secret.split(b"."))
    elsewhere.configure(Auth(jwt=msgspec.structs.replace(SETTINGS, audience="another")))
    with pytest.raises(Unauthenticated, match="Log in again"):
        await Logins(store, elsewhere, moment.clock).find(token)
    await elsewhere.close()


def test_who_has_no_tokens_does_not_pay_for_them() -> None:
    program = "import sys, agent_gateway.admission.keys; print(sorted({'joserfc', 'cryptography'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
