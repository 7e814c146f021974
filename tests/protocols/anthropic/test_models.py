"""Models of every name are known by their version."""

from __future__ import annotations

import pytest

from agent_gateway.protocols.anthropic.models import takes


@pytest.mark.parametrize(
    ("model", "thinking", "budgets", "off", "sampling"),
    [
        ("claude-3-7-sonnet-20250219", "budget", True, "disabled", True),
        ("claude-opus-4-20250514", "budget", True, "disabled", True),
        ("anthropic.claude-opus-4-1-20250805-v1:0", "budget", True, "disabled", True),
        ("claude-opus-4@20250514", "budget", True, "disabled", True),
        ("claude-haiku-4-5", "budget", True, "disabled", True),
        ("anthropic/claude-sonnet-4.5", "budget", True, "disabled", True),
        ("claude-sonnet-4-6", "adaptive", True, "disabled", True),
        ("claude-opus-4-7", "adaptive", False, "disabled", False),
        ("us.anthropic.claude-opus-4-8-v1", "adaptive", False, "disabled", False),
        ("claude-sonnet-5", "adaptive", False, "disabled", False),
        ("claude-opus-5", "adaptive", False, "disabled", False),
        ("claude-opus-5-5", "adaptive", False, None, False),
        ("claude-haiku-5-5", "adaptive", False, "between_tools", False),
        ("claude-fable-5", "adaptive", False, None, False),
        ("claude-mythos-5-1", "adaptive", False, None, False),
        ("claude-mythos-preview", "adaptive", True, None, False),
        ("kimi-k2", "budget", True, "disabled", True),
        ("small", "budget", True, "disabled", True),
    ],
)
def test_takes(model: str, thinking: str, budgets: bool, off: str | None, sampling: bool) -> None:
    assert takes(model)[:4] == (thinking, budgets, off, sampling)


def test_only_models_of_4_6_take_less_than_xhigh() -> None:
    assert takes("claude-opus-4-6").effort_max == "high"
    assert takes("claude-opus-4-7").effort_max == "xhigh"
