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


@pytest.mark.parametrize(
    ("model", "most"),
    [
        ("claude-2.1", 4_096),
        ("claude-3-opus-20240229", 4_096),
        ("anthropic.claude-3-haiku-20240307-v1:0", 4_096),
        ("claude-3-5-haiku-latest", 8_192),
        ("claude-3-5-sonnet@20241022", 8_192),
        ("claude-3-7-sonnet-20250219", 64_000),
        ("claude-opus-4-1-20250805", 32_000),
        ("claude-sonnet-4-20250514", 64_000),
        ("claude-opus-4-5", 64_000),
        ("claude-opus-4-7", None),
        ("kimi-k2", None),
    ],
)
def test_how_much_a_model_can_write(model: str, most: int | None) -> None:
    assert takes(model).output_max == most
