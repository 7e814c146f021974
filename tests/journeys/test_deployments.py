"""What deploy/ ships, running: its configurations and variables, the paths that probes and Prometheus ask, the scenarios' fallback."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.renderings import rendered
from tests.journeys.conftest import Launch
from tests.kit import replies, samples
from tests.kit.client import CHAT, ask, chat
from tests.kit.gateway import Gateway
from tests.kit.manifests import DEPLOY, Manifest, documents, only, read
from tests.kit.provider import Heard, Script, ScriptedProvider
from tests.kit.samples import read_frame

ADMIN_KEY = "sk-admin-0123456789abcdef"
BEARER = {"authorization": f"Bearer {ADMIN_KEY}"}
#: References of a pod, whose servers are not here: the gateway's own database stands in for PostgreSQL.
SECRETS = {"GATEWAY_ADMIN_KEY": ADMIN_KEY, "AUDIT_KEY": "0123456789abcdef", "OPENAI_API_KEY": "sk-provider-secret"}
DATABASE = {"GATEWAY_DATABASE_URL": "sqlite:///agent-gateway.db"}
ANSWER = replies.whole(samples.COMPLETION)


def shipped(manifests: list[Manifest]) -> tuple[dict[str, Any], dict[str, str]]:
    """The ConfigMap's configuration, and the pod's variables with plain values."""
    (text,) = only(manifests, "ConfigMap")["data"].values()
    (configuration,) = documents(text)
    (container,) = only(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    return configuration, {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


def here(configuration: dict[str, Any], provider: ScriptedProvider) -> dict[str, Any]:
    """On loopback, with a provider that can be reached."""
    openai = configuration["providers"]["openai"] | {"base_url": f"http://127.0.0.1:{provider.port}/v1"}
    return configuration | {"server": configuration["server"] | {"host": "127.0.0.1"}, "providers": {"openai": openai}}


@pytest.mark.parametrize("scenario", ["support", "codegen"])
async def test_a_scenario_runs_as_it_is_shipped(scenario: str, provider: ScriptedProvider, tmp_path: Path) -> None:
    manifests = rendered(f"kustomize {scenario}")
    configuration, environ = shipped(manifests)
    provider.reply_by(_primary_fails)
    gateway = Gateway(tmp_path, here(configuration, provider), "fast lane", environ | SECRETS | DATABASE)
    try:
        gateway.start()
        (container,) = only(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert (await ask(gateway.url, container[probe]["httpGet"]["path"])).status == 200
        assert (await ask(gateway.url, CHAT, chat("gpt-4o-mini"))).status == 401
        reply = await ask(gateway.url, CHAT, chat("gpt-4o-mini"), headers=BEARER)
        assert (reply.status, reply.headers["x-gateway-status"]) == (200, "fallback")
        assert reply.headers["x-gateway-model"] == "openai/gpt-4.1", "the model by the name in GATEWAY_FALLBACK_MODEL"
        scraped = (await ask(gateway.url, "/metrics")).content.decode()
        monitored = only(rendered("helm with everything"), "HorizontalPodAutoscaler")["spec"]["metrics"][1]["pods"]["metric"]["name"]
        assert f"\n{monitored}{{" in scraped
        assert gateway.stop() == 0
        assert [record["status"] for record in gateway.records if record["http_status"] == 200] == ["fallback"]
        gateway.assert_log_is_clean()
    finally:
        gateway.close()


def _primary_fails(heard: Heard) -> Script:
    return replies.whole(b"{}", 500) if heard.json["model"] == "gpt-4o-mini" else ANSWER


async def test_compose_runs_as_it_is_shipped(provider: ScriptedProvider, tmp_path: Path) -> None:
    provider.reply(ANSWER)
    configuration = here(read(DEPLOY / "compose" / "gateway.yaml"), provider)
    gateway = Gateway(tmp_path, configuration, "fast lane", SECRETS | DATABASE)
    try:
        gateway.start()
        (job,) = read(DEPLOY / "compose" / "prometheus.yml")["scrape_configs"]
        assert (await ask(gateway.url, job["metrics_path"])).status == 200
        assert (await ask(gateway.url, CHAT, chat("gpt-4o-mini"), headers=BEARER)).status == 200
    finally:
        gateway.close()


async def test_the_variables_do_what_they_say(launch: Launch, provider: ScriptedProvider) -> None:
    """As they are spelled in TARGETS; `GATEWAY_BATCH_SIZE` is in test_sync_batch.py, `GATEWAY_FALLBACK_MODEL` above."""
    provider.reply(ANSWER)
    gateway = launch(
        {
            "GATEWAY_STREAMING": "false",
            "GATEWAY_TTL": "7200",
            "GATEWAY_MONITORING": "false",
            "GATEWAY_ADMIN_KEY": ADMIN_KEY,
            "GATEWAY_DATABASE_URL": "sqlite:///elsewhere.db",
        }
    )
    assert (await ask(gateway.url, "/admin/v1/routes", headers={"authorization": ""})).status == 401
    reply = await ask(gateway.url, CHAT, chat(stream=True), headers=BEARER | {"x-session-id": "trip"})
    texts = [_text(frame) for frame in reply.frames if b'"content"' in frame]
    assert [text for text in texts if text] == [samples.TEXT], "the whole answer as one event"
    session = (await ask(gateway.url, "/v1/sessions/trip", headers=BEARER)).json
    assert session["expires_at"] - time.time() == pytest.approx(7200, abs=60)
    assert gateway.stop() == 0
    assert (gateway.folder / "elsewhere.db").exists()
    assert not (gateway.folder / "agent-gateway.db").exists()
    assert not (gateway.folder / "elsewhere.records.db").exists(), "nothing is recorded"


def _text(frame: bytes) -> str:
    choices = read_frame(frame)["choices"]
    return str(choices[0]["delta"].get("content") or "") if choices else ""
