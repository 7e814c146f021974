"""The list of metrics is the gateway's, and the dashboard is made of it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from agent_gateway.app import Gateway
from agent_gateway.control.load import compile_mapping
from agent_gateway.core.clock import SYSTEM_CLOCK
from agent_gateway.record.catalogue import CATALOGUE, dashboard, expressions
from agent_gateway.record.family import PREFIX, Family
from agent_gateway.workers.overview import Overview
from tests.kit.servers import promtool

FILE = Path(__file__).parents[2] / "deploy" / "grafana" / "dashboard.json"


@pytest.fixture
async def families(tmp_path: Path) -> dict[str, Family]:
    """Of a whole gateway: what counts without a store, a limit or a session is not all that counts."""
    model = {
        "deployments": [{"provider": "sim", "model": "small", "price": {"input": 0, "output": 0}}],
        "cache": {"exact": {"enabled": True}},
    }
    state = {"database": f"sqlite:///{tmp_path}/gateway.db"}
    gateway = Gateway(compile_mapping({"state": state, "providers": {"sim": {"kind": "simulated"}}, "models": {"chat": model}}))
    supervised = Overview(list, {}, gateway._web.post, SYSTEM_CLOCK, gateway.configuration)
    return {family.name: family for family in (*gateway.live.runtime.recorder.metrics.families(), *supervised.families())}


async def test_it_holds_every_metric_once_as_it_is(families: dict[str, Family]) -> None:
    listed = [shown for row in CATALOGUE.values() for shown in row]
    assert sorted(shown.metric for shown in listed) == sorted(families)
    for shown in listed:
        assert (shown.metric, shown.kind) == (shown.metric, families[shown.metric].kind)
        assert set(shown.by) <= set(families[shown.metric].labels), shown.metric


def test_the_shipped_dashboard_is_made_of_it() -> None:
    assert FILE.read_bytes() == dashboard(), "run: python -m agent_gateway.record.catalogue > deploy/grafana/dashboard.json"


def test_its_panels_do_not_overlap() -> None:
    panels = msgspec.json.decode(dashboard())["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_prometheus_understands_what_it_asks(tmp_path: Path) -> None:
    asked = [each for row in CATALOGUE.values() for shown in row for each in expressions(shown).values()]
    rules = [{"record": f"shown:{number}", "expr": each.replace("$__rate_interval", "1m")} for number, each in enumerate(asked)]
    (tmp_path / "rules.yaml").write_bytes(msgspec.json.encode({"groups": [{"name": "shown", "rules": rules}]}))
    done = promtool("check", "rules", str(tmp_path / "rules.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(PREFIX in each for each in asked)
