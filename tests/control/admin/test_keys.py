"""Keys and teams by HTTP's words: made, shown, changed, rotated, revoked; every step in the audit log before it takes effect."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import Any

import pytest

from agent_gateway.admission.budgets import period_of
from agent_gateway.core.errors import BadRequest, Conflict, Forbidden, GatewayError, NotFound, StoreDown
from agent_gateway.stores.base import AuditStore
from tests.control.admin.conftest import AUDITOR, NOW, Stage

WHOLE = {
    "name": "search",
    "role": "auditor",
    "models": ["chat"],
    "endpoints": ["/v1/chat/completions", "/v1/responses*"],
    "owner": "ann",
    "expires_at": "2025-12-01T00:00:00Z",
    "requests_per_minute": 60,
    "tokens_per_minute": 1000,
    "max_parallel": 2,
    "budget": {"usd": 5, "per": "day", "soft": 0.5},
    "metadata": {"cost centre": 7},
}


async def made(stage: Stage, **fields: Any) -> Any:
    status, key = await stage.ask("POST", "keys", {"name": "a", **fields})
    assert status == 201
    return key


async def refused(stage: Stage, method: str, path: str, body: Any = b"", **query: str) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await stage.ask(method, path, body, query)
    return caught.value


async def test_a_key_is_made_and_its_secret_shown_once(stage: Stage) -> None:
    key = await made(stage, **WHOLE)
    assert key["key"].startswith(f"agw_{key['id']}_")
    kept = await stage.store.find_keys([sha256(key["key"].encode()).digest()])
    assert [known.id for known in kept.values()] == [key["id"]]
    shown = await stage.get(f"keys/{key['id']}")
    assert {name: shown[name] for name in WHOLE} == {**WHOLE, "expires_at": "2025-12-01T00:00:00.000Z"}
    assert shown["state"] == "active"
    assert shown["spent"] == {"usd": 0.0, "of_usd": 5.0, "per": "day", "resets_at": "2025-10-10T00:00:00.000Z"}
    assert "key" not in shown


async def test_the_list_is_told_page_by_page_and_by_team(stage: Stage) -> None:
    await stage.ask("POST", "teams", {"id": "blue"})
    ids = [(await made(stage, name=f"key {number}", **({"team": "blue"} if number % 2 else {})))["id"] for number in range(5)]
    seen, cursor = [], None
    while True:
        page = await stage.get("keys", limit="2", **({"cursor": cursor} if cursor else {}))
        seen += [key["id"] for key in page["data"]]
        if (cursor := page["next"]) is None:
            break
    assert sorted(seen) == sorted(ids)
    assert {key["id"] for key in (await stage.get("keys", team="blue"))["data"]} == {ids[1], ids[3]}


async def test_what_was_spent_in_the_period_is_shown(stage: Stage) -> None:
    own = await made(stage, budget={"usd": 5, "per": "day"})
    common = await made(stage)
    day, month = period_of("day", NOW)[0], period_of("month", NOW)[0]
    await stage.store.add_spend({(f"key:{own['id']}", day): 1.5, (f"key:{own['id']}", month): 9.0, (f"key:{common['id']}", month): 2.5})
    spent = {key["id"]: key["spent"] for key in (await stage.get("keys"))["data"]}
    assert spent[own["id"]] == {"usd": 1.5, "of_usd": 5.0, "per": "day", "resets_at": "2025-10-10T00:00:00.000Z"}
    assert spent[common["id"]] == {"usd": 2.5, "of_usd": 100.0, "per": "month", "resets_at": "2025-11-01T00:00:00.000Z"}


async def test_a_change_leaves_what_it_does_not_name(stage: Stage) -> None:
    key = await made(stage, **WHOLE)
    _, changed = await stage.ask("PATCH", f"keys/{key['id']}", {"models": None, "max_parallel": 9})
    assert (changed["models"], changed["max_parallel"], changed["budget"]) == (None, 9, WHOLE["budget"])
    _, same = await stage.ask("PATCH", f"keys/{key['id']}", {})
    assert same == changed


async def test_a_rotated_key_has_a_new_secret_and_the_old_one_for_a_while(stage: Stage) -> None:
    key = await made(stage)
    _, rotated = await stage.ask("POST", f"keys/{key['id']}/rotate", {"overlap_s": 60})
    assert rotated["key"] != key["key"]
    assert rotated["previous_until"] == "2025-10-09T08:56:00.000Z"
    _, again = await stage.ask("POST", f"keys/{key['id']}/rotate")
    assert again["previous_until"] == "2025-10-10T08:55:00.000Z", "a day, where nothing is said"


@pytest.mark.parametrize(("method", "path"), [("POST", "keys/{}/revoke"), ("DELETE", "keys/{}")])
async def test_a_revoked_key_stays_so(stage: Stage, method: str, path: str) -> None:
    key = await made(stage)
    _, revoked = await stage.ask(method, path.format(key["id"]))
    assert (revoked["state"], revoked["revoked_at"]) == ("revoked", "2025-10-09T08:55:00.000Z")
    _, again = await stage.ask(method, path.format(key["id"]))
    assert again == revoked
    assert isinstance(await refused(stage, "POST", f"keys/{key['id']}/rotate"), Conflict)
    assert isinstance(await refused(stage, "PATCH", f"keys/{key['id']}", {"name": "b"}), Conflict)
    assert [entry["action"] for entry in await stage.entries()] == ["keys.revoke", "keys.create"], "what changed nothing is not in it"


async def test_every_step_is_in_the_audit_log_without_a_secret(stage: Stage) -> None:
    key = await made(stage, **WHOLE)
    _, rotated = await stage.ask("POST", f"keys/{key['id']}/rotate")
    await stage.ask("PATCH", f"keys/{key['id']}", {"owner": "bob"})
    await stage.ask("DELETE", f"keys/{key['id']}")
    entries = await stage.entries()
    assert [entry["action"] for entry in entries] == ["keys.revoke", "keys.update", "keys.rotate", "keys.create"]
    update = entries[1]
    assert (update["before"]["owner"], update["after"]["owner"]) == ("ann", "bob")
    assert update["actor"] == {"id": "admin", "name": "admin key", "role": "admin"}
    assert (update["source"], update["request_id"], update["target"]) == ("10.0.0.1", "req_1", key["id"])
    for secret in (key["key"], rotated["key"]):
        assert secret.rpartition("_")[2] not in str(entries)


async def test_what_the_log_cannot_take_does_not_happen(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    key = await made(stage)

    async def fail(*_: object) -> None:
        raise StoreDown("The store is down.")

    monkeypatch.setattr(stage.store, AuditStore.append_audit.__name__, fail)
    for method, path, body in (
        ("POST", "keys", {"name": "b"}),
        ("PATCH", f"keys/{key['id']}", {"name": "b"}),
        ("POST", f"keys/{key['id']}/rotate", {}),
        ("DELETE", f"keys/{key['id']}", b""),
        ("POST", "teams", {"id": "blue"}),
        ("DELETE", "users/ann", b""),
    ):
        assert (await refused(stage, method, path, body)).status == 503
    (only,) = (await stage.get("keys"))["data"]
    assert (only["name"], only["state"], only["previous_until"]) == ("a", "active", None)
    assert (await stage.get("teams"))["data"] == []


@pytest.mark.parametrize(
    ("body", "param", "text"),
    [
        ({}, "name", "name: is missing."),
        ({"name": ""}, "name", "name: expected str of length >= 1."),
        ({"name": 5}, "name", "name: expected str, got int."),
        ({"name": "a", "modles": []}, "modles", "modles: is not known; here there are name, role,"),
        ({"name": "a", "role": "root"}, "role", "role: invalid enum value 'root'; there are admin, auditor, user."),
        ({"name": "a", "budget": {"usd": 1, "per": "hour"}}, "budget.per", "budget.per: invalid enum value 'hour'; there are day, month,"),
        ({"name": "a", "budget": {"usd": -1}}, "budget.usd", "budget.usd: expected float > 0.0."),
        ({"name": "a", "budget": {"usd": 1, "each": "day"}}, "budget.each", "budget.each: is not known."),
        ({"name": "a", "models": ["x", 5]}, "models[1]", "models[1]: expected str, got int."),
        ({"name": "a", "endpoints": ["v1"]}, "endpoints[0]", "endpoints[0]: expected a path that begins with /"),
        ({"name": "a", "expires_at": "soon"}, "expires_at", "expires_at: expected a moment"),
        ({"name": "a", "expires_at": "2020-01-01"}, "expires_at", "expires_at: '2020-01-01' is over already."),
        ({"name": "a", "team": "none"}, "team", "team: there is no team 'none'"),
        ({"name": "a", "metadata": {"a": "b" * 5000}}, "metadata", "metadata: is over 4096 bytes."),
        (b"{", None, "The body is not JSON that can be read"),
        (b"", None, "The body is not JSON that can be read"),
        (b'{"name":"\xff"}', None, "The body is not valid UTF-8."),
    ],
)
async def test_a_body_that_is_wrong_is_refused_by_its_field(stage: Stage, body: Any, param: str | None, text: str) -> None:
    error = await refused(stage, "POST", "keys", body)
    assert isinstance(error, BadRequest)
    assert error.message.startswith(text)
    assert error.param == param
    assert await stage.entries() == []


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"limit": "0"}, "limit: expected int >= 1."),
        ({"limit": "101"}, "limit: expected int <= 100."),
        ({"limit": "many"}, "limit: expected int, got str."),
        ({"page": "2"}, "page: is not known; it takes limit, cursor, team."),
    ],
)
async def test_a_query_that_is_wrong_is_refused_by_its_name(stage: Stage, query: dict[str, str], text: str) -> None:
    error = await refused(stage, "GET", "keys", **query)
    assert isinstance(error, BadRequest)
    assert (error.message, error.param) == (text, next(iter(query)))


async def test_a_cursor_that_was_never_given_is_refused(stage: Stage) -> None:
    assert (await refused(stage, "GET", "keys", cursor="nonsense")).param == "cursor"


async def test_an_auditor_reads_and_changes_nothing(stage: Stage) -> None:
    for route in stage.api.routes:
        path = route.path.replace("{id}", "none").replace("{request_id}", "none")
        if route.role == "anyone" or route.media != "application/json":
            continue  # nobody's role is looked at; and what comes in pieces begins only as they are asked for
        if route.role == "admin":
            with pytest.raises(Forbidden):
                await stage.ask(route.method, path, key=AUDITOR)
        else:
            assert route.method == "GET"
            try:
                await stage.ask(route.method, path, key=AUDITOR)
            except NotFound:
                assert "{" in route.path or route.path == "audit/head"
    assert await stage.entries() == []


async def test_two_changes_at_once_are_both_made(stage: Stage) -> None:
    key = await made(stage)
    changes: list[dict[str, Any]] = [{"name": "b"}, {"models": []}, {"owner": "ann"}]
    await asyncio.gather(*[stage.ask("PATCH", f"keys/{key['id']}", change) for change in changes])
    shown = await stage.get(f"keys/{key['id']}")
    assert (shown["name"], shown["models"], shown["owner"]) == ("b", [], "ann")
    teams = await asyncio.gather(*[stage.ask("POST", "teams", {"id": "red"}) for _ in range(3)], return_exceptions=True)
    assert sorted(isinstance(answer, Conflict) for answer in teams) == [False, True, True]
    changes = [{"name": "Red"}, {"budget": {"usd": 1, "per": "day"}}]
    await asyncio.gather(*[stage.ask("PATCH", "teams/red", change) for change in changes])
    red = await stage.get("teams/red")
    assert (red["name"], red["budget"]["usd"]) == ("Red", 1)


# --- teams


async def test_a_teams_id_is_told_what_it_may_be(stage: Stage) -> None:
    error = await refused(stage, "POST", "teams", {"id": "the blue ones"})
    assert str(error) == "id: expected up to 64 letters, digits and . _ -, a letter or digit first."


async def test_a_teams_life(stage: Stage) -> None:
    status, team = await stage.ask("POST", "teams", {"id": "blue", "budget": {"usd": 10}})
    assert (status, team["name"]) == (201, "blue")
    assert isinstance(await refused(stage, "POST", "teams", {"id": "blue"}), Conflict)
    await stage.store.add_spend({("team:blue", period_of("month", NOW)[0]): 4.0})
    assert (await stage.get("teams/blue"))["spent"]["usd"] == 4.0
    _, changed = await stage.ask("PATCH", "teams/blue", {"name": "Blue", "budget": None})
    assert (changed["name"], changed["budget"], changed["created_at"]) == ("Blue", None, team["created_at"])
    key = await made(stage, team="blue")
    assert isinstance(await refused(stage, "DELETE", "teams/blue"), Conflict)
    await stage.ask("DELETE", f"keys/{key['id']}")
    await stage.ask("DELETE", "teams/blue")
    assert isinstance(await refused(stage, "GET", "teams/blue"), NotFound)
    told = [(entry["action"], entry["outcome"]) for entry in await stage.entries() if entry["action"].startswith("teams")]
    assert told == [
        ("teams.delete", "allowed"),
        ("teams.delete", "failed"),
        ("teams.delete", "allowed"),
        ("teams.update", "allowed"),
        ("teams.create", "allowed"),
    ]


async def test_teams_are_told_page_by_page(stage: Stage) -> None:
    for name in ("c", "a", "b"):
        await stage.ask("POST", "teams", {"id": name})
    first = await stage.get("teams", limit="2")
    rest = await stage.get("teams", limit="2", cursor=first["next"])
    assert [team["id"] for team in first["data"] + rest["data"]] == ["a", "b", "c"]
    assert rest["next"] is None


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "a" * 65, "ä"])
async def test_a_team_without_a_plain_id_is_refused(stage: Stage, name: str) -> None:
    assert (await refused(stage, "POST", "teams", {"id": name})).param == "id"
