"""What the dashboard needs of the gateway: its log-in, what is told live, and its files."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest

from agent_gateway.stores.backends.postgres import STATEMENT_TIMEOUT_S
from tests.journeys.conftest import Launch, one_edge
from tests.journeys.test_admin import ADMIN_KEY, administer, made
from tests.kit import replies, samples
from tests.kit.client import CHAT, Reply, Wire, ask, chat, connect, request
from tests.kit.eventually import PATIENCE_S, eventually
from tests.kit.gateway import Gateway
from tests.kit.provider import ScriptedProvider
from tests.kit.servers import Postgres, own

pytestmark = one_edge
COOKIE = "agent_gateway_login"
LOGIN = "/admin/v1/login"
#: What a stop takes that waits for somebody who does not leave.
DRAIN_S = 15.0


@pytest.fixture
def gateway(launch: Launch, provider: ScriptedProvider) -> Gateway:
    provider.reply(replies.whole(samples.COMPLETION))
    return launch(auth={"admin_key": ADMIN_KEY}, server={"drain_timeout_s": DRAIN_S})


async def asked(gateway: Gateway, method: str, path: str, body: Any = None, **headers: str) -> Reply:
    """As a browser asks, which shows no key in a header."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await ask(gateway.url, path, body, method=method, headers={"authorization": "", **named})


def cookie_of(reply: Reply) -> tuple[str, set[str]]:
    """As it is to be sent back, and its attributes."""
    cookie, *attributes = reply.headers["set-cookie"].split("; ")
    return cookie, set(attributes)


async def logged_in(gateway: Gateway, key: str = ADMIN_KEY) -> tuple[str, str]:
    """The cookie, and the token beside it."""
    reply = await asked(gateway, "POST", LOGIN, {"key": key})
    assert reply.status == 200, reply.body
    return cookie_of(reply)[0], reply.json["csrf"]


# --- the log-in


async def test_a_database_that_hangs_keeps_nobody_out_who_is_logged_in(launch: Launch) -> None:
    server = own(Postgres)
    try:
        server.start()
        gateway = launch(auth={"admin_key": ADMIN_KEY, "audit_key": "signs-the-log-0123456789"}, state={"database": server.url()})
        cookie, _ = await logged_in(gateway)
        assert (await asked(gateway, "GET", LOGIN, cookie=cookie)).json["role"] == "admin"
        server.freeze()
        begun = time.monotonic()
        for path in (LOGIN, "/admin/v1/routes", "/admin/v1/alerts"):
            assert (await asked(gateway, "GET", path, cookie=cookie)).status == 200
        assert time.monotonic() - begun < STATEMENT_TIMEOUT_S, "nobody waited for the database"
        server.thaw()
        until = time.monotonic() + PATIENCE_S
        while (status := (await asked(gateway, "GET", "/admin/v1/keys", cookie=cookie)).status) != 200:
            assert (status, time.monotonic() < until) == (503, True), "it is there again"
    finally:
        server.thaw()
        server.remove()



async def test_a_browser_logs_in_changes_something_and_logs_out(gateway: Gateway) -> None:
    nobody = (await asked(gateway, "GET", LOGIN)).json
    assert (nobody["required"], nobody["role"], nobody["csrf"]) == (True, None, None)
    reply = await asked(gateway, "POST", LOGIN, {"key": ADMIN_KEY})
    cookie, attributes = cookie_of(reply)
    assert attributes == {"Path=/admin/v1", "Max-Age=43200", "HttpOnly", "SameSite=Strict"}, "not Secure: this is no TLS"
    csrf = reply.json["csrf"]
    assert (await asked(gateway, "GET", LOGIN, cookie=cookie)).json == reply.json
    assert (await asked(gateway, "GET", "/admin/v1/keys", cookie=cookie)).status == 200
    without = await asked(gateway, "POST", "/admin/v1/keys", {"name": "a"}, cookie=cookie)
    assert (without.status, without.error["param"]) == (403, "x-csrf-token")
    assert (await asked(gateway, "POST", "/admin/v1/keys", {"name": "a"}, cookie=cookie, x_csrf_token=csrf)).status == 201
    assert (await asked(gateway, "DELETE", LOGIN, cookie=cookie)).status == 403, "nor does another site log anybody out"
    out = await asked(gateway, "DELETE", LOGIN, cookie=cookie, x_csrf_token=csrf)
    assert (out.status, cookie_of(out)[0]) == (200, f"{COOKIE}=")
    assert (await asked(gateway, "GET", "/admin/v1/keys", cookie=cookie)).status == 401, "the cookie is good for nothing any more"
    entries = (await administer(gateway, "GET", "audit")).json["data"]
    assert [(entry["action"], entry["actor"]["id"]) for entry in entries] == [
        ("logout", "admin"),
        ("keys.create", "admin"),
        ("login", "admin"),
    ]


async def test_a_wrong_key_and_a_users_key_do_not_log_in(gateway: Gateway) -> None:
    user = (await made(gateway, role="user"))["key"]
    for key, status in (("sk-wrong", 401), (f"agw_{'a' * 12}_{'b' * 43}", 401), (user, 403)):
        reply = await asked(gateway, "POST", LOGIN, {"key": key})
        assert (reply.status, "set-cookie" in reply.headers) == (status, False)
        assert key not in reply.error["message"]


