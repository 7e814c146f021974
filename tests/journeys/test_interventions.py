"""A deployment is taken out by hand, or put first: requests follow, and so does a gateway that is started anew."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.journeys.conftest import Launch, one_edge
from tests.journeys.test_admin import ADMIN_KEY, administer
from tests.kit import replies, samples
from tests.kit.client import CHAT, ask, chat
from tests.kit.eventually import PATIENCE_S
from tests.kit.gateway import Gateway
from tests.kit.provider import ScriptedProvider

pytestmark = one_edge
MODELS: dict[str, Any] = {
    "two": {
        "strategy": "priority",
        "deployments": [{"provider": "scripted", "model": "first"}, {"provider": "scripted", "model": "second"}],
    },
    "only": {"deployments": [{"provider": "scripted", "model": "only"}]},
}


@pytest.fixture
def gateway(launch: Launch, provider: ScriptedProvider) -> Gateway:
    provider.reply(replies.whole(samples.COMPLETION))
    return launch(auth={"admin_key": ADMIN_KEY}, models=MODELS)


async def answered_by(gateway: Gateway, model: str = "two") -> str:
    reply = await ask(gateway.url, CHAT, {**chat(), "model": model}, headers={"authorization": f"Bearer {ADMIN_KEY}"})
    return reply.headers["x-gateway-model"] if reply.status == 200 else str(reply.status)


async def decide(gateway: Gateway, deployment: str, **body: Any) -> tuple[int, Any]:
    reply = await administer(gateway, "PUT", f"deployments/{deployment}", body)
    return reply.status, reply.json


async def interventions(gateway: Gateway) -> dict[str, str]:
    routes = (await administer(gateway, "GET", "routes")).json["data"]
    return {each["id"]: each["intervention"]["mode"] for route in routes for each in route["deployments"] if each["intervention"]}


async def test_requests_follow_what_an_operator_decides_and_a_restart_forgets_none_of_it(gateway: Gateway) -> None:
    assert await answered_by(gateway) == "scripted/first"
    status, told = await decide(gateway, "scripted/first", mode="drain", reason="it is slow")
    assert (status, told["intervention"]["mode"], told["intervention"]["by"], told["intervention"]["reason"]) == (
        200,
        "drain",
        "admin key",
        "it is slow",
    )
    assert await answered_by(gateway) == "scripted/second"
    gateway.stop()
    gateway.start()
    until = time.monotonic() + PATIENCE_S
    while (shown := await interventions(gateway)) != {"scripted/first": "drain"}:
        assert time.monotonic() < until, shown  # a start waits a second for the store
    assert await answered_by(gateway) == "scripted/second"
    assert await decide(gateway, "scripted/first", mode="auto") == (200, {"id": "scripted/first", "intervention": None})
    assert await answered_by(gateway) == "scripted/first"
    await decide(gateway, "scripted/second", mode="prefer", for_s=3600)
    assert await answered_by(gateway) == "scripted/second"
    entries = (await administer(gateway, "GET", "audit")).json["data"]
    assert [(entry["action"], entry["target"], (entry["after"] or {}).get("mode")) for entry in entries] == [
        ("deployments.intervene", "scripted/second", "prefer"),
        ("deployments.intervene", "scripted/first", None),
        ("deployments.intervene", "scripted/first", "drain"),
    ]


async def test_the_last_one_is_only_taken_out_by_force(gateway: Gateway) -> None:
    status, told = await decide(gateway, "scripted/only", mode="drain")
    assert (status, told["error"]["param"]) == (409, "force")
    assert (await decide(gateway, "scripted/only", mode="drain", force=True))[0] == 200
    assert await answered_by(gateway, "only") == "503"
    assert (await decide(gateway, "scripted/nobody", mode="drain"))[0] == 404
