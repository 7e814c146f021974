"""An outage as its operators see it: a real Prometheus that scrapes the gateway, the webhook, the admin API, the service levels."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent_gateway.record.metrics import UNCONFIGURED_DEPLOYMENTS_MAX
from tests.kit import replies
from tests.kit.client import CHAT, Reply, ask, chat
from tests.kit.eventually import PATIENCE_S, eventually
from tests.kit.gateway import Gateway
from tests.kit.provider import ScriptedProvider
from tests.kit.servers import Prometheus, own

RULES_FILE = Path(__file__).parents[2] / "deploy" / "prometheus" / "rules.yaml"
SECRET = "a secret of the webhook's"
PRICE = {"input": 0.15, "output": 0.60}


@pytest.fixture
async def receiver() -> AsyncIterator[ScriptedProvider]:
    """Whom the gateway tells of alerts. The first time it is not there."""
    async with ScriptedProvider() as receiver:
        receiver.reply_in_turn(replies.whole(b"{}", status=503))
        receiver.reply(replies.whole(b"{}"))
        yield receiver


@pytest.fixture
def gateway(tmp_path: Path, receiver: ScriptedProvider) -> Iterator[Gateway]:
    quick = {"kind": "simulated", "ttft_ms": 0, "tokens_per_s": 0, "jitter": 0}
    config = {
        "state": {"database": "sqlite:///agent-gateway.db"},
        "providers": {"sim": quick, "bad": {**quick, "error_rate": 1}},
        "models": {
            "chat": {"deployments": [{"provider": "sim", "model": "small", "price": PRICE}]},
            "broken": {"deployments": [{"provider": "bad", "model": "small", "price": PRICE}]},
        },
        "retries": {"max_attempts": 1},
        "fallback": {"reply": None},
        "alerts": {"webhooks": [{"url": f"http://127.0.0.1:{receiver.port}/hook?team=a", "secret": SECRET}]},
    }
    gateway = Gateway(tmp_path, config, "fast lane")
    try:
        yield gateway.start()
        assert gateway.stop() == 0
        gateway.assert_log_is_clean()
    finally:
        gateway.close()


@pytest.fixture
def prometheus(gateway: Gateway, tmp_path: Path) -> Iterator[Prometheus]:
    """With the shipped rules, looked at every second instead of every 15."""
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES_FILE.read_text().replace("interval: 15s", "interval: 1s"))
    server = own(Prometheus)
    server.watch(gateway.port, rules)
    try:
        server.start()
        yield server
    finally:
        server.remove()


async def asked(gateway: Gateway, model: str, key: str = "sk-client") -> int:
    headers = {"authorization": f"Bearer {key}"}
    return (await ask(gateway.url, CHAT, chat(model), headers=headers)).status


async def test_an_outage_is_told_by_all_who_watch(gateway: Gateway, prometheus: Prometheus, receiver: ScriptedProvider) -> None:
    def alerts() -> set[tuple[str, str]]:
        told = prometheus.ask("alerts")["alerts"]
        return {(alert["labels"]["alertname"], alert["labels"].get("model", "")) for alert in told if alert["state"] == "firing"}

    for _ in range(3):  # a series that is new has grown by nothing yet, for Prometheus
        assert [await asked(gateway, "chat"), await asked(gateway, "broken")] == [200, 502]
        await _scraped(prometheus, gateway)
    for _ in range(20):
        assert (await asked(gateway, "broken")) in (502, 503)
    assert await eventually(lambda: {("AgentGatewayErrorsFast", "broken")} <= alerts(), "Prometheus fires", within_s=30)
    assert not any(model == "chat" for _, model in alerts())
    for group in prometheus.ask("rules")["groups"]:
        assert {rule["name"]: rule["health"] for rule in group["rules"] if rule["health"] != "ok"} == {}

    notice = await eventually(lambda: receiver.last.json if len(receiver.heard) > 1 else None, "the webhook was told", within_s=30)
    heard = receiver.last
    signed = heard.headers["x-gateway-timestamp"].encode() + b"." + heard.body
    assert heard.headers["x-gateway-signature"] == "sha256=" + hmac.digest(SECRET.encode(), signed, sha256).hex()
    assert heard.target == "/hook?team=a"
    first = notice["alerts"][0]
    assert (first["state"], first["label"]) in {("firing", "broken"), ("firing", "bad/small")}
    await eventually(lambda: "alert firing: errors_fast" in gateway.log, "the log says so", within_s=30)
    firing = [alert for alert in (await _admin(gateway, "alerts?state=firing"))["data"] if alert["rule"] == "errors_fast"]
    assert firing[0]["label"] == "broken"
    assert firing[0]["text"].startswith("100 % of the requests for broken fail")

    silenced = await ask(gateway.url, f"/admin/v1/alerts/{firing[0]['id']}/silence", {"for_s": 600})
    assert (silenced.status, silenced.json["silenced_until"] is not None) == (200, True)
    metrics = (await ask(gateway.url, "/metrics")).content.decode()
    assert 'agent_gateway_alerts_firing{rule="errors_fast",severity="critical"} 1.0' in metrics
    await _sent_are_counted(gateway, receiver)

    levels = {level["slo"]: level for level in (await _admin(gateway, "slo"))["data"]}
    assert (levels["errors"]["met"], levels["records_complete"]["met"]) == (False, True)
    done = await asyncio.to_thread(gateway.command, "slo", "--json")
    assert done.returncode == 1, done.stderr
    told_by_command = {level["slo"]: level for level in msgspec.json.decode(done.stdout)["data"]}
    assert told_by_command["errors"]["count"] == levels["errors"]["count"] == 26
    assert told_by_command["errors"]["figure"] == levels["errors"]["figure"] == 23 / 26


async def test_what_clients_make_up_does_not_become_series(gateway: Gateway, prometheus: Prometheus) -> None:
    async def crowd(first: int, last: int) -> None:
        for number in range(first, last):
            assert await asked(gateway, f"no-such-{number}", key=f"sk-{number}") == 404
            assert await asked(gateway, f"sim/made-up-{number}", key=f"sk-{number}") == 200

    await crowd(0, 2 * UNCONFIGURED_DEPLOYMENTS_MAX)
    await asked(gateway, "chat")
    bounded, before = await _scraped(prometheus, gateway), await _series(gateway)
    await crowd(1000, 1200)
    assert await _scraped(prometheus, gateway) == bounded, await _series(gateway) - before


async def _series(gateway: Gateway) -> set[str]:
    lines = (await ask(gateway.url, "/metrics")).content.decode().splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


async def _sent_are_counted(gateway: Gateway, receiver: ScriptedProvider) -> None:
    """Soon after they came; the first one, which was refused, is not. A look at the figures in mid-outage makes a second notice."""
    until = time.monotonic() + PATIENCE_S
    while True:
        line = f'agent_gateway_alert_notices_total{{outcome="sent"}} {len(receiver.heard) - 1:.1f}'
        if line in (await ask(gateway.url, "/metrics")).content.decode():
            return
        assert time.monotonic() < until, line
        await asyncio.sleep(0.02)


async def _scraped(prometheus: Prometheus, gateway: Gateway) -> float:
    """How many samples the first scrape after now gave, once it is known."""
    ended = (await ask(gateway.url, "/metrics")).content.decode()
    count = float(next(line for line in ended.splitlines() if line.startswith("agent_gateway_edge_requests_total")).split()[1])

    def samples() -> float | None:
        """Both of one scrape: the next one may fail."""
        told = prometheus.ask("query", query='{__name__=~"agent_gateway_edge_requests_total|scrape_samples_scraped"}')["result"]
        known = {sample["metric"]["__name__"]: float(sample["value"][1]) for sample in told}
        return known["scrape_samples_scraped"] if known.get("agent_gateway_edge_requests_total", 0.0) >= count else None

    return await eventually(samples, "it is scraped")


async def _admin(gateway: Gateway, path: str) -> Any:
    reply: Reply = await ask(gateway.url, f"/admin/v1/{path}")
    assert reply.status == 200, reply.body
    return reply.json
