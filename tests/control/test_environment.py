"""`GATEWAY_*` over the file."""

from __future__ import annotations

from typing import Any

import pytest

from agent_gateway.control.environment import VARIABLES
from agent_gateway.control.errors import ConfigurationError
from agent_gateway.control.load import load
from agent_gateway.core.settings import Settings
from tests.control.conftest import Load, Mistakes

FILE = "providers: {local: {kind: openai, base_url: 'http://127.0.0.1:9/v1', api_key: x}}\n"


def setting(settings: Settings, path: str) -> Any:
    section, _, name = path.partition(".")
    return getattr(getattr(settings, section), name)


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("GATEWAY_STREAMING", "false", False),
        ("GATEWAY_STREAMING", "TRUE", True),
        ("GATEWAY_STREAMING", "0", False),
        ("GATEWAY_STREAMING", " on ", True),
        ("GATEWAY_TTL", "86400", 86400),
        ("GATEWAY_MONITORING", "true", "full"),
        ("GATEWAY_MONITORING", "no", "off"),
        ("GATEWAY_MONITORING", "minimal", "minimal"),
        ("GATEWAY_FALLBACK_MODEL", "local/small", "local/small"),
        ("GATEWAY_BATCH_SIZE", "64", 64),
        ("GATEWAY_DATABASE_URL", "sqlite:////var/lib/gateway.db", "sqlite:////var/lib/gateway.db"),
        ("GATEWAY_REDIS_URL", "redis://elsewhere:6379/1", "redis://elsewhere:6379/1"),
        ("GATEWAY_ADMIN_KEY", "sk-admin-0123456789", "sk-admin-0123456789"),
    ],
)
def test_a_variable_is_over_the_file(load_text: Load, variable: str, text: str, value: object) -> None:
    path = VARIABLES[variable]
    in_file = {
        "streaming.enabled": "streaming: {enabled: true}",
        "monitoring.mode": "monitoring: {mode: off}",
        "auth.admin_key": "auth: {admin_key: other}",
        "state.database": "state: {database: 'sqlite:///other.db'}",
        "state.redis": "state: {redis: 'redis://other:6379/0'}",
    }.get(path, "")
    assert setting(load_text(FILE + in_file, {variable: text}).settings, path) == value


def test_the_variables_are_those_of_the_public_interface() -> None:
    """`GATEWAY_CONFIG` beside them. Renaming one breaks whoever has it in a manifest."""
    assert set(VARIABLES) == {
        "GATEWAY_STREAMING",
        "GATEWAY_TTL",
        "GATEWAY_MONITORING",
        "GATEWAY_FALLBACK_MODEL",
        "GATEWAY_BATCH_SIZE",
        "GATEWAY_DATABASE_URL",
        "GATEWAY_REDIS_URL",
        "GATEWAY_ADMIN_KEY",
    }


@pytest.mark.parametrize(
    ("variable", "text", "error"),
    [
        (
            "GATEWAY_STREAMING",
            "maybe",
            "streaming.enabled (set by GATEWAY_STREAMING): the value of GATEWAY_STREAMING is not a yes or no; use true or false",
        ),
        ("GATEWAY_MONITORING", "ful", "monitoring.mode (set by GATEWAY_MONITORING): 'ful' is not one of full, minimal, off"),
        ("GATEWAY_TTL", "1h", "sessions.ttl_s (set by GATEWAY_TTL): the value of GATEWAY_TTL is not a number"),
        (
            "GATEWAY_BATCH_SIZE",
            "0",
            "batching.max_size (set by GATEWAY_BATCH_SIZE): the value of GATEWAY_BATCH_SIZE is too small; at least 1",
        ),
        (
            "GATEWAY_FALLBACK_MODEL",
            "gpt-4.5",
            (
                "fallback.model (set by GATEWAY_FALLBACK_MODEL): 'gpt-4.5' is not under models, "
                "nor a known model of a provider with a key; there are none"
            ),
        ),
    ],
)
def test_a_wrong_variable_is_named(mistakes: Mistakes, variable: str, text: str, error: str) -> None:
    assert mistakes(FILE, {variable: text}) == [error]


@pytest.mark.parametrize("variable", VARIABLES)
def test_an_empty_variable_counts_as_not_set(load_text: Load, variable: str) -> None:
    assert load_text(FILE, {variable: ""}).settings == load_text(FILE).settings


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("GATEWAY_STREAMNG", "GATEWAY_STREAMING"),
        ("GATEWAY_ADMINKEY", "GATEWAY_ADMIN_KEY"),
        ("GATEWAY_MONITOR", "GATEWAY_MONITORING"),
        ("GATEWAY_URL", None),
        ("GATEWAY_PORT", None),
        ("GATEWAY_REDIS_PORT", None),
        ("GATEWAY_REDIS_SERVICE_HOST", None),
    ],
)
def test_a_mistyped_variable_is_told(load_text: Load, variable: str, meant: str | None) -> None:
    told = [warning for warning in load_text(FILE, {variable: "secret"}).warnings if warning.startswith("GATEWAY_")]
    assert told == ([] if meant is None else [f"{variable}: is no variable of the gateway's; did you mean {meant}?"])


def test_yes_does_not_undo_the_promise_to_keep_no_user_data(load_text: Load) -> None:
    minimal = FILE + "monitoring: {mode: minimal}"
    assert load_text(minimal, {"GATEWAY_MONITORING": "true"}).settings.monitoring.mode == "minimal"
    assert load_text(minimal, {"GATEWAY_MONITORING": "full"}).settings.monitoring.mode == "full"


def test_a_section_that_is_no_mapping_is_reported_as_such(mistakes: Mistakes) -> None:
    assert mistakes(FILE + "streaming: [1]", {"GATEWAY_STREAMING": "true"}) == ["streaming: a list is not a mapping of settings"]


def test_the_file_that_the_environment_names_must_be_there() -> None:
    with pytest.raises(ConfigurationError, match=r"missing\.yaml: is not a file; GATEWAY_CONFIG must name one"):
        load(None, {"GATEWAY_CONFIG": "missing.yaml"})
