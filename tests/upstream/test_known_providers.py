"""What is known of providers: rows that are whole, facts that are right, and nothing believed of an address that anyone may have."""

from __future__ import annotations

import re
from typing import get_args
from urllib.parse import urlsplit

import msgspec
import pytest
from openai.types.shared.chat_model import ChatModel
from openai.types.shared.responses_model import ResponsesModel

from agent_gateway.batch.native.base import BATCH_APIS
from agent_gateway.control.environment import PROVIDER_KEYS
from agent_gateway.upstream.base import PROVIDERS
from agent_gateway.upstream.known_providers import Facts, KnownModels, KnownProvider, known_batches, known_provider, known_providers
from agent_gateway.upstream.providers.openai import OpenAIProvider

ROWS = known_providers()
MODELS = [pytest.param(models, id=f"{row.kind}-{number}") for row in ROWS for number, models in enumerate(row.models)]

every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.kind)


def facts(kind: str, model: str, base_url: str | None = None) -> Facts:
    row = known_provider(kind, base_url)
    return Facts() if row is None else row.of_model(model)


# --- the rows ---------------------------------------------------------------------------------------------------------


def test_a_kind_has_one_row() -> None:
    kinds = [row.kind for row in ROWS]
    assert len(kinds) == len(set(kinds))
    assert set(PROVIDERS.table) - set(kinds) == {"simulated"}


@every_row
def test_a_row_is_whole(row: KnownProvider) -> None:
    assert re.fullmatch(r"[a-z]+", row.kind)
    assert row.docs.startswith("https://")
    assert (row.base_url is None) == (row.address is not None)
    address = urlsplit(row.base_url or row.address or "")
    assert address.path == address.path.rstrip("/")
    assert address.scheme == "https" or address.hostname == "127.0.0.1"
    assert row.key is None or re.fullmatch(r"[A-Z]+(_[A-Z]+)*_(KEY|TOKEN)", row.key)
    assert (row.key is None) == (address.hostname == "127.0.0.1"), "whoever is not one's own asks for a key"


@every_row
def test_a_row_makes_a_provider(row: KnownProvider) -> None:
    plugin = PROVIDERS.load(row.kind)
    given = {"kind": row.kind, "base_url": row.base_url or row.address}
    if row.kind in PROVIDERS.table:
        assert row.base_url == plugin.Settings().base_url
    else:
        assert plugin is OpenAIProvider
        given |= row.defaults()
    assert msgspec.convert(given, plugin.Settings).kind == row.kind


@pytest.mark.parametrize("models", MODELS)
def test_every_fact_has_its_source(models: KnownModels) -> None:
    assert models.source.startswith("https://")
    re.compile(models.match)
    assert models.lacks or models.prefill or models.only_responses, "a row that tells nothing"


def test_a_start_from_the_environment_alone_reads_the_same_variables() -> None:
    assert {row.kind: row.key for row in ROWS if row.kind in PROVIDERS.table} == {kind: name for name, kind in PROVIDER_KEYS.items()}


def test_the_seat_knows_rows_as_kinds_but_loads_plug_ins_without_reading_them() -> None:
    assert PROVIDERS.names[:4] == list(PROVIDERS.table)
    assert "groq" in PROVIDERS.names
    assert PROVIDERS.load("groq") is PROVIDERS.load("openai")
    with pytest.raises(KeyError, match=r"'grok' is not one of openai, .*groq"):
        PROVIDERS.load("grok")


# --- whose address ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "base_url", "row"),
    [
        ("openai", "https://api.openai.com/v1", "openai"),
        ("openai", "https://api.openai.com:443/v1/", "openai"),
        ("openai", "https://api.groq.com/openai/v1", "groq"),
        ("openai", "https://eu.api.groq.com/openai/v1", "groq"),
        ("openai", "https://my-resource.openai.azure.com/openai/v1", "azure"),
        ("openai", "https://dashscope.aliyuncs.com/compatible-mode/v1", "dashscope"),
        ("openai", "https://evilapi.groq.com", None),
        ("openai", "https://api.groq.com.example.com", None),
        ("openai", "http://api.groq.com/openai/v1", None),
        ("openai", "https://api.groq.com:8443/openai/v1", None),
        ("openai", "http://127.0.0.1:8000/v1", None),
        ("openai", "not an address", None),
        ("openai", "", None),
        ("openai", None, None),
        ("groq", "https://proxy.example.com/groq", "groq"),
        ("vllm", "http://10.0.0.7:8000/v1", "vllm"),
        ("anthropic", "http://127.0.0.1:1", "anthropic"),
        ("simulated", None, None),
        ("third_party", "https://api.openai.com/v1", None),
    ],
)
def test_a_row_is_found_by_its_kind_or_of_an_openai_by_its_address(kind: str, base_url: str | None, row: str | None) -> None:
    found = known_provider(kind, base_url)
    assert (found.kind if found else None) == row


