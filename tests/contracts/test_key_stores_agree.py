"""Whatever is done to keys in whatever order, every store answers as the one in memory does."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_gateway.core.errors import GatewayError
from agent_gateway.core.settings import Budget
from agent_gateway.stores.backends.memory import MemoryStore
from agent_gateway.stores.base import Key, Store, Team, open_store
from tests.stores.stores import SHARED_KINDS, fresh_url

_FEW = st.integers(0, 2)
_TIMES = st.sampled_from([1.5, 2.0, 300.25])
#: As random as real ones, so that none is met twice.
_SECRETS = st.binary(min_size=16, max_size=16)
_KEYS = st.fixed_dictionaries(
    {
        "name": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5),
        "models": st.none() | st.frozensets(st.sampled_from("ab")),
        "created_at": _TIMES,
        "expires_at": st.none() | _TIMES,
        "role": st.sampled_from(["user", "auditor", "admin"]),
        "endpoints": st.none() | st.frozensets(st.sampled_from(["/a", "/b*"])),
        "team": st.none() | _FEW,
        "budget": st.none() | st.builds(Budget, usd=st.sampled_from([0.1, 5.0]), per=st.sampled_from(["day", "total"])),
        "metadata": st.none() | st.just(b'{"a":1}'),
    }
)
#: What is done, and with what: names of keys and teams are numbers.
_STEPS = st.one_of(
    st.tuples(st.just("create_key"), _FEW, _KEYS, _SECRETS),
    st.tuples(st.just("update_key"), _FEW, _KEYS),
    st.tuples(st.just("rotate_key"), _FEW, _SECRETS, _TIMES),
    st.tuples(st.just("revoke_key"), _FEW, _TIMES),
    st.tuples(st.just("find_key"), _FEW),
    st.tuples(st.just("put_team"), _FEW, _TIMES),
    st.tuples(st.just("delete_team"), _FEW),
    st.tuples(st.just("list_keys"), _FEW, st.integers(1, 3), st.none() | _FEW),
)


async def _do(store: Store, space: str, step: tuple[Any, ...]) -> Any:
    """In the given one of many spaces of names, which share the store."""
    match step:
        case "create_key", number, fields, secret:
            return await store.create_key(_key(space, number, fields), secret + space.encode())
        case "update_key", number, fields:
            return await store.update_key(_key(space, number, fields))
        case "rotate_key", number, secret, until:
            return await store.rotate_key(f"{space}{number}", secret + space.encode(), previous_until=until)
        case "revoke_key", number, at:
            return await store.revoke_key(f"{space}{number}", at)
        case "find_key", number:
            return await store.find_key(f"{space}{number}")
        case "put_team", number, at:
            return await store.put_team(Team(f"{space}{number}", "a team", at))
        case "delete_team", number:
            return await store.delete_team(f"{space}{number}")
        case "list_keys", number, limit, cursor:
            after = None if cursor is None else f"{space}{cursor}"
            return await store.list_keys(limit=limit, cursor=after, team=f"{space}{number}")
    raise AssertionError(step)


def _key(space: str, number: int, fields: dict[str, Any]) -> Key:
    team = fields["team"]
    return Key(id=f"{space}{number}", **{**fields, "team": None if team is None else f"{space}{team}"})


async def _answer(store: Store, space: str, step: tuple[Any, ...]) -> tuple[Any, bool]:
    """Or the class of the refusal; and whether the version says that something changed."""
    before = await store.keys_version()
    try:
        answer = await _do(store, space, step)
    except GatewayError as error:
        answer = type(error)
    return answer, await store.keys_version() != before


async def _agree(store: Store, space: str, steps: list[tuple[Any, ...]]) -> None:
    oracle: Any = MemoryStore()
    secrets = [value + space.encode() for step in steps for value in step if isinstance(value, bytes)]
    for step in steps:
        answer, changed = await _answer(store, space, step)
        expected, expected_changed = await _answer(oracle, space, step)
        assert answer == expected
        assert changed >= expected_changed, "a change that nobody learns of"
        assert await store.find_keys(secrets) == await oracle.find_keys(secrets)


@pytest.mark.parametrize("kind", SHARED_KINDS)
def test_stores_agree(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        url = runner.run(fresh_url(kind, request.config, tmp_path))
        store = open_store(url)
        spaces = count()

        @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(steps=st.lists(_STEPS, min_size=1, max_size=15))
        def agree(steps: list[tuple[Any, ...]]) -> None:
            runner.run(_agree(store, f"space {next(spaces)} ", steps))

        try:
            agree()
        finally:
            runner.run(store.close())
