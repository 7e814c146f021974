"""How an alert is told outside: one shape for the admin API and for webhooks, and Slack's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from agent_gateway.core.clock import told
from agent_gateway.record.alerting.engine import Alert, Change
from agent_gateway.record.alerting.rules import Severity

#: Alerts that a message for Slack tells one by one.
SLACK_MAX = 20

_COLOURS = {"critical": "#d92d20", "warning": "#f79009", "resolved": "#12b76a"}
_json = msgspec.json.Encoder()


class AlertShown(Struct, frozen=True, kw_only=True):
    id: str
    state: Literal["firing", "resolved"]
    rule: str
    severity: Severity
    #: What it is about: a model, a deployment, a sink, an account; "" for the whole gateway.
    label: str
    text: str
    advice: str
    #: Shares are 0–1, costs in USD.
    value: float
    threshold: float
    began_at: str
    ended_at: str | None
    silenced_until: str | None


class Notice(Struct, frozen=True):
    """What a generic webhook is sent."""

    gateway: str
    at: str
    alerts: list[AlertShown]


def shown(alert: Alert) -> AlertShown:
    values = {name: getattr(alert, name) for name in ("id", "rule", "severity", "label", "text", "advice", "value", "threshold")}
    return AlertShown(
        **values,
        state="firing" if alert.ended is None else "resolved",
        began_at=told(alert.began),
        ended_at=told(alert.ended),
        silenced_until=told(alert.silenced_until),
    )


def generic(changes: Sequence[Change], gateway: str, wall: float) -> bytes:
    return _json.encode(Notice(gateway, told(wall), [shown(change.alert) for change in changes]))


def slack(changes: Sequence[Change], gateway: str, wall: float) -> bytes:
    """For Slack's incoming webhooks, and what is compatible with them."""
    firing = sum(change.what == "firing" for change in changes)
    counts = [f"{count} {word}" for count, word in ((firing, "firing"), (len(changes) - firing, "resolved")) if count]
    attachments: list[dict[str, Any]] = [_attachment(change) for change in changes[:SLACK_MAX]]
    if len(changes) > SLACK_MAX:
        attachments.append({"text": f"… and {len(changes) - SLACK_MAX} more: GET /admin/v1/alerts"})
    return _json.encode({"text": f"agent-gateway on {_escaped(gateway)}: {', '.join(counts)}", "attachments": attachments})


def _attachment(change: Change) -> dict[str, Any]:
    alert = change.alert
    what = f"*{alert.rule}* {alert.severity}" if change.what == "firing" else f"*{alert.rule}* resolved"
    text = f"{what}\n{_escaped(alert.text)}"
    return {
        "color": _COLOURS[alert.severity if change.what == "firing" else "resolved"],
        "text": f"{text}\n{_escaped(alert.advice)}" if change.what == "firing" else text,
        "mrkdwn_in": ["text"],
        "ts": int(alert.began if alert.ended is None else alert.ended),
    }


def _escaped(text: str) -> str:
    """What Slack would take for its own signs."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
