"""Who may do what: every path of the gateway, asked with every kind of key; and the admin API as an operator uses it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from agent_gateway.admission.keys import new_key
from agent_gateway.stores.base import open_store
from tests.journeys.conftest import Launch, one_edge
from tests.kit import replies, samples
from tests.kit.client import CHAT, Reply, ask, chat, connect, request
from tests.kit.eventually import PATIENCE_S, eventually
from tests.kit.gateway import Gateway
from tests.kit.provider import ScriptedProvider

ADMIN_KEY = "sk-admin-0123456789abcdef"
#: All that anybody may ask. Whatever is served beside these wants a key.
OPEN = {"/health/live", "/health/ready", "/metrics", "/openapi.json"}
#: Those who may use the models; of the admin API they may do what their role says.
ROLES = ("user", "auditor", "admin", "the admin key")
#: Keys that are none, or none any more.
REFUSED = ("none", "wrong", "malformed", "expired", "revoked", "rotated away")
#: What somebody who may is told where it is asked without what it needs: of a place that is not there, or with an empty body.
ALLOWED = {
    "POST /v1/chat/completions": 400,
    "POST /v1/completions": 400,
    "POST /v1/embeddings": 400,
    "POST /v1/responses": 400,
    "POST /v1/messages": 400,
    "POST /v1/messages/count_tokens": 400,
    "POST /v1beta/models/{model}:generateContent": 400,
    "POST /v1beta/models/{model}:streamGenerateContent": 400,
    "POST /v1/models/{model}:generateContent": 400,
    "POST /v1/models/{model}:streamGenerateContent": 400,
    "POST /v1beta/tunedModels/{model}:generateContent": 400,
    "POST /v1beta/tunedModels/{model}:streamGenerateContent": 400,
    "POST /v1/tunedModels/{model}:generateContent": 400,
    "POST /v1/tunedModels/{model}:streamGenerateContent": 400,
    "GET /v1/chat/completions": 101,
    "GET /v1/models": 200,
    "GET /v1/models/{model}": 404,
    "GET /v1beta/models": 200,
    "GET /v1beta/models/{model}": 404,
    "GET /v1/responses/{response_id}": 404,
    "DELETE /v1/responses/{response_id}": 404,
    "POST /v1/responses/{response_id}/cancel": 404,
    "GET /v1/responses/{response_id}/input_items": 404,
    "POST /v1/conversations": 200,
    "GET /v1/conversations/{conversation_id}": 404,
    "POST /v1/conversations/{conversation_id}": 400,
    "DELETE /v1/conversations/{conversation_id}": 404,
    "GET /v1/conversations/{conversation_id}/items": 404,
    "POST /v1/conversations/{conversation_id}/items": 400,
    "GET /v1/conversations/{conversation_id}/items/{item_id}": 404,
    "DELETE /v1/conversations/{conversation_id}/items/{item_id}": 404,
    "GET /v1/sessions": 200,
    "POST /v1/feedback": 400,
    "GET /v1/sessions/{session_id}": 404,
    "DELETE /v1/sessions/{session_id}": 404,
    "GET /v1/streams/{request_id}": 404,
    "GET /v1/files": 200,
    "POST /v1/files": 415,
    "GET /v1/files/{file_id}": 404,
    "GET /v1/files/{file_id}/content": 404,
    "DELETE /v1/files/{file_id}": 404,
    "GET /v1/batches": 200,
    "POST /v1/batches": 400,
    "GET /v1/batches/{batch_id}": 404,
    "POST /v1/batches/{batch_id}/cancel": 404,
    "POST /v1/batch": 400,
}
#: The same of the admin API: for everybody, for those who may read, and for those who may change.
ANYONE = {
    "GET /admin/v1/login": 200,
    "POST /admin/v1/login": 400,
    "DELETE /admin/v1/login": 200,
}
READS = {
    "GET /admin/v1/live": 200,
    "GET /admin/v1/now": 200,
    "GET /admin/v1/keys": 200,
    "GET /admin/v1/keys/{id}": 404,
    "GET /admin/v1/teams": 200,
    "GET /admin/v1/teams/{id}": 404,
    "GET /admin/v1/usage": 200,
    "GET /admin/v1/figures": 200,
    "GET /admin/v1/feedback": 200,
    "GET /admin/v1/routes": 200,
    "GET /admin/v1/records": 200,
    "GET /admin/v1/records/{request_id}": 404,
    "GET /admin/v1/slo": 200,
    "GET /admin/v1/alerts": 200,
    "GET /admin/v1/sessions": 200,
    "GET /admin/v1/sessions/{id}": 404,
    "GET /admin/v1/replays": 200,
    "GET /admin/v1/replays/{id}": 404,
    "GET /admin/v1/batches": 200,
    "GET /admin/v1/batches/{id}": 404,
    "GET /admin/v1/batches/{id}/output": 404,
    "GET /admin/v1/batches/{id}/errors": 404,
    "GET /admin/v1/audit": 200,
    "GET /admin/v1/audit/head": 200,
    "GET /admin/v1/config": 200,
}
CHANGES = {
    "PUT /admin/v1/deployments/{id}": 400,
    "DELETE /admin/v1/sessions/{id}": 404,
    "POST /admin/v1/playground": 400,
    "POST /admin/v1/keys": 400,
    "PATCH /admin/v1/keys/{id}": 404,
    "POST /admin/v1/keys/{id}/rotate": 404,
    "POST /admin/v1/keys/{id}/revoke": 404,
    "DELETE /admin/v1/keys/{id}": 404,
    "POST /admin/v1/teams": 400,
    "PATCH /admin/v1/teams/{id}": 404,
    "DELETE /admin/v1/teams/{id}": 404,
    "POST /admin/v1/replays": 400,
    "DELETE /admin/v1/replays/{id}": 404,
    "POST /admin/v1/batches/{id}/cancel": 404,
    "POST /admin/v1/alerts/{id}/silence": 404,
    "DELETE /admin/v1/users/{id}": 200,
}

UPGRADE = {
    "upgrade": "websocket",
    "connection": "Upgrade",
    "sec-websocket-version": "13",
    "sec-websocket-key": "MDEyMzQ1Njc4OTAxMjM0NQ==",
}


@pytest.fixture
def gateway(launch: Launch, provider: ScriptedProvider) -> Gateway:
    provider.reply(replies.whole(samples.COMPLETION))
    return launch(auth={"admin_key": ADMIN_KEY})


def shown(key: str | None) -> dict[str, str]:
    return {"authorization": "" if key is None else f"Bearer {key}"}


async def administer(gateway: Gateway, method: str, path: str, body: Any = None, key: str = ADMIN_KEY) -> Reply:
    return await ask(gateway.url, f"/admin/v1/{path}", body, method=method, headers=shown(key))


async def made(gateway: Gateway, **fields: Any) -> Any:
    reply = await administer(gateway, "POST", "keys", {"name": "a", **fields})
    assert reply.status == 201, reply.body
    return reply.json


async def every_key(gateway: Gateway) -> dict[str, str | None]:
    """By what it is."""
    keys: dict[str, str | None] = {"none": None, "malformed": "sk-client", "the admin key": ADMIN_KEY}
    keys["wrong"] = f"agw_{'a' * 12}_{'b' * 43}"
    for role in ("user", "auditor", "admin"):
        keys[role] = (await made(gateway, role=role))["key"]
    revoked, rotated = await made(gateway, role="admin"), await made(gateway, role="admin")
    await administer(gateway, "POST", f"keys/{revoked['id']}/revoke", {})
    await administer(gateway, "POST", f"keys/{rotated['id']}/rotate", {"overlap_s": 0})
    key, keys["expired"], secret_hash = new_key("expired", role="admin")
    store = open_store(f"sqlite:///{gateway.folder}/agent-gateway.db")
    await store.create_key(replace(key, expires_at=time.time() - 1), secret_hash)
    await store.close()
    return {**keys, "revoked": revoked["key"], "rotated away": rotated["key"]}


async def status_of(gateway: Gateway, operation: str, key: str | None) -> int:
    method, _, path = operation.partition(" ")
    for place in ("{model}", "{response_id}", "{conversation_id}", "{item_id}", "{session_id}", "{request_id}", "{id}"):
        path = path.replace(place, "none")
    if operation == "GET /v1/chat/completions":
        async with connect(gateway.url) as wire:
            await wire.send(request("GET", path, headers={**shown(key), **UPGRADE}))
            return (await wire.head()).status
    if operation == "GET /admin/v1/live":  # it goes on for ever
        method = "HEAD"
    return (await ask(gateway.url, path, {} if method in ("POST", "PATCH", "PUT") else None, method=method, headers=shown(key))).status


def expected(operation: str, kind: str) -> int:
    if operation.partition(" ")[2] in OPEN:
        return 200
    if operation in ANYONE:
        return ANYONE[operation]
    if kind in REFUSED:
        return 401
    if operation in ALLOWED:
        return ALLOWED[operation]
    if kind == "user":
        return 403
    if operation in READS:
        return READS[operation]
    return 403 if kind == "auditor" else CHANGES[operation]


async def test_every_role_and_every_state_of_a_key_at_every_path(gateway: Gateway) -> None:
    document = (await ask(gateway.url, "/openapi.json", headers=shown(None))).json
    operations = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert operations == {f"GET {path}" for path in OPEN} | ALLOWED.keys() | ANYONE.keys() | READS.keys() | CHANGES.keys()
    keys = await every_key(gateway)
    assert set(keys) == {*ROLES, *REFUSED}
    wrong = {
        f"{operation} with {kind}": (found, expected(operation, kind))
        for operation in sorted(operations)
        for kind, key in keys.items()
        if (found := await status_of(gateway, operation, key)) != expected(operation, kind)
    }
    assert wrong == {}


@one_edge
async def test_what_another_team_made_does_not_exist(gateway: Gateway) -> None:
    for team in ("blue", "red"):
        assert (await administer(gateway, "POST", "teams", {"id": team})).status == 201
    ann = shown((await made(gateway, team="blue"))["key"])
    others = [shown((await made(gateway, team=team))["key"]) for team in ("blue", "red")]
    assert (await ask(gateway.url, CHAT, chat(), headers={**ann, "x-session-id": "s"})).status == 200
    response = (await ask(gateway.url, "/v1/responses", {"model": "chat", "input": "Who are you?"}, headers=ann)).json["id"]
    conversation = (await ask(gateway.url, "/v1/conversations", {}, headers=ann)).json["id"]
    places = ["/v1/sessions/s", f"/v1/responses/{response}", f"/v1/responses/{response}/input_items", f"/v1/conversations/{conversation}"]
    for place in places:
        for headers in others:
            for method in ("GET", "DELETE") if "items" not in place else ("GET",):
                assert (await ask(gateway.url, place, method=method, headers=headers)).status == 404, (method, place)
        assert (await ask(gateway.url, place, headers=ann)).status == 200, place
    for headers in others:
        assert (await ask(gateway.url, "/v1/sessions", headers=headers)).json["data"] == []


@one_edge
async def test_a_key_is_good_where_its_scopes_say(gateway: Gateway) -> None:
    by_model = shown((await made(gateway, models=["down"]))["key"])
    by_place = shown((await made(gateway, endpoints=["/v1/messages", "/v1/models*"]))["key"])
    assert (await ask(gateway.url, CHAT, chat(), headers=by_model)).status == 403
    assert [model["id"] for model in (await ask(gateway.url, "/v1/models", headers=by_model)).json["data"]] == ["down"]
    assert (await ask(gateway.url, CHAT, chat(), headers=by_place)).status == 403
    assert (await ask(gateway.url, "/v1/models", headers=by_place)).status == 200
    told = {"model": "chat", "max_tokens": 5, "messages": [{"role": "user", "content": "Who are you?"}]}
    assert (await ask(gateway.url, "/v1/messages", told, headers=by_place)).status == 200


@one_edge
async def test_a_change_is_in_force_within_a_second(gateway: Gateway) -> None:
    key = await made(gateway)
    headers = shown(key["key"])

    async def status() -> int:
        return (await ask(gateway.url, CHAT, chat(), headers=headers)).status

    assert await status() == 200
    await administer(gateway, "PATCH", f"keys/{key['id']}", {"models": ["down"]})
    await _until(status, 403)
    await administer(gateway, "PATCH", f"keys/{key['id']}", {"models": None})
    await _until(status, 200)
    await administer(gateway, "DELETE", f"keys/{key['id']}")
    await _until(status, 401)


async def _until(status: Any, wanted: int) -> None:
    until = time.monotonic() + PATIENCE_S
    while (found := await status()) != wanted:
        assert time.monotonic() < until, found


@one_edge
async def test_an_operators_day(gateway: Gateway) -> None:
    """A key is made and used; what it did is seen; its user is erased; the log of it all is whole."""
    key = await made(gateway, name="agent", budget={"usd": 5, "per": "day"})
    asked = await ask(gateway.url, CHAT, chat(user="ann"), headers={**shown(key["key"]), "x-session-id": "s"})
    request_id = asked.headers["x-request-id"]
    await eventually(lambda: gateway.record(request_id), "its record")
    whole = (await administer(gateway, "GET", f"records/{request_id}")).json
    assert (whole["key"], whole["user"], whole["request"]["messages"]) == (key["id"], "ann", chat()["messages"])
    usage = (await administer(gateway, "GET", "usage?group_by=key")).json["data"]
    assert [(row["group"], row["requests"]) for row in usage] == [(key["id"], 1)]
    assert (await administer(gateway, "GET", "sessions")).json["data"][0]["user"] == "ann"
    erased = (await administer(gateway, "DELETE", "users/ann")).json
    assert erased == {"sessions_and_responses": 1, "streams": 0, "cached_answers": 0, "records": 1}
    assert (await administer(gateway, "GET", f"records/{request_id}")).json["request"] is None
    await administer(gateway, "DELETE", f"keys/{key['id']}")
    entries = (await administer(gateway, "GET", "audit")).json["data"]
    assert [(entry["action"], entry["actor"]["id"], entry["source"]) for entry in entries] == [
        ("keys.revoke", "admin", "127.0.0.1"),
        ("users.erase", "admin", "127.0.0.1"),
        ("keys.create", "admin", "127.0.0.1"),
    ]
    (gateway.folder / "head.json").write_bytes((await administer(gateway, "GET", "audit/head")).body)
    told = gateway.command("audit", "verify", "--head", "head.json", "--json")
    assert (told.returncode, msgspec.json.decode(told.stdout)["entries"]) == (0, 3), told.stderr


@one_edge
async def test_refused_accesses_are_in_the_log_when_the_gateway_stops(gateway: Gateway) -> None:
    for _ in range(20):
        assert (await administer(gateway, "GET", "keys", key="sk-wrong")).status == 401
    assert gateway.stop() == 0
    told = gateway.command("audit", "list", "--json")
    (entry,) = msgspec.json.decode(told.stdout)["data"]
    assert entry["action"] == "access.refused"
    assert [(each["source"], each["reason"], each["count"]) for each in entry["after"]] == [("127.0.0.1", "invalid_api_key", 20)]
    assert gateway.command("audit", "verify").returncode == 0


@one_edge
async def test_what_is_wrong_is_told_by_its_field(gateway: Gateway) -> None:
    for target, body, status, param in (
        ("keys?limit=0", None, 400, "limit"),
        ("keys?colour=red", None, 400, "colour"),
        ("records?since=soon", None, 400, "since"),
        ("keys", {"name": "a", "budget": {"usd": 0}}, 400, "budget.usd"),
        ("keys", b"{", 400, None),
        ("nothing", None, 404, None),
        ("keys/none/rotate", None, 405, "POST"),
    ):
        reply = await administer(gateway, "GET" if body is None else "POST", target, body)
        assert (reply.status, reply.error["param"]) == (status, param), target


@one_edge
async def test_without_an_admin_key_the_api_is_open_to_this_machine(launch: Launch) -> None:
    gateway = launch()
    reply = await ask(gateway.url, "/admin/v1/keys", {"name": "a"}, headers=shown(None))
    assert reply.status == 201
    (entry,) = (await ask(gateway.url, "/admin/v1/audit", headers=shown(None))).json["data"]
    assert entry["actor"] == {"id": "", "name": "", "role": "open"}
