"""Configurations of LiteLLM's proxy become right ones of ours, and nothing in them is lost without a note."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from agent_gateway.control.litellm.conversion import Conversion, NotLiteLLM, convert, read
from agent_gateway.control.litellm.writing import yaml_text
from agent_gateway.control.load import load
from agent_gateway.control.source import parse
from tests.kit.documents import DOCS, blocks

FOLDER = Path(__file__).parent
FILES = sorted(FOLDER.glob("*.yaml"))
_VALUES = {
    "DATABASE_URL": "postgresql://user:password@host/database",
    "REDIS_HOST": "redis.internal",
    "REDIS_PORT": "6379",
    "SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T/B/X",
}


def environment(conversion: Conversion) -> dict[str, str]:
    """Something for every variable that the result reads."""
    return {name: _VALUES.get(name, "https://host.example" if "BASE" in name else "sk-0123456789abcdef") for name in conversion.variables}


def model_list(*entries: dict[str, Any], **sections: Any) -> dict[str, Any]:
    return {"model_list": [{"model_name": entry.pop("name", "chat"), "litellm_params": entry} for entry in entries], **sections}


def notes(conversion: Conversion) -> dict[str, str]:
    return {note.path: note.what for note in conversion.notes}


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_a_realistic_configuration_passes_check(file: Path, tmp_path: Path) -> None:
    conversion = convert(read(file))
    result = tmp_path / "gateway.yaml"
    result.write_text(yaml_text(conversion, file.name))
    configuration = load(result, environment(conversion))
    assert set(configuration.routes) == set(conversion.configuration["models"])
    assert parse(result.read_text(), "result") == conversion.configuration


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_every_setting_is_carried_over_or_noted(file: Path) -> None:
    """A setting that nobody knows is noted wherever it stands."""
    raw = read(file)
    places = [raw, *(raw.setdefault(name, {}) for name in ("router_settings", "litellm_settings", "general_settings"))]
    for entry in raw["model_list"]:
        places += [entry, entry["litellm_params"], entry.setdefault("model_info", {})]
    for number, place in enumerate(places):
        place[f"unheard_of_{number}"] = 1
    told = "\n".join(map(str, convert(raw).notes))
    left_out = len(re.findall(r"The deployment is left out|is not served, but", told))
    assert len(set(re.findall(r"unheard_of_\d+", told))) >= len(places) - 2 * left_out


def test_the_example_of_the_document_is_what_comes_out() -> None:
    theirs, ours = [block.text for block in blocks([DOCS / "migrating-from-litellm.md"]) if block.language in ("yml", "yaml")]
    assert convert(parse(theirs, "theirs")).configuration == parse(ours, "ours")


def test_deployments_share_a_name_and_weights_come_from_their_figures() -> None:
    raw = model_list(
        {"model": "openai/gpt-4o", "api_key": "os.environ/A", "rpm": 300},
        {"model": "openai/gpt-4o", "api_key": "os.environ/B", "rpm": 100},
    )
    found = convert(raw)
    assert found.configuration["providers"] == {
        "openai": {"kind": "openai", "api_key": "${A}"},
        "openai-2": {"kind": "openai", "api_key": "${B}"},
    }
    model = found.configuration["models"]["chat"]
    assert model["strategy"] == "weighted"
    assert [deployment["weight"] for deployment in model["deployments"]] == [300, 100]
    assert "models.chat.limits" in notes(found)["model_list: rpm of chat"]


def test_figures_are_bounds_with_a_strategy_that_holds_them() -> None:
    raw = model_list(
        {"model": "openai/a", "rpm": 300, "tpm": 1000},
        {"model": "openai/b", "rpm": 100},
        router_settings={"routing_strategy": "usage-based-routing-v2"},
    )
    found = convert(raw)
    assert found.configuration["models"]["chat"]["limits"] == {"requests_per_minute": 400}
    assert found.configuration["models"]["chat"]["strategy"] == "balanced"
    assert "one limit" in notes(found)["model_list: tpm of chat"]


def test_what_is_there_twice_becomes_one() -> None:
    found = convert(model_list({"model": "openai/a", "weight": 1}, {"model": "openai/a", "weight": 2}, {"model": "openai/b", "weight": 1}))
    assert found.configuration["models"]["chat"]["deployments"] == [
        {"provider": "openai", "model": "a", "weight": 3},
        {"provider": "openai", "model": "b", "weight": 1},
    ]


def test_an_order_is_a_strategy() -> None:
    found = convert(model_list({"model": "openai/b", "order": 2}, {"model": "openai/a", "order": 1}))
    assert found.configuration["models"]["chat"]["strategy"] == "priority"
    assert [each["model"] for each in found.configuration["models"]["chat"]["deployments"]] == ["a", "b"]


def test_fallbacks_of_every_kind_are_one_chain() -> None:
    raw = model_list(
        {"name": "a", "model": "openai/a"},
        {"name": "b", "model": "openai/b"},
        {"name": "c", "model": "openai/c"},
        router_settings={"fallbacks": [{"a": ["b", "nowhere"]}], "content_policy_fallbacks": [{"a": ["c"]}], "num_retries": 1},
        litellm_settings={"default_fallbacks": ["c"]},
    )
    found = convert(raw)
    models = found.configuration["models"]
    assert models["a"]["fallbacks"] == ["b", "c"]
    assert models["a"]["fallback"] == {"on_content_filter": "next"}
    assert models["a"]["retries"] == {"max_attempts": 4}
    assert models["b"]["fallbacks"] == ["c"]
    assert "fallbacks" not in models["c"]
    assert "nowhere" in "".join(note.value or "" for note in found.notes)


@pytest.mark.parametrize(
    ("address", "kind", "base_url"),
    [
        ("https://x.openai.azure.com/", "azure", "https://x.openai.azure.com/openai/v1"),
        ("https://x.openai.azure.com/openai/v1", "azure", "https://x.openai.azure.com/openai/v1"),
        ("http://127.0.0.1:11434", "ollama", "http://127.0.0.1:11434/v1"),
        ("http://10.0.0.7:8000/v1/", "hosted_vllm", "http://10.0.0.7:8000/v1"),
        ("https://host.example/v1/chat/completions", "openai", "https://host.example/v1"),
        ("os.environ/BASE", "azure", "${BASE}/openai/v1"),
    ],
)
def test_an_address_ends_where_ours_does(address: str, kind: str, base_url: str) -> None:
    found = convert(model_list({"model": f"{kind}/m", "api_base": address, "api_key": "x"}))
    assert [each["base_url"] for each in found.configuration["providers"].values()] == [base_url]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("bedrock/anthropic.claude-v2", "Amazon Bedrock"),
        ("vertex_ai/gemini-2.5-pro", "Google AI Studio"),
        ("replicate/meta/llama", "OpenAI's API"),
        ("my-own-model", "says no provider"),
        ("openai/dall-e-3", "is not served"),
    ],
)
def test_a_provider_that_there_is_not_is_told(model: str, said: str) -> None:
    found = convert(model_list({"model": model}, {"name": "other", "model": "openai/gpt-4o"}))
    assert said in notes(found)["model_list[0].litellm_params.model"]
    assert list(found.configuration["models"]) == ["other"]


def test_prompts_are_kept_only_where_they_were() -> None:
    entry = {"model": "openai/gpt-4o"}
    assert convert(model_list(dict(entry))).configuration["monitoring"] == {"mode": "minimal"}
    kept = model_list(dict(entry), general_settings={"store_prompts_in_spend_logs": True, "maximum_spend_logs_retention_period": "14d"})
    assert convert(kept).configuration["monitoring"] == {"retention_days": 14}


def test_no_secret_is_shown_in_a_note() -> None:
    raw = model_list(
        {"model": "openai/a", "api_key": "sk-provider-secret", "extra_headers": {"authorization": "hidden-header"}},
        general_settings={"master_key": "sk-master-secret", "database_url": "postgres://u:hidden-password@h/d?x=1"},
        litellm_settings={"langfuse_secret": "hidden-langfuse"},
    )
    found = convert(raw)
    assert not re.search("provider-secret|master-secret|hidden", "\n".join(map(str, found.notes)))
    assert found.configuration["state"]["database"] == "postgresql://u:hidden-password@h/d"


def test_a_dollar_stays_a_dollar() -> None:
    found = convert(model_list({"model": "openai/a", "api_key": "pa${ss", "user": "os.environ/WHO"}))
    assert found.configuration["providers"]["openai"]["api_key"] == "pa$${ss"
    assert found.variables == ("WHO",)


def test_files_that_are_included_count(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text(
        "model_list: [{model_name: b, litellm_params: {model: openai/b}}]\ngeneral_settings: {master_key: x}"
    )
    main = tmp_path / "config.yaml"
    main.write_text(
        "include: [models.yaml]\nmodel_list: [{model_name: a, litellm_params: {model: openai/a}}]\ngeneral_settings: {master_key: y}"
    )
    found = convert(read(main))
    assert list(found.configuration["models"]) == ["a", "b"]
    assert found.configuration["auth"] == {"admin_key": "y"}


@pytest.mark.parametrize("raw", [{}, {"model_list": {}}, {"providers": {}}, model_list({"model": "sagemaker/x"})])
def test_what_is_no_configuration_of_litellm_is_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(NotLiteLLM, match="model_list"):
        convert(raw)