# --- facts of models --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "model", "style"),
    [
        ("mistral", "mistral-large-latest", "prefix"),
        ("deepseek", "deepseek-chat", "prefix"),
        ("deepseek", "deepseek-reasoner", None),
        ("openrouter", "meta-llama/llama-3", "plain"),
        ("openrouter", "anthropic/claude-3.5-haiku", "plain"),
        ("openrouter", "anthropic/claude-sonnet-4.5", "plain"),
        ("openrouter", "anthropic/claude-opus-4.6", None),
        ("openrouter", "anthropic/claude-sonnet-5", None),
        ("openrouter", "openai/gpt-4o", None),
        ("openrouter", "google/gemini-2.5-flash", None),
        ("groq", "llama-3.3-70b", "plain"),
        ("vllm", "anything", "continue_final_message"),
        ("anthropic", "claude-instant-1.2", "plain"),
        ("anthropic", "claude-2.1", "plain"),
        ("anthropic", "claude-3-5-sonnet-20241022", "plain"),
        ("anthropic", "claude-3-7-sonnet-latest", "plain"),
        ("anthropic", "claude-sonnet-4-20250514", "plain"),
        ("anthropic", "claude-opus-4-0", "plain"),
        ("anthropic", "claude-opus-4-1-20250805", "plain"),
        ("anthropic", "claude-sonnet-4-5", "plain"),
        ("anthropic", "claude-haiku-4-5-20251001", "plain"),
        ("anthropic", "claude-opus-4-5-20251101", "plain"),
        ("anthropic", "claude-opus-4-6", None),
        ("anthropic", "claude-sonnet-4-6", None),
        ("anthropic", "claude-opus-4-8", None),
        ("anthropic", "claude-sonnet-5", None),
        ("anthropic", "claude-haiku-5-5", None),
        ("anthropic", "claude-mythos-preview", None),
        ("gemini", "gemini-2.5-flash", None),
        ("cerebras", "llama-3.3-70b", None),
    ],
)
def test_who_carries_on_from_a_begun_text(kind: str, model: str, style: str | None) -> None:
    assert facts(kind, model).prefill == style


def test_models_that_only_responses_has_are_those_that_openais_library_lists_so() -> None:
    literals = {value for member in get_args(ResponsesModel) for value in get_args(member)}
    chat = set(get_args(ChatModel))
    missed = {model for model in literals - chat if not facts("openai", model, "https://api.openai.com/v1").only_responses}
    assert missed == set()
    # The library lists some for both; their own pages say Responses alone.
    also = {model for model in chat if facts("openai", model, "https://api.openai.com/v1").only_responses}
    assert also == {"gpt-5.2-pro", "gpt-5.2-pro-2025-12-11", "gpt-5.1-codex", "codex-mini-latest"}


@pytest.mark.parametrize("model", ["o1-pro", "o3-pro-2025-06-10", "gpt-5-codex", "gpt-5.3-codex", "gpt-5-pro", "o4-mini-deep-research"])
def test_a_model_is_the_same_at_azure(model: str) -> None:
    assert facts("azure", model).only_responses
    assert facts("openai", model, "https://r.openai.azure.com/openai/v1").only_responses
    assert not facts("openai", model, "http://127.0.0.1:9/v1").only_responses


@pytest.mark.parametrize(
    ("kind", "base_url", "model", "lacks"),
    [
        ("openai", "https://api.openai.com/v1", "gpt-3.5-turbo-0125", {"vision", "documents", "audio", "json_schema", "reasoning"}),
        ("openai", "https://api.openai.com/v1", "gpt-4", {"vision", "documents", "audio", "json_schema", "reasoning"}),
        ("openai", "https://api.openai.com/v1", "gpt-4-turbo", {"documents", "audio", "json_schema", "reasoning"}),
        ("openai", "https://api.openai.com/v1", "gpt-4o-mini", {"audio", "reasoning"}),
        ("openai", "https://api.openai.com/v1", "gpt-4o-audio-preview", set()),
        ("openai", "https://api.openai.com/v1", "gpt-4.5-preview", set()),
        ("openai", "https://api.openai.com/v1", "o3-mini", {"vision", "audio"}),
        ("openai", "https://api.openai.com/v1", "gpt-5", set()),
        ("openai", "http://127.0.0.1:9/v1", "gpt-4", set()),
        ("anthropic", None, "claude-sonnet-5", {"audio"}),
        ("anthropic", None, "claude-opus-4-1-20250805", {"audio"}),
        ("anthropic", None, "claude-sonnet-4-20250514", {"audio", "json_schema"}),
        ("anthropic", None, "claude-3-7-sonnet-20250219", {"audio", "json_schema"}),
        ("anthropic", None, "claude-3-5-haiku-latest", {"audio", "json_schema", "reasoning"}),
        ("anthropic", None, "claude-2.1", {"audio", "json_schema", "reasoning", "vision", "documents", "tools"}),
        ("anthropic", None, "glm-5", set()),
        ("gemini", None, "gemini-2.0-flash", {"reasoning"}),
        ("gemini", None, "gemini-2.5-flash", set()),
    ],
)
def test_what_a_model_lacks(kind: str, base_url: str | None, model: str, lacks: set[str]) -> None:
    assert facts(kind, model, base_url).lacks == lacks


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "base_url", "api", "anywhere"),
    [
        ("openai", "https://api.openai.com/v1", "openai", "openai"),
        ("openai", "http://127.0.0.1:1/v1", None, "openai"),
        ("openai", "https://api.openai.com.example.org/v1", None, "openai"),
        ("anthropic", "https://api.anthropic.com", "anthropic", "anthropic"),
        ("gemini", "https://generativelanguage.googleapis.com/v1beta", "gemini", "gemini"),
        ("groq", "https://api.groq.com/openai/v1", None, None),
        ("simulated", None, None, None),
    ],
)
def test_batches_are_known_of_a_kind_and_believed_of_its_own_address(
    kind: str, base_url: str | None, api: str | None, anywhere: str | None
) -> None:
    own, any_address = (known_batches(kind, base_url, anywhere=answer) for answer in (False, True))
    assert (own and own.api, any_address and any_address.api) == (api, anywhere)


def test_what_is_known_of_batches_has_a_source_and_a_plug_in() -> None:
    known = [row.batches for row in ROWS if row.batches is not None]
    assert {batches.api for batches in known} == set(BATCH_APIS.table)
    assert all(batches.price_share == 0.5 and batches.source.startswith("https://") for batches in known)
