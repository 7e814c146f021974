"""How hard a model may think: words on one side, tokens on the other."""

from __future__ import annotations

from agent_gateway.core.conversation import Effort, Thinking

#: Source: Google, "OpenAI compatibility" of the Gemini API (low, medium, high); `xhigh` is Gemini 2.5 Pro's largest budget.
BUDGET_TOKENS: dict[Effort, int] = {"none": 0, "minimal": 1_024, "low": 1_024, "medium": 8_192, "high": 24_576, "xhigh": 32_768}


def budget_of(thinking: Thinking) -> int | None:
    """In tokens; 0: not at all, -1: as the model likes, None: the client said neither."""
    if thinking.budget_tokens is not None:
        return thinking.budget_tokens
    return None if thinking.effort is None else BUDGET_TOKENS[thinking.effort]


def effort_of(thinking: Thinking) -> Effort | None:
    """The word whose budget is the nearest at or above the client's tokens, or the highest that every model takes; None: its default."""
    if thinking.effort is not None:
        return thinking.effort
    budget = thinking.budget_tokens
    if budget is None or budget < 0:
        return None
    if budget == 0:
        return "none"
    words: tuple[Effort, ...] = ("low", "medium")
    return next((word for word in words if budget <= BUDGET_TOKENS[word]), "high")
