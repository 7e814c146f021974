"""A request in no protocol's terms: what one protocol's is read into and another's written from.

Made only where client and provider speak different protocols, and by the simulator: same on both sides, bytes pass through.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from agent_gateway.core.call import Dialect

Role = Literal["system", "developer", "user", "assistant"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
ToolMode = Literal["auto", "none", "required"]
#: Asks the provider to cache the prompt up to here for so long (Anthropic's `cache_control`); others cache by themselves, or not at all.
CacheFor = Literal["5m", "1h"]


# --- what a turn is made of -------------------------------------------------------------------------------------------


class Media(Struct, frozen=True, kw_only=True):
    """Exactly one of `url`, `data` (base64) and `file_id` is set."""

    url: str | None = None
    data: str | None = None
    file_id: str | None = None
    #: As in `image/png`; None where only a URL is known.
    media_type: str | None = None


class Text(Struct, frozen=True, tag=True):
    text: str
    cache_for: CacheFor | None = None


class Image(Struct, frozen=True, tag=True):
    media: Media
    #: OpenAI's `low`, `high`, `auto`.
    detail: str | None = None
    cache_for: CacheFor | None = None


class File(Struct, frozen=True, tag=True):
    """A document, audio or video, as `media.media_type` says."""

    media: Media
    name: str | None = None
    cache_for: CacheFor | None = None


class Reasoning(Struct, frozen=True, tag=True):
    """What a model thought before what follows it, to be handed back to it as it came.

    `signature` means something only to providers that speak `origin`; a reasoning of another origin is left out of what goes to them.
    `redacted`: the thought is encrypted and `text` empty. A Gemini thought signature, which that protocol hangs on the part that
    it belongs to, is a Reasoning without text right before that part.
    """

    text: str = ""
    signature: str | None = None
    redacted: str | None = None
    origin: Dialect | None = None
    #: The id that OpenAI Responses gives the item.
    id: str | None = None


class ToolUse(Struct, frozen=True, tag=True):
    """A model's call of a tool. `arguments` is JSON text, as the model wrote it."""

    id: str
    name: str
    arguments: str


class ToolResult(Struct, frozen=True, tag=True):
    """In a user's turn. `name` is the tool's where the protocol says it, or the turns before tell it."""

    call_id: str
    content: tuple[Text | Image | File, ...]
    name: str | None = None
    is_error: bool = False
    cache_for: CacheFor | None = None


class Refusal(Struct, frozen=True, tag=True):
    text: str


Part = Text | Image | File | Reasoning | ToolUse | ToolResult | Refusal


class Turn(Struct, frozen=True):
    role: Role
    parts: tuple[Part, ...]
    #: The participant's name (OpenAI).
    name: str | None = None


# --- what is asked for ------------------------------------------------------------------------------------------------


class Tool(Struct, frozen=True):
    """A function that the client runs. `parameters` is a JSON schema; None: it takes nothing."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    cache_for: CacheFor | None = None


class ToolChoice(Struct, frozen=True):
    """`names` empty: any tool. `required` with one name: that tool must be called."""

    mode: ToolMode
    names: tuple[str, ...] = ()


class JsonFormat(Struct, frozen=True):
    """The answer is JSON; of `schema`, where there is one."""

    schema: dict[str, Any] | None = None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


class Thinking(Struct, frozen=True):
    """How much a model may think: `effort` in words or `budget_tokens` (0: not at all; -1: as it likes), whichever the client gave."""

    effort: Effort | None = None
    budget_tokens: int | None = None
    #: The client wants to see the thoughts, or a summary of them.
    shown: bool = True


class Conversation(Struct, frozen=True, kw_only=True):
    """A whole request. None: the client did not say.

    `paths` gives for fields that were set the place in the client's request (`stop` → `generationConfig.stopSequences`), by the field's
    name here; what is not in it is called by its own name. It is for errors only.
    """

    model: str
    turns: tuple[Turn, ...]
    stream: bool = False
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    #: False: at most one tool call an answer.
    parallel_tools: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    format: JsonFormat | None = None
    thinking: Thinking | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    #: Things asked for that this vocabulary has no word for (a provider's own tools, say), by the client's path: no other protocol
    #: can express them, so a translation refuses them by name.
    beyond: tuple[str, ...] = ()
    paths: dict[str, str] = {}

    def path(self, field: str) -> str:
        return self.paths.get(field, field)
