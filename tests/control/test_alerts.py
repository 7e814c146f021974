"""Alerts in a configuration: webhooks and rules, every mistake with its path."""

from __future__ import annotations

import pytest

from agent_gateway.core.settings import AlertRule, AlertWebhook
from tests.control.conftest import Load, Mistakes

FILE = "providers: {sim: {kind: simulated}}\nalerts: {%s}\n"


@pytest.mark.parametrize(
    ("alerts", "error"),
    [
        ("webhooks: [hooks.example]", "alerts.webhooks[0]: is not an address; use https://…"),
        ("webhooks: ['https://h/', 'https://u:p@h/']", "alerts.webhooks[1]: holds a user or a fragment"),
        ("webhooks: [{url: 'ftp://h/'}]", "alerts.webhooks[0].url: is not an address"),
        ("webhooks: [{url: 'https://h/', secret: short}]", "alerts.webhooks[0].secret: is shorter than 16 characters"),
        ("webhooks: [{url: 'https://h/', format: teams}]", "alerts.webhooks[0].format: the text is not one of generic, slack"),
        ("webhooks: [{secret: a-secret-of-16-or-more}]", "alerts.webhooks[0].url: is missing; it has no default"),
        ("rules: {eror_fast: {enabled: false}}", "alerts.rules.eror_fast: there is no such rule; did you mean errors_fast?"),
        ("rules: {cost: {bound_s: 5}}", "alerts.rules.cost.bound_s: is of rules about times; this one has a threshold only"),
        ("rules: {latency: {bound_s: 7}}", "alerts.rules.latency.bound_s: 7 is no bound of the histogram's buckets; use one of 0.1, 0.25"),
        ("rules: {latency: {threshold: 0}}", "alerts.rules.latency.threshold: 0"),
        (
            "rules: {latency: {threshold: 5}}",
            "alerts.rules.latency.threshold: 5 is never exceeded, for it is a share; give a number below 1",
        ),
        ("rules: {latency: {treshold: 1}}", "alerts.rules.latency.treshold: is not a setting"),
    ],
)
def test_a_mistake_is_told_with_its_path(mistakes: Mistakes, alerts: str, error: str) -> None:
    (told,) = mistakes(FILE % alerts)
    assert told.startswith(error), told


def test_both_ways_to_write_a_webhook(load_text: Load) -> None:
    hooks = "webhooks: ['https://a.example/x', {url: 'https://b.example/', format: slack, secret: '${ALERT_SECRET}'}]"
    settings = load_text(FILE % f"{hooks}, rules: {{latency: {{bound_s: 10}}}}", {"ALERT_SECRET": "a-secret-of-16-or-more"}).settings
    assert settings.alerts.webhooks == (
        "https://a.example/x",
        AlertWebhook(url="https://b.example/", format="slack", secret="a-secret-of-16-or-more"),
    )
    assert settings.alerts.rules == {"latency": AlertRule(bound_s=10)}
