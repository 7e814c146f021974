"""Which provider's models carry on from a text that another model began: data, each row with its source."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from agent_gateway.core.route import Prefill


class Rule(NamedTuple):
    """`host` is the provider's, or one it ends with; `model` a pattern for the whole name; `source` where it is documented."""

    host: str
    model: str
    style: Prefill
    source: str


RULES = (
    Rule("api.mistral.ai", ".*", "prefix", "https://docs.mistral.ai/guides/prefix"),
    Rule(
        "api.deepseek.com", "deepseek-chat", "prefix", "https://api-docs.deepseek.com/guides/chat_prefix_completion (base URL with /beta)"
    ),
    Rule("openrouter.ai", ".*", "plain", "https://openrouter.ai/docs/api-reference/overview#assistant-prefill"),
    Rule("api.groq.com", ".*", "plain", "https://console.groq.com/docs/prefilling"),
)


def prefill_style(kind: str, base_url: str | None, model: str) -> Prefill | None:
    """None where nothing is documented: a model that was not made for it begins a new answer instead."""
    if kind == "simulated":
        return "plain"
    host = urlsplit(base_url or "").hostname or ""
    for rule in RULES:
        if (host == rule.host or host.endswith("." + rule.host)) and re.fullmatch(rule.model, model):
            return rule.style
    return None
