"""No secret of the configuration is shown, in whatever setting of whosever plug-in it stands."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.control.load import compile_mapping
from agent_gateway.control.masking import MASK, changed, masked
from agent_gateway.core.settings import Alerts, AlertWebhook, Auth, Guards, Server, Settings, State
from agent_gateway.guard.checks.webhook import Options
from agent_gateway.upstream.providers.openai import OpenAISettings

SECRET = "hunter2-0123456789"


WEBHOOK = Options(url=f"https://checks.example/{SECRET}?{SECRET}", secret=SECRET)
HOOK_SHOWN = {
    "kind": "webhook",
    "action": "block",
    "name": None,
    "url": "https://checks.example/…",
    "secret": MASK,
    "timeout_s": 1,
    "on_failure": "closed",
}


class Foreign(msgspec.Struct):
    """A third party's plug-in."""

    kind: str = "foreign"
    tenant: str = SECRET
    rate: float = 0.5


@pytest.mark.parametrize(
    ("settings", "path", "shown"),
    [
        (Settings(auth=Auth(admin_key=SECRET, audit_key=SECRET)), "auth.admin_key", MASK),
        (Settings(), "auth.admin_key", None),
        (Settings(state=State(database=f"postgresql://u:{SECRET}@h:5/d?password={SECRET}")), "state.database", "postgresql://…@h:5/d?…"),
        (Settings(state=State(redis=f"redis://:{SECRET}@h/0")), "state.redis", "redis://…@h/0"),
        (Settings(state=State(database=f"postgresql://u:a/{SECRET}?#{SECRET}@h:5/d")), "state.database", "postgresql://…@h:5/d"),
        (Settings(state=State(database="sqlite:////var/a@b.db")), "state.database", "sqlite:////var/a@b.db"),
        (Settings(alerts=Alerts(webhooks=(f"https://hooks.example/T0/{SECRET}",))), "alerts.webhooks", ["https://hooks.example/…"]),
        (
            Settings(alerts=Alerts(webhooks=(AlertWebhook(url=f"https://hooks.example/{SECRET}", secret=SECRET),))),
            "alerts.webhooks",
            [{"url": "https://hooks.example/…", "format": None, "secret": MASK}],
        ),
        (Settings(providers={"a": OpenAISettings(api_key=SECRET)}), "providers.a.api_key", MASK),
        (Settings(providers={"a": OpenAISettings(api_keys=(SECRET, SECRET))}), "providers.a.api_keys", [MASK, MASK]),
        (Settings(providers={"a": OpenAISettings(base_url="https://h/v1")}), "providers.a.base_url", "https://h/v1"),
        (Settings(providers={"a": OpenAISettings(key_header="x-key")}), "providers.a.key_header", "x-key"),
        (Settings(providers={"a": Foreign()}), "providers.a", {"kind": "foreign", "tenant": MASK, "rate": 0.5}),
        (Settings(guards=Guards(input=(WEBHOOK,))), "guards.input", [HOOK_SHOWN]),
        (Settings(providers={"a": {"headers": {"x-team": SECRET}}}), "providers.a.headers", {"x-team": MASK}),
    ],
)
def test_a_secret_is_masked_and_the_rest_is_shown(settings: Settings, path: str, shown: Any) -> None:
    told = masked(settings)
    assert SECRET not in str(told)
    for name in path.split("."):
        told = told[name]
    assert told == shown


SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text()


@given(st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_anything_can_be_shown(value: Any) -> None:
    assert msgspec.json.encode(masked(value))


def test_what_has_no_secrets_is_shown_as_it_is() -> None:
    model = {"deployments": [{"provider": "sim", "model": "small", "override": {"max_tokens": 5}, "price": {"input": 1, "output": 2}}]}
    settings = compile_mapping({"providers": {"sim": {"kind": "simulated"}}, "models": {"chat": model}}).settings
    shown = msgspec.convert(masked(settings), Settings)
    assert msgspec.structs.replace(shown, providers={}) == msgspec.structs.replace(settings, providers={})


def test_of_two_configurations_the_sections_that_differ_are_told() -> None:
    before = Settings(auth=Auth(admin_key=SECRET), server=Server(port=1))
    was, is_now = changed(before, Settings(auth=Auth(admin_key=f"{SECRET}-new"), server=Server(port=2)))
    assert was.keys() == is_now.keys() == {"auth", "server"}
    assert (was["server"]["port"], is_now["server"]["port"]) == (1, 2)
    assert SECRET not in str((was, is_now))
    assert changed(before, before) == ({}, {})
