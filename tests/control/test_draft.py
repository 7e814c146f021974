"""A draft is the running configuration without its secrets, and comes back as that configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Meta

from agent_gateway.control.draft import compile_draft, draft_of, unread
from agent_gateway.control.errors import ConfigurationError
from agent_gateway.control.load import compile_mapping, load
from agent_gateway.control.snapshot import Configuration
from agent_gateway.control.source import parse
from agent_gateway.control.yaml_text import yaml_of

SECRET = "hunter2-0123456789abcdef"
ENVIRON = {
    "OPENAI_API_KEY": f"sk-{SECRET}-openai",
    "ANTHROPIC_API_KEY": f"{SECRET}-anthropic",
    "GEMINI_API_KEY": f"{SECRET}-gemini",
    "GATEWAY_ADMIN_KEY": f"{SECRET}-admin",
    "GATEWAY_FALLBACK_MODEL": "backup",
    "GATEWAY_DATABASE_URL": f"postgresql://gateway:{SECRET}@db.example/gateway?application_name={SECRET}",
    "KEYS": f"{SECRET}-one,{SECRET}-two",
    "WEIGHT": "3",
    "OTHER_TOKEN": f"{SECRET}-of-somebody-else",
}
FILE = f"""
auth: {{admin_key: "${{GATEWAY_ADMIN_KEY:-}}", audit_key: {SECRET}-audit}}
state: {{redis: "redis://:{SECRET}@127.0.0.1:6379/0"}}
providers:
  openai: {{kind: openai, api_key: "${{OPENAI_API_KEY}}"}}
  local: {{kind: openai, base_url: http://127.0.0.1:9101/v1, api_keys: "${{KEYS}}"}}
  lan: {{kind: openai, base_url: http://127.0.0.1:9102/v1, api_key: {SECRET}-of-the-lan}}
  sim: {{kind: simulated}}
models:
  chat:
    strategy: weighted
    deployments:
      - {{provider: openai, model: gpt-4o-mini, weight: "${{WEIGHT:-1}}", price: {{input: 0.15, output: 0.6}}}}
      - {{provider: local, model: small, price: {{input: 1, output: 1}}, default: {{stop: "$${{end}}", seed: 7}}}}
    fallbacks: [backup]
  backup: {{deployments: [{{provider: sim, model: small, price: {{input: 1, output: 1}}}}]}}
alerts: {{webhooks: ["https://hooks.example/T0/{SECRET}", {{url: "https://x.example/{SECRET}", secret: {SECRET}-signs}}]}}
monitoring: {{mode: off}}
"""
OPTIONS = {"server.port": 9000, "server.host": None}


@pytest.fixture
def running(tmp_path: Path) -> Configuration:
    file = tmp_path / "gateway.yaml"
    file.write_text(FILE)
    return load(file, ENVIRON, options=OPTIONS)


def edited(running: Configuration, text: str) -> Configuration:
    return compile_draft(text, "A", running, ENVIRON, OPTIONS)


def mistakes(running: Configuration, text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        edited(running, text)
    return "\n".join(caught.value.errors)


def test_a_draft_holds_what_was_set_and_no_secret(running: Configuration) -> None:
    draft = draft_of(running, ENVIRON, OPTIONS)
    assert SECRET not in draft
    told = parse(draft, "draft")
    assert told["auth"] == {"admin_key": "${GATEWAY_ADMIN_KEY}", "audit_key": "…"}
    assert told["state"] == {"redis": "redis://…@127.0.0.1:6379/0", "database": "${GATEWAY_DATABASE_URL}"}
    assert [told["providers"][name].get("api_key") for name in ("openai", "lan", "sim")] == ["${OPENAI_API_KEY}", "…", None]
    assert told["providers"]["local"] == {"kind": "openai", "base_url": "http://127.0.0.1:9101/v1", "api_keys": "${KEYS}"}
    assert told["models"]["chat"]["deployments"][0]["weight"] == 3
    assert told["alerts"]["webhooks"] == ["https://hooks.example/…", {"url": "https://x.example/…", "secret": "…"}]
    assert (told["fallback"], told["server"], told["monitoring"]) == ({"model": "backup"}, {"port": 9000}, {"mode": "off"})
    assert "timeouts" not in told, "what was left out stays out"


def test_given_back_as_it_was_it_is_the_running_configuration(running: Configuration) -> None:
    draft = draft_of(running, ENVIRON, OPTIONS)
    back = edited(running, draft)
    assert back.settings == running.settings
    assert back.routes == running.routes
    assert draft_of(back, unread(ENVIRON), {}) == draft


def test_the_file_itself_is_taken_as_well(running: Configuration) -> None:
    back = edited(running, FILE)
    assert (back.settings.providers, back.settings.alerts) == (running.settings.providers, running.settings.alerts)
    assert back.routes["chat"].deployments == running.routes["chat"].deployments
    assert (back.settings.server.port, back.settings.fallback.model) == (8080, None), "what went over it is in the draft, not in the file"


def test_what_is_changed_is_changed_and_the_rest_stays(running: Configuration) -> None:
    told = parse(draft_of(running, ENVIRON, OPTIONS), "draft")
    told["models"]["chat"]["deployments"][0]["weight"] = 9
    told["providers"]["lan"]["base_url"] = "http://127.0.0.1:9999/v1"
    told["providers"]["new"] = told["providers"]["lan"]
    told["providers"]["typed"] = {"kind": "openai", "base_url": "http://127.0.0.1/v1", "api_key": f"{SECRET}-typed"}
    new = edited(running, yaml_of(told))
    assert new.routes["chat"].deployments[0].weight == 9
    assert new.settings.providers["lan"].api_key == f"{SECRET}-of-the-lan", "it is still that provider's"
    assert new.settings.providers["new"].api_key == "masked-as-it-was-given", "nobody's"
    assert SECRET not in draft_of(new, unread(ENVIRON), {})


def test_no_variable_is_read_wherever_it_is_named(running: Configuration) -> None:
    told = parse(draft_of(running, ENVIRON, OPTIONS), "draft")
    told["models"]["chat"]["deployments"][0]["model"] = "${OTHER_TOKEN}"
    told["models"]["chat"]["deployments"][1]["model"] = "${OPENAI_API_KEY}"
    told["providers"]["sim2"] = {"kind": "openai", "base_url": "http://127.0.0.1/v1", "api_key": "${ANTHROPIC_API_KEY}"}
    new = edited(running, yaml_of(told))
    assert [each.id for each in new.routes["chat"].deployments] == ["openai/${OTHER_TOKEN}", "local/${OPENAI_API_KEY}"]
    assert new.settings.providers["sim2"].api_key == "${ANTHROPIC_API_KEY}"
    assert SECRET not in draft_of(new, unread(ENVIRON), {})
    told["models"]["chat"]["deployments"][0] = {"provider": "sim", "model": "small", "weight": "${WEIGHT}", "price": "${NOT_THERE}"}
    said = mistakes(running, yaml_of(told))
    assert "models.chat.deployments[0].weight: the value of ${WEIGHT} is not a number" in said
    assert "models.chat.deployments[0].price: the environment variable NOT_THERE is not set" in said
    assert "A: reads no variables here" in said
    assert SECRET not in said


def test_a_provider_whose_key_is_a_known_variable_keeps_it() -> None:
    environ = {"GROQ_API_KEY": SECRET}
    written = "providers: {groq: {kind: groq}}\nmodels: {chat: {deployments: [{provider: groq, model: m, price: {input: 1, output: 1}}]}}\n"
    alone = compile_mapping({"providers": {"sim": {"kind": "simulated"}}})
    new = compile_draft(written, "A", alone, environ, {})
    assert new.settings.providers["groq"].api_key == "${GROQ_API_KEY}"
    with pytest.raises(ConfigurationError, match=r"providers.groq.api_key: is not set"):
        compile_draft(written, "A", alone, {}, {})


class Foreign:
    """A third party's provider, with a secret in a setting that does not look like one."""

    class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        kind: str = "foreign"
        tenant: str = ""
        region: Literal["eu", "us"] = "eu"
        size: Annotated[int, Meta(ge=1)] = 1

        def __post_init__(self) -> None:
            if self.size > 3:
                raise ValueError(f"tenant: {self.tenant} may not have so many")


def test_plug_ins_of_others_are_masked_whole_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    place = f"{__name__}:Foreign"
    monkeypatch.setattr("agent_gateway.core.plugins._installed", lambda seat: {"foreign": place} if seat == "providers" else {})
    running = compile_mapping({"providers": {"far": {"kind": "foreign", "tenant": SECRET, "region": "us", "size": 3}}})
    draft = draft_of(running, {}, {})
    assert parse(draft, "draft") == {"providers": {"far": {"kind": "foreign", "tenant": "…", "region": "…", "size": 3}}}
    assert compile_draft(draft, "A", running, {}, {}).settings == running.settings
    with pytest.raises(ConfigurationError) as caught:  # in a setting that errors quote
        compile_draft("providers: {far: {kind: simulated, tenant: …, ttft_ms: …}}", "A", running, {}, {})
    assert SECRET not in "\n".join(caught.value.errors)
    with pytest.raises(ConfigurationError) as caught:  # by a plug-in that does not know better
        compile_draft(draft.replace("size: 3", "size: 4"), "A", running, {}, {})
    assert caught.value.errors == ["providers.far.tenant: … may not have so many"]


def test_an_example_of_everything_comes_back() -> None:
    running = load(Path(__file__).with_name("example.yaml"), ENVIRON)
    draft = draft_of(running, ENVIRON, {})
    assert SECRET not in draft
    assert parse(draft, "draft")["preset"] == "support"
    assert compile_draft(draft, "A", running, ENVIRON, {}).settings == running.settings


def test_keys_of_the_environment_alone_are_a_draft_too() -> None:
    running = load(None, {"OPENAI_API_KEY": SECRET, "GATEWAY_CONFIG": ""})
    draft = draft_of(running, {"OPENAI_API_KEY": SECRET}, {})
    assert parse(draft, "draft") == {"providers": {"openai": {"kind": "openai", "api_key": "${OPENAI_API_KEY}"}}}
    assert compile_draft(draft, "A", running, {"OPENAI_API_KEY": SECRET}, {}).settings == running.settings


TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@example({"stop": "…", "note": "one moment…"})
@given(st.dictionaries(TEXT, TEXT | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.none()))
def test_whatever_stands_in_a_setting_comes_back(parameters: dict[str, Any]) -> None:
    override = {name: value for name, value in parameters.items() if "${" not in name and name not in ("model", "stream", "stream_options")}
    deployment = {"provider": "sim", "model": "small", "price": {"input": 1, "output": 1}, "override": _escaped(override)}
    running = compile_mapping({"providers": {"sim": {"kind": "simulated"}}, "models": {"chat": {"deployments": [deployment]}}})
    back = compile_draft(draft_of(running, {}, {}), "A", running, {}, {})
    assert back.settings == running.settings


def _escaped(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: value.replace("${", "$${") if isinstance(value, str) else value for name, value in parameters.items()}


def test_nothing_that_holds_itself_is_followed(running: Configuration) -> None:
    assert "nested more than 40 deep" in mistakes(running, "providers: &a {sim: *a}\nmodels: {chat: {deployments: &b [*b]}}")
