"""Who carries on from a begun text: only those for whom it is documented."""

from __future__ import annotations

import re

import pytest

from agent_gateway.upstream.prefill import RULES, Rule, prefill_style


@pytest.mark.parametrize(
    ("kind", "base_url", "model", "style"),
    [
        ("simulated", None, "anything", "plain"),
        ("openai", "https://api.mistral.ai/v1", "mistral-large-latest", "prefix"),
        ("openai", "https://api.deepseek.com/beta", "deepseek-chat", "prefix"),
        ("openai", "https://api.deepseek.com/beta", "deepseek-reasoner", None),
        ("openai", "https://openrouter.ai/api/v1", "meta-llama/llama-3", "plain"),
        ("openai", "https://api.groq.com/openai/v1", "llama-3.3-70b", "plain"),
        ("openai", "https://eu.api.groq.com/openai/v1", "llama-3.3-70b", "plain"),
        ("openai", "https://api.openai.com/v1", "gpt-4o", None),
        ("openai", "https://notapi.groq.com.example.com", "llama", None),
        ("openai", "https://evilapi.groq.com", "llama", None),
        ("openai", None, "gpt-4o", None),
        ("openai", "", "gpt-4o", None),
    ],
)
def test_the_way_of_each(kind: str, base_url: str | None, model: str, style: str | None) -> None:
    assert prefill_style(kind, base_url, model) == style


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.host)
def test_every_rule_says_where_it_is_documented(rule: Rule) -> None:
    assert rule.source.startswith("https://")
    assert re.compile(rule.model).fullmatch("") is None or rule.model == ".*", "a rule for all models says so"
