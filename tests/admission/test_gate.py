"""The gate: which key may use which model, where, and what of the admin API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import Any, get_args

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.admission.gate import LAST_WORD_S, Gate
from agent_gateway.admission.keys import ADMIN, GATEWAY, PLAYGROUND, KeyRing, create_key
from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.clock import SYSTEM_CLOCK, new_request_id
from agent_gateway.core.errors import Forbidden, StoreDown, Unauthenticated, UnknownModel
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.route import Route
from agent_gateway.core.settings import Auth, Limits
from agent_gateway.edge.routes import MODEL_PATHS, dialect_of
from agent_gateway.stores.backends.memory import MemoryStore
from agent_gateway.stores.base import Key, Role

ROUTES = {name: Route(name=name, deployments=()) for name in ("small", "large")}
LIMITS = Limits(requests_per_minute=7)
ADMIN_KEY = "sk-admin"
ROLES: tuple[Role, ...] = get_args(Role)


class Limiter:
    """Notes what it is asked for; the real one is tested by itself."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, Limits]] = []

    def reserve(self, exchange: Exchange, route: Route, key: Key | None, limits: Limits) -> Awaitable[None] | None:
        self.asked.append((key, limits))
        return None


class Place:
    def __init__(self, *, key_required: bool = True, admin_open: bool = False) -> None:
        self.store = MemoryStore()
        self.limiter = Limiter()
        self.keys = KeyRing(self.store, auth=Auth(admin_key=None if admin_open else ADMIN_KEY))
        limiter: Any = self.limiter
        self.gate = Gate(
            ROUTES.get, ROUTES, self.keys, limiter, limits=LIMITS, key_required=key_required, admin_open=admin_open
        )


@pytest_asyncio.fixture
async def place() -> AsyncIterator[Place]:
    place = Place()
    yield place
    await place.keys.close()


def asking(key: Key | None = None, model: str = "small", dialect: Dialect = "openai_chat", **fields: Any) -> Exchange:
    call = Call(dialect=dialect, model=model, body=b"{}", **fields)
    return Exchange(id=new_request_id(1.0), call=call, started=100.0, started_wall=1.0, key=key)


async def test_who_shows_no_key_is_told_where_to_show_it(place: Place) -> None:
    with pytest.raises(Unauthenticated, match=r"Authorization: Bearer …`, `x-api-key: …` or `x-goog-api-key: …`.*\?key="):
        place.gate.check_shown(None)


# --- models and endpoints ---------------------------------------------------------------------------------------------


async def test_a_request_is_let_in_with_its_route_and_its_deadline(place: Place) -> None:
    exchange = asking()
    route = place.gate.admit(exchange)
    assert route is exchange.route is ROUTES["small"]
    assert exchange.deadline == 100.0 + route.timeouts.total_s - LAST_WORD_S
    exchange = asking()
    exchange.timeout_s = 0.5
    place.gate.admit(exchange)
    assert exchange.deadline == pytest.approx(100.45)


async def test_an_unknown_model_is_told_only_to_who_may_ask_for_it(place: Place) -> None:
    with pytest.raises(UnknownModel):
        place.gate.admit(asking(Key("a", "a"), "none"))
    for model in ("large", "none"):
        with pytest.raises(Forbidden, match="may not use the model"):
            place.gate.admit(asking(Key("a", "a", frozenset({"small"})), model))


async def test_models_that_a_key_may_not_use_are_not_listed(place: Place) -> None:
    assert place.gate.visible_models(asking()) == ["large", "small"]
    assert place.gate.visible_models(asking(Key("a", "a", frozenset({"small", "other"})))) == ["small"]
    assert place.gate.visible_models(asking(Key("a", "a", frozenset()))) == []


@pytest.mark.parametrize(("path", "dialect"), MODEL_PATHS.items())
async def test_a_keys_endpoints_hold_on_every_model_route(place: Place, path: bytes, dialect: Dialect) -> None:
    here = frozenset({path.decode()})
    elsewhere = frozenset(known.decode() for known in MODEL_PATHS if known != path) | {"/v1beta/models/*"}
    place.gate.admit(asking(Key("a", "a", endpoints=here), dialect=dialect))
    with pytest.raises(Forbidden, match=path.decode()):
        place.gate.admit(asking(Key("a", "a", endpoints=elsewhere), dialect=dialect))


@pytest.mark.parametrize("stream", [False, True])
async def test_geminis_path_is_one_that_the_edge_knows(place: Place, stream: bool) -> None:
    exchange = asking(Key("a", "a", endpoints=frozenset({"/v1beta/models/small:*"})), dialect="gemini", stream=stream)
    assert dialect_of(exchange.call.path.encode()) == "gemini"
    place.gate.admit(exchange)
    with pytest.raises(Forbidden):
        place.gate.admit(asking(exchange.key, "large", "gemini", stream=stream))


