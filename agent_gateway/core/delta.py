"""An answer in no protocol's terms, piece by piece: what one protocol's stream, or whole answer, is read into and another's written from.

Order within a choice: `Started` first, pieces as they come, `Finished` last; `Used` may come at any time, and the last one counts.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Raw, Struct

from agent_gateway.core.call import Dialect
from agent_gateway.core.usage import Usage

#: OpenAI's words; `stop` covers a stop sequence too, which `Finished.stop_sequence` then names. `refusal`: the model itself declined.
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "refusal"]
#: Of an answer that says all it was to say, in the words of any OpenAI-compatible server.
NATURAL_ENDS = frozenset({"stop", "tool_calls", "function_call", "end_turn", "stop_sequence", "tool_use"})


class Started(Struct, frozen=True, tag=True):
    """Once, whatever the number of choices. `id` as the provider spells it; None: it gives none."""

    id: str | None = None
    model: str | None = None
    #: Unix seconds.
    created: int | None = None
    fingerprint: str | None = None


class TextDelta(Struct, frozen=True, tag=True, gc=False):
    text: str
    choice: int = 0
    #: The `content` list of OpenAI's `logprobs`, for these tokens.
    logprobs: Raw | None = None


class ReasoningDelta(Struct, frozen=True, tag=True, gc=False):
    """A piece of a thought. One with `signature` or `redacted` ends its thought (see `core.conversation.Reasoning`)."""

    text: str = ""
    signature: str | None = None
    redacted: str | None = None
    origin: Dialect | None = None
    choice: int = 0
    id: str | None = None


class ToolCallStarted(Struct, frozen=True, tag=True):
    """`index` counts the tool calls of a choice, from 0. What was said before it in the choice is closed."""

    index: int
    id: str
    name: str
    choice: int = 0


class ArgumentsDelta(Struct, frozen=True, tag=True, gc=False):
    """A piece of the JSON text of a tool call's arguments."""

    index: int
    arguments: str
    choice: int = 0


class RefusalDelta(Struct, frozen=True, tag=True, gc=False):
    text: str
    choice: int = 0


class Beyond(Struct, frozen=True, tag=True):
    """Content that there is no word for here (an image, a call of a provider's own tool): only a client of the provider's own protocol is
    told of it, by the bytes that pass through.
    """

    choice: int = 0


class Finished(Struct, frozen=True, tag=True):
    reason: FinishReason
    choice: int = 0
    #: The stop sequence that ended it, where the provider tells.
    stop_sequence: str | None = None


class Used(Struct, frozen=True, tag=True):
    """Of the whole answer, all choices."""

    usage: Usage


Delta = Started | TextDelta | ReasoningDelta | ToolCallStarted | ArgumentsDelta | RefusalDelta | Beyond | Finished | Used
