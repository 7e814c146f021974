"""What clients think of answers: scored with the key that asked, told to operators by any gateway that shares the database, and erased."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import Launch
from tests.kit import replies, samples
from tests.kit.client import CHAT, Reply, ask, chat
from tests.kit.gateway import Gateway
from tests.kit.provider import ScriptedProvider
from tests.stores.stores import fresh_url

ADMIN_KEY = "sk-admin-0123456789abcdef"
FEEDBACK = "/v1/feedback"


def shown(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def administer(gateway: Gateway, path: str, body: Any = None, method: str = "GET") -> Any:
    reply = await ask(gateway.url, f"/admin/v1/{path}", body, method=method, headers=shown(ADMIN_KEY))
    assert reply.status in (200, 201), reply.body
    return reply.json


async def new_key(gateway: Gateway) -> dict[str, str]:
    return shown((await administer(gateway, "keys", {"name": "a"}, "POST"))["key"])


async def answered(gateway: Gateway, key: dict[str, str]) -> str:
    """The id of the request."""
    reply = await ask(gateway.url, CHAT, chat(), headers={**key, "x-user-id": "ann"})
    assert reply.status == 200
    return reply.headers["x-request-id"]


async def score(gateway: Gateway, key: dict[str, str], request_id: str, value: Any, **fields: Any) -> Reply:
    return await ask(gateway.url, FEEDBACK, {"request_id": request_id, "score": value, **fields}, headers=key)


@pytest.mark.parametrize("edge", ["fast lane"], indirect=True)
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_an_answer_is_scored_by_whoever_got_it(
    kind: str, launch: Launch, provider: ScriptedProvider, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    provider.reply(replies.whole(samples.COMPLETION))
    state = {"state": {"database": await fresh_url(kind, request.config, tmp_path)}, "fallback": {"reply": "Sorry."}}
    gateway = launch(auth={"admin_key": ADMIN_KEY}, **state)
    # SQLite's records lie beside the file, so a second gateway on the same machine shares them too.
    other = launch(auth={"admin_key": ADMIN_KEY}, **state)
    key, another = await new_key(gateway), await new_key(gateway)
    request_id = await answered(gateway, key)
    told = await score(gateway, key, request_id, 2, comment="too short")
    assert (told.status, told.json) == (200, {"request_id": request_id, "object": "feedback", "score": 2})
    assert (await score(other, key, request_id, 5)).status == 200
    assert (await score(gateway, another, request_id, 1)).status == 404
    assert (await score(gateway, shown("sk-wrong"), request_id, 1)).status == 401
    assert (await score(gateway, key, "req_none", 1)).error["code"] == "not_found"
    for gateway_asked in (gateway, other):
        (row,) = (await administer(gateway_asked, "feedback"))["data"]
        assert (row["scores"], row["score"]) == (1, 5.0)
        record = await administer(gateway_asked, f"records/{request_id}")
        assert (record["feedback"]["score"], record["feedback"]["comment"], record["edge"]) == (5, None, "http")
        (hour,) = (await administer(gateway_asked, "figures"))["data"]
        assert (hour["requests"], hour["success"], hour["score"]) == (1, 1, 5.0)
        (used,) = (await administer(gateway_asked, "usage"))["data"]
        assert used["requests"] == 1
    provider.reply(replies.whole(b"{}", 500))
    fixed_id = await answered(gateway, key)
    assert (await score(gateway, key, fixed_id, 1)).status == 200
    (row,) = (await administer(other, "feedback"))["data"]
    assert (row["score"], row["degraded_scores"], row["degraded_score"]) == (5.0, 1, 1.0)
    assert (await score(gateway, key, request_id, 4, comment="my name is Ann")).status == 200
    assert (await administer(other, "users/ann", method="DELETE"))["records"] == 2
    assert (await administer(gateway, f"records/{request_id}"))["feedback"]["comment"] is None
    metrics = (await ask(gateway.url, "/metrics", method="GET")).body
    assert b"agent_gateway_feedback_score_count 3.0" in metrics


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"score": 3}, None),
        ({"request_id": "req_1", "score": 6}, "score"),
        ({"request_id": "req_1", "score": 4.5}, "score"),
        ({"request_id": "req_1", "score": 4, "comment": "x" * 2001}, "comment"),
        ({"request_id": "req_1", "score": 4, "stars": 4}, None),
        ([], None),
    ],
)
async def test_feedback_that_is_none_is_told_what_is_expected(gateway: Gateway, body: Any, param: str | None) -> None:
    reply = await ask(gateway.url, FEEDBACK, body)
    assert (reply.status, reply.error["param"]) == (400, param)
    assert '"score": 1 to 5' in reply.error["message"]
