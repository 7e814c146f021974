"""What real providers refuse although the protocol can say it: forged or missing thoughts, thinking that does not fit the rest.

Promise: who gets past these rules gets past the provider's own, so a translation that breaks one is found here.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.conversation import Conversation, Reasoning, Text, ToolResult, ToolUse, Turn
from agent_gateway.core.errors import BadRequest, PreviousResponseNotFound
from agent_gateway.protocols.effort import budget_of
from agent_gateway.simulator.manners import manners_of
from agent_gateway.simulator.thoughts import is_signed

#: Google takes these for signatures of what Gemini did not say. SDKs encode them. Source: https://ai.google.dev/gemini-api/docs/thought-signatures
_UNSIGNED = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")
_NO_SIGNATURE = frozenset(_UNSIGNED) | {base64.b64encode(word.encode()).decode() for word in _UNSIGNED}

#: Answers to one request. Source: OpenAI's API reference, `n`; Google's, `candidateCount`.
_CHOICES_MAX, _GEMINI_CHOICES_MAX = 128, 8
#: More than any model has.
_OUTPUT_TOKENS_MAX = 10**9


def thinks(conversation: Conversation) -> bool:
    thinking = conversation.thinking
    return thinking is not None and budget_of(thinking) != 0


def check_stateless(call: Call) -> None:
    """The simulated provider keeps nothing: what goes on from an answer of its own does so in vain."""
    keeping = call.keeping
    if keeping is not None and (keeping.goes_on or keeping.background):
        lost = keeping.previous or keeping.conversation
        raise PreviousResponseNotFound(f"Previous response with id '{lost}' not found.", param="previous_response_id")


def check(conversation: Conversation, dialect: Dialect) -> None:
    """Raises `BadRequest` in the provider's own words."""
    _check_range(conversation, "n", _GEMINI_CHOICES_MAX if dialect == "gemini" else _CHOICES_MAX)
    _check_range(conversation, "max_output_tokens", _OUTPUT_TOKENS_MAX)
    _check_signatures(conversation, dialect)
    if dialect == "anthropic":
        _check_anthropic(conversation)


def _check_range(conversation: Conversation, field: str, most: int) -> None:
    value = getattr(conversation, field)
    if value is not None and not 1 <= value <= most:
        path = conversation.path(field)
        raise BadRequest(f"{path}: {value} is not supported; the range is from 1 to {most}.", param=path)


def _check_signatures(conversation: Conversation, dialect: Dialect) -> None:
    for where, thought in _thoughts(conversation.turns):
        if thought.origin != dialect:
            continue
        signature, text = _signature(thought, dialect)
        if signature is None or (dialect == "gemini" and signature in _NO_SIGNATURE):
            continue
        if not is_signed(signature, text, dialect):
            raise BadRequest(manners_of(dialect).bad_signature.format(where=thought.id or where))


def _signature(thought: Reasoning, dialect: Dialect) -> tuple[str | None, str]:
    """And the text that it has to fit: Anthropic's, as that is the whole thought; elsewhere the text is but a summary of it."""
    if dialect != "openai_responses":
        return thought.redacted or thought.signature, thought.text if dialect == "anthropic" else ""
    from agent_gateway.protocols.openai_responses.reasoning import returned_item

    item = returned_item(thought)
    return (item.encrypted_content if item else None), ""


def _thoughts(turns: tuple[Turn, ...]) -> Iterator[tuple[str, Reasoning]]:
    """With their places, as Anthropic counts: what the system says is no message."""
    messages = [turn for turn in turns if turn.role not in ("system", "developer")]
    for index, turn in enumerate(messages):
        for position, part in enumerate(turn.parts):
            if isinstance(part, Reasoning):
                yield f"messages.{index}.content.{position}", part


def _check_anthropic(conversation: Conversation) -> None:
    """Source: Anthropic's guides "Extended thinking", "Adaptive thinking" and "Prefill Claude's response"."""
    turns = [turn for turn in conversation.turns if turn.role not in ("system", "developer")]
    if turns and turns[-1].role == "assistant" and turns[-1].parts:
        last = turns[-1].parts[-1]
        if isinstance(last, Text) and last.text != last.text.rstrip():
            raise BadRequest("messages: final assistant content cannot end with trailing whitespace")
    if not thinks(conversation):
        return
    if conversation.tool_choice is not None and conversation.tool_choice.mode == "required":
        raise BadRequest("Thinking may not be enabled when tool_choice forces tool use.", param="tool_choice")
    budget = conversation.thinking.budget_tokens if conversation.thinking else None
    if budget is None or budget < 0:
        return  # adaptive thinking: the rest is not enforced there
    if conversation.max_output_tokens is not None and budget >= conversation.max_output_tokens:
        raise BadRequest("`max_tokens` must be greater than `thinking.budget_tokens`.", param="max_tokens")
    at = _unfinished(turns)
    if at is not None and not isinstance(turns[at].parts[0], Reasoning):
        found = "tool_use" if isinstance(turns[at].parts[0], ToolUse) else "text"
        raise BadRequest(
            f"messages.{at}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{found}`. When `thinking` is "
            "enabled, a final `assistant` message must start with a thinking block (preceding the lastmost set of `tool_use` and "
            "`tool_result` blocks)."
        )


def _unfinished(turns: list[Turn]) -> int | None:
    """Where the assistant's turn stands that is still answered to: it was begun, or only its tools' results came since."""
    results = len(turns)
    while results and any(isinstance(part, ToolResult) for part in turns[results - 1].parts):
        results -= 1
    at = results - 1
    return at if at >= 0 and turns[at].role == "assistant" and turns[at].parts else None