async def test_an_auditor_who_is_logged_in_only_reads(gateway: Gateway) -> None:
    cookie, csrf = await logged_in(gateway, (await made(gateway, role="auditor"))["key"])
    assert (await asked(gateway, "GET", "/admin/v1/records", cookie=cookie)).status == 200
    assert (await asked(gateway, "POST", "/admin/v1/keys", {"name": "a"}, cookie=cookie, x_csrf_token=csrf)).status == 403
    assert (await asked(gateway, "GET", LOGIN, cookie=cookie)).json["role"] == "auditor"


async def test_a_log_in_ends_with_its_key_and_outlives_a_restart(gateway: Gateway) -> None:
    key = await made(gateway, role="admin")
    cookie, _ = await logged_in(gateway, key["key"])
    gateway.stop()
    gateway.start()
    assert (await asked(gateway, "GET", "/admin/v1/keys", cookie=cookie)).status == 200
    await administer(gateway, "POST", f"keys/{key['id']}/revoke", {})
    until = time.monotonic() + PATIENCE_S
    while (reply := await asked(gateway, "GET", "/admin/v1/keys", cookie=cookie)).status != 401:
        assert time.monotonic() < until
    assert "Log in again" in reply.error["message"]


async def test_another_sites_page_gets_nowhere_by_the_cookie(gateway: Gateway) -> None:
    cookie, csrf = await logged_in(gateway)
    for foreign in ({"origin": "http://elsewhere.example"}, {"sec_fetch_site": "same-site"}, {"sec_fetch_site": "cross-site"}):
        assert (await asked(gateway, "GET", "/admin/v1/keys", cookie=cookie, **foreign)).status == 401, foreign
        refused = await asked(gateway, "POST", "/admin/v1/keys", {"name": "a"}, cookie=cookie, x_csrf_token=csrf, **foreign)
        assert refused.status in (401, 403), foreign
    own = {"origin": "http://localhost", "sec_fetch_site": "same-origin"}
    assert (await asked(gateway, "POST", "/admin/v1/keys", {"name": "a"}, cookie=cookie, x_csrf_token=csrf, **own)).status == 201


async def test_without_an_admin_key_nobody_has_to_log_in(launch: Launch) -> None:
    gateway = launch()
    login = (await asked(gateway, "GET", LOGIN)).json
    assert (login["required"], login["role"], login["csrf"]) == (False, "admin", None)
    assert (await asked(gateway, "POST", "/admin/v1/keys", {"name": "a"}, origin="http://elsewhere.example")).status == 403


# --- what is told live


class Events:
    """Those of one open stream."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._buffer = b""

    async def next(self) -> tuple[str, Any]:
        while b"\n\n" not in self._buffer:
            self._buffer += await self._wire.piece()
        frame, _, self._buffer = self._buffer.partition(b"\n\n")
        fields = dict(line.split(b": ", 1) for line in frame.split(b"\n") if b": " in line)
        if b"event" not in fields:
            return await self.next()
        return fields[b"event"].decode(), msgspec.json.decode(fields[b"data"])

    async def until(self, topic: str, holds: Any = lambda data: True) -> Any:
        async with asyncio.timeout(10):
            while True:
                name, data = await self.next()
                if name == topic and holds(data):
                    return data


def live(query: str = "") -> bytes:
    return request("GET", f"/admin/v1/live{query}", headers={"authorization": f"Bearer {ADMIN_KEY}"})


async def test_figures_and_records_are_told_as_they_come(gateway: Gateway) -> None:
    async with connect(gateway.url) as wire:
        await wire.send(live())
        head = await wire.head()
        assert (head.status, head.headers["content-type"]) == (200, "text/event-stream")
        events = Events(wire)
        before = await events.until("now")
        assert before["requests_per_s"] == 0
        told: set[str] = set()
        while len(told) < 2:
            told |= {(await events.next())[0]} - {"now"}  # which is told anew each second
        assert told == {"alerts", "routes"}, "each as it is, to begin with"
        reply = await ask(gateway.url, CHAT, chat(), headers={"authorization": f"Bearer {ADMIN_KEY}"})
        (record,) = await events.until("records")
        assert (record["id"], record["model"]) == (reply.headers["x-request-id"], "chat")
        after = await events.until("now", lambda data: data["requests_per_s"] > 0)
        assert [model["model"] for model in after["models"]] == ["chat"]
        await eventually(lambda: gateway.record(record["id"]), "it is in the database too")
        listed = (await administer(gateway, "GET", "records")).json["data"]
        assert listed == [record]
        points = (await administer(gateway, "GET", "now?model=chat")).json["points"]
        assert [(point["requests"], point["counted"]) for point in points] == [(1, 1)]


async def test_only_what_is_asked_for_is_told(gateway: Gateway) -> None:
    async with connect(gateway.url) as wire:
        await wire.send(live("?topics=now"))
        await wire.head()
        events = Events(wire)
        assert {(await events.next())[0] for _ in range(3)} == {"now"}
    wrong = await administer(gateway, "GET", "live?topics=now,weather")
    assert (wrong.status, wrong.error["param"]) == (400, "topics")


async def test_a_stop_waits_for_no_dashboard(gateway: Gateway) -> None:
    async with connect(gateway.url) as wire:
        await wire.send(live())
        await wire.head()
        await Events(wire).until("now")
        begun = time.monotonic()
        assert await asyncio.to_thread(gateway.stop) == 0
        assert time.monotonic() - begun < DRAIN_S
