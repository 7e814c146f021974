"""Presets: what they set, and that everything else that is said goes over it."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from agent_gateway.control.presets import presets
from agent_gateway.core.settings import Preset, Settings
from tests.control.conftest import Load, Mistakes

FILE = """
providers: {local: {kind: openai, base_url: 'http://127.0.0.1:9/v1', api_key: x}}
models:
  chat.v2: {deployments: [{provider: local, model: m, price: {input: 1, output: 2}}]}
"""
NAMES = get_args(Preset)


def origins(load_text: Load, text: str, *rest: Any) -> dict[str, str | None]:
    return {item.path: item.overridden_by for item in load_text(FILE + text, *rest).preset}


def test_the_presets_are_those_that_can_be_asked_for() -> None:
    assert tuple(presets()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_sets_what_it_says_and_nothing_else(load_text: Load, name: str) -> None:
    configuration = load_text(FILE + f"preset: {name}")
    assert configuration.warnings == ()
    assert {item.overridden_by for item in configuration.preset} == {None}
    expected: Settings = msgspec.structs.replace(
        configuration.settings, **{field: getattr(Settings(), field) for field in presets()[name] if field != "model"}
    )
    written = load_text(FILE).settings
    same = [field for field in Settings.__struct_fields__ if field not in ("preset", "models")]
    assert [field for field in same if getattr(expected, field) != getattr(written, field)] == []
    for item in configuration.preset:
        if item.place[0] != "models":
            value: Any = configuration.settings
            for part in item.place:
                value = getattr(value, part)
            assert value == item.value, item.path
            route: Any = configuration.routes["chat.v2"]
            if hasattr(route, item.place[0]):
                for part in item.place:
                    route = getattr(route, part)
                assert route == item.value, item.path


def test_no_preset_sets_nothing(load_text: Load) -> None:
    assert load_text(FILE).preset == ()
    assert load_text(FILE + 'preset: "${WHICH:-}"').settings == load_text(FILE).settings
    assert load_text(FILE + 'preset: "${WHICH}"', {"WHICH": "support"}).settings.sessions.ttl_s == 3600


def test_a_setting_of_the_file_goes_over_it_and_its_neighbours_stay(load_text: Load) -> None:
    settings = load_text(FILE + "preset: support\ntimeouts: {first_token_s: 9}\nsessions:\n").settings
    assert (settings.timeouts.first_token_s, settings.timeouts.idle_s) == (9, 15)
    assert settings.sessions.ttl_s == 3600, "an empty section says nothing"
    told = origins(load_text, "preset: support\ntimeouts: {first_token_s: 9}")
    assert {path for path, by in told.items() if by == "the file"} == {"timeouts.first_token_s"}


def test_a_model_goes_over_it_for_itself(load_text: Load) -> None:
    text = FILE.replace("price: {input: 1, output: 2}}]", "price: {input: 1, output: 2}}], timeouts: {first_token_s: 9}")
    configuration = load_text(text + "preset: support")
    assert configuration.settings.timeouts.first_token_s == 5
    assert configuration.routes["chat.v2"].timeouts.first_token_s == 9
    assert configuration.routes["chat.v2"].timeouts.idle_s == 15


def test_the_environment_and_the_command_go_over_both(load_text: Load) -> None:
    environ = {"GATEWAY_TTL": "7200", "GATEWAY_STREAMING": "false"}
    text = "preset: support\nsessions: {ttl_s: 60}"
    configuration = load_text(FILE + text, environ, {"monitoring.mode": "minimal"})
    assert configuration.settings.sessions.ttl_s == 7200
    assert configuration.settings.streaming.enabled is False
    told = origins(load_text, text, environ, {"monitoring.mode": "minimal"})
    assert {path: by for path, by in told.items() if by is not None} == {
        "sessions.ttl_s": "GATEWAY_TTL",
        "streaming.enabled": "GATEWAY_STREAMING",
        "monitoring.mode": "--mode",
    }


def test_a_models_own_strategy_is_whole(load_text: Load) -> None:
    configuration = load_text(FILE + "preset: saver")
    assert configuration.routes["chat.v2"].strategy_settings.cost == 3
    text = FILE.replace("price: {input: 1, output: 2}}]", "price: {input: 1, output: 2}}], strategy: {kind: balanced, latency: 2}")
    configuration = load_text(text + "preset: saver")
    assert configuration.routes["chat.v2"].strategy_settings.cost == 1
    assert {item.path: item.overridden_by for item in configuration.preset}["models.chat.v2.strategy"] == "the file"


def test_what_a_preset_set_is_named_in_an_error(load_text: Load, mistakes: Mistakes) -> None:
    assert mistakes(FILE + "preset: support\nsessions: [1]") == ["sessions: a list is not a mapping of settings"]
    assert mistakes("preset: saver\nproviders: {sim: {kind: simulated}}\nmodels: {1: {}}") == [
        "models.1: names are texts; write it in quotes: '1'"
    ]
    warned = load_text(FILE + "preset: saver\nmonitoring: {mode: minimal}").warnings
    assert warned == (
        "cache.exact.enabled (set by preset: saver): does nothing: with monitoring.mode: minimal nothing of what is said is kept",
    )
