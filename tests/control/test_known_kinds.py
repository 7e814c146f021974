"""Kinds of provider that are a row of `upstream/known_providers.toml`, in a configuration; and what is known of their models."""

from __future__ import annotations

from typing import Any

import pytest

from agent_gateway.core.route import Deployment
from agent_gateway.upstream.known_providers import KnownProvider, known_providers
from agent_gateway.upstream.providers.openai import OpenAISettings
from tests.control.conftest import Load, Mistakes

GROQ_KEY = {"GROQ_API_KEY": "gsk-0123456789"}
PRICED = "price: {input: 0, output: 0}"


def provider(load_text: Load, settings: str, environ: dict[str, str] | None = None) -> Any:
    return load_text(f"providers: {{x: {settings}}}", environ).settings.providers["x"]


def deployment(load_text: Load, settings: str, model: str, more: str = "") -> Deployment:
    text = f"providers: {{x: {settings}}}\nmodels: {{chat: {{deployments: [{{provider: x, model: {model}, {PRICED}, {more}}}]}}}}"
    return load_text(text).routes["chat"].deployments[0]


@pytest.mark.parametrize("row", [row for row in known_providers() if row.kind not in ("anthropic", "gemini")], ids=lambda row: row.kind)
def test_every_row_is_a_kind_that_needs_no_more_than_its_key(load_text: Load, row: KnownProvider) -> None:
    address = "" if row.base_url else f", base_url: '{row.address}'"
    key = ", api_key: x" if row.kind == "openai" else ""
    made = provider(load_text, f"{{kind: {row.kind}{address}{key}}}", {row.key: "from-its-variable"} if row.key else {})
    assert isinstance(made, OpenAISettings)
    assert made.base_url == (row.base_url or row.address)
    assert made.keys == (() if row.key is None else ("x",) if key else ("from-its-variable",))
    assert (made.key_header, made.output_limit_field, made.lacks) == (row.key_header, row.output_limit_field, row.lacks)


def test_what_is_written_is_over_what_is_known(load_text: Load) -> None:
    written = "{kind: groq, base_url: 'https://eu.example.com/v1', api_keys: [a, b], lacks: [], output_limit_field: max_tokens}"
    made = provider(load_text, written, GROQ_KEY)
    assert (made.base_url, made.keys, made.lacks, made.output_limit_field) == ("https://eu.example.com/v1", ("a", "b"), (), "max_tokens")


def test_an_openai_at_a_known_address_has_what_is_known_of_it_but_no_key_by_itself(load_text: Load) -> None:
    made = provider(load_text, "{kind: openai, base_url: 'https://api.groq.com/openai/v1'}", GROQ_KEY | {"OPENAI_API_KEY": "sk-01234567"})
    assert (made.kind, made.keys, made.output_limit_field) == ("openai", (), "max_completion_tokens")
    assert "embeddings" in made.lacks


def test_a_server_of_ones_own_is_taken_as_it_is(load_text: Load) -> None:
    made = provider(load_text, "{kind: openai, base_url: 'http://127.0.0.1:8000/v1'}", {"OPENAI_API_KEY": "sk-01234567"})
    assert (made.keys, made.lacks, made.output_limit_field, made.key_header) == ((), (), "max_tokens", "authorization")


def test_a_key_from_its_variable_is_never_shown(load_text: Load, mistakes: Mistakes) -> None:
    (error,) = mistakes("providers: {x: {kind: groq}}", {"GROQ_API_KEY": "geheimer schlüssel"})
    assert error.startswith("providers.x.api_key (set by GROQ_API_KEY): holds characters that cannot go into a header")
    assert "schlüssel" not in error
    assert "gsk-" not in repr(provider(load_text, "{kind: groq}", GROQ_KEY))


def test_an_empty_variable_counts_as_not_set(mistakes: Mistakes) -> None:
    (error,) = mistakes("providers: {x: {kind: groq}}", {"GROQ_API_KEY": ""})
    assert error == "providers.x.api_key: is not set; this provider answers nobody without one; write ${GROQ_API_KEY}"


def test_a_provider_elsewhere_may_do_without_a_key(load_text: Load) -> None:
    for kind in ("anthropic", "gemini", "groq", "openai"):
        assert provider(load_text, f"{{kind: {kind}, base_url: 'http://127.0.0.1:9'}}").keys == ()


# --- and its models ---------------------------------------------------------------------------------------------------

LOCAL = "{kind: openai, base_url: 'http://127.0.0.1:9/v1'}"
OPENAI = "{kind: openai, api_key: x}"
ANTHROPIC = "{kind: anthropic, api_key: x}"


@pytest.mark.parametrize(
    ("settings", "model", "more", "lacks"),
    [
        (LOCAL, "m", "", set()),
        (LOCAL, "m", "lacks: [vision, tools]", {"vision", "tools"}),
        (LOCAL, "m", "lacks: []", set()),
        (LOCAL.replace("}", ", lacks: [audio, embeddings]}"), "m", "", {"audio"}),
        (LOCAL.replace("}", ", lacks: [audio]}"), "m", "lacks: [vision]", {"vision"}),
        ("{kind: deepseek, api_key: x}", "deepseek-chat", "", {"vision", "documents", "audio", "json_schema"}),
        ("{kind: deepseek, api_key: x}", "deepseek-chat", "lacks: []", set()),
        (ANTHROPIC, "claude-sonnet-5", "", {"audio"}),
        (OPENAI, "gpt-4o", "", {"audio", "reasoning"}),
        ("{kind: simulated}", "small", "", set()),
    ],
)
def test_what_a_deployment_lacks_is_configured_or_known(load_text: Load, settings: str, model: str, more: str, lacks: set[str]) -> None:
    assert deployment(load_text, settings, model, more).lacks == lacks


@pytest.mark.parametrize(
    ("settings", "model", "more", "style"),
    [
        (ANTHROPIC, "claude-sonnet-4-5", "", "plain"),
        (ANTHROPIC, "claude-opus-4-6", "", None),
        (ANTHROPIC, "claude-sonnet-4-5", "prefill: off", None),
        ("{kind: mistral, api_key: x}", "mistral-large-latest", "", "prefix"),
        ("{kind: openai, base_url: 'https://api.mistral.ai/v1', api_key: x}", "mistral-large-latest", "", "prefix"),
        ("{kind: vllm}", "m", "", "continue_final_message"),
        (LOCAL, "m", "", None),
        (LOCAL, "m", "prefill: plain", "plain"),
        ("{kind: simulated}", "small", "", "plain"),
    ],
)
def test_how_a_deployment_carries_on_is_configured_or_known(
    load_text: Load, settings: str, model: str, more: str, style: str | None
) -> None:
    assert deployment(load_text, settings, model, more).prefill == style


@pytest.mark.parametrize(
    ("settings", "model", "only_responses", "limit"),
    [
        (OPENAI, "gpt-5-codex", True, "max_completion_tokens"),
        (OPENAI, "gpt-5", False, "max_completion_tokens"),
        (LOCAL, "gpt-5-codex", False, "max_tokens"),
        ("{kind: mistral, api_key: x}", "m", False, "max_tokens"),
        (ANTHROPIC, "claude-sonnet-5", False, "max_completion_tokens"),
    ],
)
def test_a_deployment_knows_its_providers_ways(load_text: Load, settings: str, model: str, only_responses: bool, limit: str) -> None:
    made = deployment(load_text, settings, model)
    assert (made.only_responses, made.output_limit_field) == (only_responses, limit)
