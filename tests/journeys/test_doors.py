"""Who gets in: by the name they call the gateway, by what they say they send, and by the key they show."""

from __future__ import annotations

import pytest

from tests.journeys.conftest import Launch
from tests.kit import replies, samples
from tests.kit.client import CHAT, ask, chat
from tests.kit.eventually import eventually
from tests.kit.gateway import Gateway
from tests.kit.provider import ScriptedProvider

ADMIN_KEY = "sk-admin-0123456789abcdef"
ADMIN_PATH = "/admin/v1/routes"


@pytest.fixture(autouse=True)
def _answers(provider: ScriptedProvider) -> None:
    provider.reply(replies.whole(samples.COMPLETION))


@pytest.mark.parametrize("target", [CHAT, "/v1/models", "/health/live", ADMIN_PATH])
async def test_a_page_that_points_its_name_at_this_machine_gets_nothing(
    gateway: Gateway, provider: ScriptedProvider, target: str
) -> None:
    body = chat() if target == CHAT else None
    reply = await ask(gateway.url, target, body, headers={"host": "evil.example:8080"})
    assert (reply.status, reply.error["code"]) == (403, "forbidden")
    assert "server.allowed_hosts" in reply.error["message"]
    assert provider.heard == []
    record = reply.headers["x-request-id"]
    if target == CHAT:
        assert (await eventually(lambda: gateway.record(record), "its record"))["http_status"] == 403
    assert (await ask(gateway.url, target, body, headers={"host": "agents.localhost"})).status == 200


async def test_hosts_can_be_listed(launch: Launch) -> None:
    gateway = launch(server={"allowed_hosts": ["127.0.0.1", "agents.example"]})
    for host, status in {"agents.example:8080": 200, "127.0.0.1": 200, "localhost": 403}.items():
        assert (await ask(gateway.url, CHAT, chat(), headers={"host": host})).status == status


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
async def test_what_a_page_may_send_unasked_is_refused(gateway: Gateway, provider: ScriptedProvider, media: str) -> None:
    reply = await ask(gateway.url, CHAT, chat(), headers={"content-type": media})
    assert (reply.status, reply.error["code"]) == (415, "unsupported_media_type")
    assert media.partition(";")[0] in reply.error["message"]
    assert provider.heard == []


@pytest.mark.parametrize("media", ["", "application/json; charset=utf-8", "Application/JSON", "application/vnd.api+json"])
async def test_json_by_any_of_its_names_is_taken(gateway: Gateway, media: str) -> None:
    assert (await ask(gateway.url, CHAT, chat(), headers={"content-type": media})).status == 200


async def test_models_without_a_key_are_no_open_door_to_the_admin_api(launch: Launch) -> None:
    gateway = launch(auth={"admin_key": ADMIN_KEY, "require_key": False})
    made = await _made(gateway)
    for shown in ("", "Bearer sk-client", f"Bearer {ADMIN_KEY}", f"Bearer {made}"):
        assert (await ask(gateway.url, CHAT, chat(), headers={"authorization": shown})).status == 200
    for shown, status in {"": 401, "Bearer sk-client": 401, f"Bearer {made}": 403, f"Bearer {ADMIN_KEY}": 200}.items():
        assert (await ask(gateway.url, ADMIN_PATH, headers={"authorization": shown})).status == status
    assert "auth.require_key is false: anyone who can reach the gateway may use its models" in gateway.log
    assert "admin API" not in gateway.log


async def test_without_an_admin_key_all_is_open_and_it_is_said(launch: Launch) -> None:
    gateway = launch()
    assert (await ask(gateway.url, ADMIN_PATH, headers={"authorization": ""})).status == 200
    assert "auth.admin_key is not set: anyone on this machine may use the admin API" in gateway.log
    assert "auth.admin_key is not set: anyone who can reach the gateway may use its models" in gateway.log


async def _made(gateway: Gateway) -> str:
    """A user's key."""
    key: str = samples.decode(gateway.command("keys", "create", "agents", "--json").stdout)["key"]
    return key
