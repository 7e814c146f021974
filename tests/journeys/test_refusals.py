"""Whoever is refused is counted where they come from, and whoever shows wrong keys all the time has to wait; both edges, and WebSockets."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from agent_gateway.admission.refusals import REFUSED_KEYS_MAX, TOO_MANY
from tests.journeys.conftest import Launch
from tests.kit import replies, samples, websocket
from tests.kit.client import CHAT, Reply, ask, chat
from tests.kit.gateway import Gateway
from tests.kit.provider import ScriptedProvider

ADMIN_KEY = "sk-admin-0123456789abcdef"
GUESSER, OTHER = "203.0.113.7", "203.0.113.8"
AS_ADMIN = {"authorization": f"Bearer {ADMIN_KEY}"}


@pytest.fixture
def gateway(launch: Launch, provider: ScriptedProvider) -> Gateway:
    """Behind a proxy on this machine, which says where its clients are."""
    provider.reply(replies.whole(samples.COMPLETION))
    return launch(auth={"admin_key": ADMIN_KEY}, server={"trusted_proxies": ["127.0.0.1"]})


def _from(address: str, key: str) -> Mapping[str, str]:
    return {"x-forwarded-for": f"198.51.100.1, {address}", "authorization": f"Bearer {key}"}


def _key(number: int) -> str:
    """As the gateway makes them, but none of its own."""
    return f"agw_{number:012d}_{'x' * 43}"


async def _guess(gateway: Gateway, number: int, address: str = GUESSER) -> Reply:
    target, body = (CHAT, chat()) if number % 2 else ("/v1/models", None)
    return await ask(gateway.url, target, body, headers=_from(address, _key(number)))


async def test_who_guesses_keys_has_to_wait_and_is_on_the_log(gateway: Gateway) -> None:
    made = await ask(gateway.url, "/admin/v1/keys", {"name": "agents"}, headers=AS_ADMIN)
    good = made.json["key"]
    assert (await ask(gateway.url, CHAT, chat(), headers=_from(GUESSER, good))).status == 200
    for number in range(REFUSED_KEYS_MAX):
        assert (await _guess(gateway, number)).status == 401
    for number in range(REFUSED_KEYS_MAX, REFUSED_KEYS_MAX + 4):
        waits = await _guess(gateway, number)
        assert (waits.status, waits.error["code"]) == (429, "rate_limit_exceeded")
        assert 0 < int(waits.headers["retry-after"]) <= 60
    assert (await websocket.refused(gateway.url, _from(GUESSER, _key(99)), None))[0] == 429
    assert (await ask(gateway.url, CHAT, chat(), headers=_from(GUESSER, good))).status == 200, "a known key goes on"
    assert (await _guess(gateway, 1, OTHER)).status == 401, "others are not made to wait"
    assert (await ask(gateway.url, "/admin/v1/keys", headers=_from(OTHER, good))).status == 403
    assert await asyncio.to_thread(gateway.stop) == 0

    await asyncio.to_thread(gateway.start)
    entries = (await ask(gateway.url, "/admin/v1/audit", headers=AS_ADMIN)).json["data"]
    [told] = [entry["after"] for entry in entries if entry["action"] == "access.refused"]
    assert {(one["source"], one["reason"]): one["count"] for one in told} == {
        (GUESSER, "invalid_api_key"): REFUSED_KEYS_MAX,
        (GUESSER, TOO_MANY): 5,
        (OTHER, "invalid_api_key"): 1,
        (OTHER, "forbidden"): 1,
    }


async def test_an_admin_is_on_the_log_with_the_address_behind_the_proxy(gateway: Gateway) -> None:
    await ask(gateway.url, "/admin/v1/keys", {"name": "agents"}, headers=_from(OTHER, ADMIN_KEY))
    entries = (await ask(gateway.url, "/admin/v1/audit", headers=AS_ADMIN)).json["data"]
    assert [entry["source"] for entry in entries] == [OTHER]
