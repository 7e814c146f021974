"""Tokens as Anthropic counts them, and as the gateway does: there, what the prompt cache gave or took is not part of the input."""

from __future__ import annotations

from agent_gateway.core.usage import Usage
from agent_gateway.wire import anthropic as wire


def counted(told: wire.Usage) -> Usage:
    """What is not said counts as 0."""
    read, written = told.cache_read_input_tokens or 0, told.cache_creation_input_tokens or 0
    details = told.output_tokens_details
    return Usage(
        input=(told.input_tokens or 0) + read + written,
        output=told.output_tokens or 0,
        cache_read=read,
        cache_write=written,
        reasoning=(details.thinking_tokens or 0) if details else 0,
    )


def told(usage: Usage) -> wire.Usage:
    return wire.Usage(
        input_tokens=max(usage.input - usage.cache_read - usage.cache_write, 0),
        output_tokens=usage.output,
        cache_creation_input_tokens=usage.cache_write,
        cache_read_input_tokens=usage.cache_read,
        output_tokens_details=wire.OutputTokensDetails(usage.reasoning) if usage.reasoning else None,
    )


def updated(before: wire.Usage, later: wire.Usage) -> wire.Usage:
    """Counts of a stream are totals so far: what is said again replaces what was said, the rest stands."""
    return wire.Usage(
        input_tokens=_latest(before.input_tokens, later.input_tokens),
        output_tokens=_latest(before.output_tokens, later.output_tokens),
        cache_creation_input_tokens=_latest(before.cache_creation_input_tokens, later.cache_creation_input_tokens),
        cache_read_input_tokens=_latest(before.cache_read_input_tokens, later.cache_read_input_tokens),
        output_tokens_details=later.output_tokens_details or before.output_tokens_details,
    )


def _latest(before: int | None, later: int | None) -> int | None:
    return before if later is None else later
