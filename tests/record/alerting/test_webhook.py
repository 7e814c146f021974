"""Webhooks against a real server: what they are sent, how it is signed, what is tried again, what is given up, and that nobody waits."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator
from hashlib import sha256

import pytest

from agent_gateway.core.clock import SYSTEM_CLOCK
from agent_gateway.core.settings import AlertWebhook
from agent_gateway.record.alerting import webhook as module
from agent_gateway.record.alerting.engine import Alert, Change
from agent_gateway.record.alerting.webhook import TRIES_MAX, WAITING_MAX, Webhook
from agent_gateway.upstream.transport import Transport
from agent_gateway.upstream.web import Web
from tests.kit import replies
from tests.kit.eventually import PATIENCE_S, eventually
from tests.kit.provider import ScriptedProvider

SECRET = "a secret of the webhook's"
OK = replies.whole(b"ok")
BUSY = replies.whole(b"no", status=503)


def change(number: int = 1, ended: float | None = None, text: str = "90 % of <all> fail & more") -> Change:
    alert = Alert(
        id=f"alert_{number}",
        rule="errors_fast",
        severity="critical",
        label="chat",
        text=text,
        advice="Look.",
        value=0.9,
        threshold=0.05,
        began=1_760_000_000.0,
        ended=ended,
    )
    return Change("firing" if ended is None else "resolved", alert)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider() as server:
        server.reply(OK)
        yield server


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    transport = Transport(environ={})
    yield Web(transport, SYSTEM_CLOCK)
    await transport.close()


def made(server: ScriptedProvider, web: Web, **fields: str) -> Webhook:
    target = AlertWebhook(url=f"http://127.0.0.1:{server.port}/hook", **fields)  # type: ignore[arg-type]
    return Webhook(target, web.post, SYSTEM_CLOCK, "here", first_wait_s=0.001)


async def test_a_notice_holds_the_alerts_and_is_signed(server: ScriptedProvider, web: Web) -> None:
    webhook = made(server, web, secret=SECRET)
    webhook.tell([change(1), change(2, ended=1_760_000_060.5)])
    await eventually(lambda: webhook.sent, "it is sent")
    heard = server.last
    assert (heard.method, heard.target, heard.headers["content-type"]) == ("POST", "/hook", "application/json")
    signed = heard.headers["x-gateway-timestamp"].encode() + b"." + heard.body
    assert heard.headers["x-gateway-signature"] == "sha256=" + hmac.digest(SECRET.encode(), signed, sha256).hex()
    firing, resolved = heard.json["alerts"]
    assert firing == {
        "id": "alert_1",
        "state": "firing",
        "rule": "errors_fast",
        "severity": "critical",
        "label": "chat",
        "text": "90 % of <all> fail & more",
        "advice": "Look.",
        "value": 0.9,
        "threshold": 0.05,
        "began_at": "2025-10-09T08:53:20.000Z",
        "ended_at": None,
        "silenced_until": None,
    }
    assert (heard.json["gateway"], resolved["state"], resolved["ended_at"]) == ("here", "resolved", "2025-10-09T08:54:20.500Z")
    await webhook.close(1)


async def test_slack_gets_its_own_shape(server: ScriptedProvider, web: Web) -> None:
    webhook = made(server, web, format="slack")
    webhook.tell([change(number) for number in range(25)] + [change(99, ended=1_760_000_060.0)])
    await eventually(lambda: webhook.sent, "it is sent")
    told = server.last.json
    assert told["text"] == "agent-gateway on here: 25 firing, 1 resolved"
    assert told["attachments"][0]["text"] == "*errors_fast* critical\n90 % of &lt;all&gt; fail &amp; more\nLook."
    assert (len(told["attachments"]), told["attachments"][-1]["text"]) == (21, "… and 6 more: GET /admin/v1/alerts")
    assert "x-gateway-signature" not in server.last.headers
    await webhook.close(1)


async def test_what_fails_passingly_is_tried_again(server: ScriptedProvider, web: Web) -> None:
    server.reply_in_turn(BUSY, replies.whole(b"", status=429), replies.cut)
    webhook = made(server, web)
    webhook.tell([change()])
    await eventually(lambda: webhook.sent, "it is sent")
    assert (len(server.heard), webhook.failed) == (4, 0)
    await webhook.close(1)


async def test_what_will_not_be_taken_is_given_up(server: ScriptedProvider, web: Web, caplog: pytest.LogCaptureFixture) -> None:
    server.reply(replies.whole(b"", status=404))
    webhook = made(server, web)
    webhook.tell([change()])
    await eventually(lambda: webhook.failed, "it is given up")
    assert len(server.heard) == 1
    await webhook.close(1)
    server.reply(BUSY)
    webhook = made(server, web)
    webhook.tell([change()])
    await eventually(lambda: webhook.failed, "it is given up")
    assert (len(server.heard) - 1, webhook.sent) == (TRIES_MAX, 0)
    assert f"1 alerts could not be told to 127.0.0.1:{server.port}: it answered with status 503" in caplog.text
    assert "/hook" not in caplog.text, "who knows the address may write there"
    await webhook.close(1)


async def test_what_comes_soon_after_comes_together(server: ScriptedProvider, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GROUP_S", 0.05)
    webhook = made(server, web)
    webhook.tell([change(1)])
    await eventually(lambda: webhook.sent == 1, "the first goes out at once")
    webhook.tell([change(2)])
    webhook.tell([change(3)])
    webhook.tell([change(2, ended=1_760_000_060.0)])
    await eventually(lambda: webhook.sent == 2, "the others go out together")
    assert [(alert["id"], alert["state"]) for alert in server.last.json["alerts"]] == [("alert_3", "firing"), ("alert_2", "resolved")]
    await webhook.close(1)


async def test_what_waits_is_bounded_and_tried_once_more_at_the_end(server: ScriptedProvider, web: Web) -> None:
    server.reply(replies.hang)
    webhook = made(server, web)
    webhook.tell([change(0)])
    await eventually(lambda: server.heard, "it is under way")
    webhook.tell([change(number) for number in range(1, WAITING_MAX + 3)])
    assert webhook.dropped == 2
    server.reply(OK)
    await webhook.close(5)
    told = [alert["id"] for alert in server.last.json["alerts"]]
    assert (len(told), told[:2], webhook.sent) == (WAITING_MAX + 1, ["alert_0", "alert_3"], 1)


async def test_a_server_that_hangs_holds_nothing_up(server: ScriptedProvider, web: Web) -> None:
    server.reply(replies.hang)
    webhook = made(server, web)
    webhook.tell([change()])
    await eventually(lambda: server.heard, "it is under way")
    async with asyncio.timeout(PATIENCE_S / 2):  # half of what it gives an attempt
        await webhook.close(0.05)
    assert (webhook.sent, webhook.failed) == (0, 1)
