"""`/admin/v1/alerts` and `/admin/v1/slo`: what is shown, page by page, and that a silence is in the audit log."""

from __future__ import annotations

import pytest

from agent_gateway.core.errors import BadRequest, Forbidden, NotFound
from agent_gateway.record.family import Family
from agent_gateway.record.slo import OBJECTIVES
from tests.control.admin.conftest import AUDITOR, CLOCK, Stage
from tests.record.exchanges import attempt, exchange


def opened(stage: Stage, *deployments: str) -> None:
    """Their breakers, as the engine sees it."""
    breakers = Family("gauge", "breaker_state", "", ("deployment",), {(each,): 2.0 for each in deployments})
    stage.alerts.engine._read = lambda: [breakers]
    stage.alerts.engine.evaluate()


async def test_alerts_are_listed_and_silenced(stage: Stage) -> None:
    assert await stage.get("alerts") == {"data": [], "next": None}
    opened(stage, "sim/a", "sim/b", "sim/c")
    page = await stage.get("alerts", limit="2")
    assert [alert["state"] for alert in page["data"]] == ["firing", "firing"]
    rest = await stage.get("alerts", limit="2", cursor=page["next"])
    assert {alert["label"] for alert in page["data"] + rest["data"]} == {"sim/a", "sim/b", "sim/c"}
    assert rest["next"] is None
    assert (await stage.get("alerts", state="resolved"))["data"] == []
    place = f"alerts/{page['data'][0]['id']}/silence"
    status, silenced = await stage.ask("POST", place, {"for_s": 60})
    assert (status, silenced["silenced_until"]) == (200, "2025-10-09T08:56:00.000Z")
    entry = (await stage.entries())[0]
    assert (entry["action"], entry["target"]) == ("alerts.silence", f"breaker_open:{silenced['label']}")
    assert entry["after"] == {"silenced_until": "2025-10-09T08:56:00.000Z"}
    _, ended = await stage.ask("POST", place, {"for_s": 0})
    assert ended["silenced_until"] is None


async def test_what_cannot_be_is_refused(stage: Stage) -> None:
    with pytest.raises(NotFound, match="There is no alert 'alert_x'"):
        await stage.ask("POST", "alerts/alert_x/silence")
    with pytest.raises(BadRequest, match="cursor"):
        await stage.get("alerts", cursor="x")
    with pytest.raises(BadRequest, match="for_s"):
        await stage.ask("POST", "alerts/alert_x/silence", {"for_s": -1})
    with pytest.raises(Forbidden):
        await stage.ask("POST", "alerts/alert_x/silence", key=AUDITOR)
    with pytest.raises(BadRequest, match="until"):
        await stage.get("slo", since="1h", until="2h")


async def test_every_service_level_is_told_out_of_the_records(stage: Stage) -> None:
    await stage.recorder.start()
    for made in [exchange() for _ in range(9)] + [exchange(attempts=[attempt(outcome="provider_error")], status="degraded")]:
        stage.recorder.begin(made)
        stage.recorder.submit(made)
    await stage.recorder.close(10)
    stage.alerts.slo.look(stage.recorder.metrics.families(), CLOCK.monotonic())
    levels = {level["slo"]: level for level in (await stage.get("slo"))["data"]}
    assert list(levels) == [objective.name for objective in OBJECTIVES]
    assert (levels["availability"]["figure"], levels["availability"]["met"], levels["availability"]["count"]) == (0.9, False, 10)
    assert (levels["fallback_rate"]["figure"], levels["duration_p95"]["met"]) == (0.1, True)
    assert (levels["records_complete"]["figure"], levels["records_complete"]["count"]) == (1.0, 10)
    nothing = {level["slo"]: level for level in (await stage.get("slo", since="2024-01-01", until="2024-02-01"))["data"]}
    assert {level["met"] for level in nothing.values()} == {None}