@pytest.mark.parametrize(
    ("endpoint", "path", "may"),
    [
        ("/v1/models", "/v1/models", True),
        ("/v1/models", "/v1/models/", True),
        ("/v1/models/", "/v1/models", True),
        ("/v1/models", "/v1/models/small", False),
        ("/v1/models*", "/v1/models/small", True),
        ("/v1/models/*", "/v1/models", False),
        ("/v1/models", "/v1/model", False),
        ("/v1/models", "/V1/MODELS", False),
        ("*", "/anything", True),
    ],
)
async def test_an_endpoint_is_a_path_or_how_paths_begin(place: Place, endpoint: str, path: str, may: bool) -> None:
    exchange = asking(Key("a", "a", endpoints=frozenset({"/other", endpoint})))
    if may:
        place.gate.check_endpoint(exchange, path)
    else:
        with pytest.raises(Forbidden):
            place.gate.check_endpoint(exchange, path)


async def test_without_a_scope_every_place_is_open(place: Place) -> None:
    for key in (None, ADMIN, Key("a", "a")):
        place.gate.check_endpoint(asking(key), "/anything")


_PATHS = st.text(st.sampled_from("/ab*."), max_size=8)


@given(endpoints=st.frozensets(_PATHS, max_size=4), path=_PATHS)
def test_only_what_an_endpoint_spells_out_is_open(endpoints: frozenset[str], path: str) -> None:
    gate: Any = object.__new__(Gate)
    try:
        gate.check_endpoint(asking(Key("a", "a", endpoints=endpoints)), path)
    except Forbidden:
        return
    there = path.rstrip("/")
    assert any(there == each.rstrip("/") or (each[-1:] == "*" and there[: len(each) - 1] == each[:-1]) for each in endpoints)


# --- limits -----------------------------------------------------------------------------------------------------------


async def test_limits_are_the_configurations_but_for_the_admin_key_and_the_gateways_own_calls(place: Place) -> None:
    for key in (None, Key("a", "a"), Key("b", "b", role="admin"), PLAYGROUND, ADMIN, GATEWAY):
        assert place.gate.reserve(asking(key), ROUTES["small"]) is None
    assert [limits for _, limits in place.limiter.asked] == [LIMITS, LIMITS, LIMITS, LIMITS, Limits(), Limits()]


# --- roles ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("writes", [False, True])
@pytest.mark.parametrize("admin_open", [False, True])
@pytest.mark.parametrize("role", [None, *ROLES])
def test_the_admin_api_by_role(role: Role | None, admin_open: bool, writes: bool) -> None:
    gate = Place(admin_open=admin_open).gate
    exchange = asking(None if role is None else Key("a", "a", role=role))
    may = {None: admin_open, "user": False, "auditor": not writes, "admin": True}[role]
    if may:
        gate.admit_admin(exchange, writes=writes)
    else:
        with pytest.raises(Unauthenticated if role is None else Forbidden):
            gate.admit_admin(exchange, writes=writes)


# --- whose key it is --------------------------------------------------------------------------------------------------


async def shown(place: Place, secret: str | None) -> Key | None:
    exchange = asking()
    waiting = place.gate.authenticate(exchange, None if secret is None else secret.encode())
    if waiting is not None:
        await waiting
    key: Key | None = exchange.key
    return key


UNKNOWN = "agw_abcdefghijkl_" + "x" * 43


async def test_who_needs_a_key_shows_one(place: Place) -> None:
    key, secret = await create_key(place.store, "agent")
    assert await shown(place, secret) == key
    assert await shown(place, ADMIN_KEY) is ADMIN
    for wrong in (None, "sk-of-a-provider", UNKNOWN):
        with pytest.raises(Unauthenticated):
            await shown(place, wrong)
    await place.store.revoke_key(key.id, SYSTEM_CLOCK.wall())
    await place.keys.refresh()
    with pytest.raises(Unauthenticated, match="revoked"):
        await shown(place, secret)


async def test_before_a_body_is_read_only_its_form_is_looked_at(place: Place) -> None:
    place.gate.check_shown(UNKNOWN.encode())
    place.gate.check_shown(ADMIN_KEY.encode())
    for wrong in (None, b"sk-of-a-provider"):
        with pytest.raises(Unauthenticated):
            place.gate.check_shown(wrong)


@pytest.mark.parametrize("admin_open", [False, True])
async def test_where_none_is_needed_a_key_is_what_it_says_and_others_are_ignored(admin_open: bool) -> None:
    place = Place(key_required=False, admin_open=admin_open)
    key, secret = await create_key(place.store, "agent", models=frozenset({"small"}))
    assert await shown(place, secret) == key
    for ignored in (None, "sk-of-a-provider", UNKNOWN, "agw_short"):
        assert await shown(place, ignored) is None
    assert await shown(place, ADMIN_KEY) is (None if admin_open else ADMIN)
    await place.keys.close()


async def test_a_store_that_is_down_is_no_wrong_key(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_: object) -> None:
        raise StoreDown("The store is down.")

    monkeypatch.setattr(place.store, "find_keys", fail)
    with pytest.raises(StoreDown):
        await shown(place, UNKNOWN)
