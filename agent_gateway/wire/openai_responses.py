"""OpenAI Responses as types (https://platform.openai.com/docs/api-reference/responses).

What comes in tolerates unknown fields; what goes out writes its nulls where OpenAI writes them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from agent_gateway.wire.openai_chat import StreamError

Status = Literal["queued", "in_progress", "completed", "incomplete"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Summary = Literal["auto", "concise", "detailed"]
Include = Literal["reasoning.encrypted_content", "message.output_text.logprobs"]


# --- the request ------------------------------------------------------------------------------------------------------


class FormatHead(Struct):
    type: str | None = None


class TextHead(Struct):
    format: FormatHead | None = None


class ThinkingHead(Struct):
    effort: str | None = None


class ConversationRef(Struct):
    id: Annotated[str, Meta(min_length=1)]


class RequestHead(Struct):
    """Of a request only what the gateway itself acts on; the conversation stays as it came."""

    model: Annotated[str, Meta(min_length=1)]
    input: Raw
    stream: bool | None = None
    max_output_tokens: int | None = None
    user: str | None = None
    safety_identifier: str | None = None
    text: TextHead | None = None
    reasoning: ThinkingHead | None = None
    tools: list[Raw] | None = None
    tool_choice: Any = None
    store: bool | None = None
    background: bool | None = None
    previous_response_id: Annotated[str, Meta(min_length=1)] | None = None
    conversation: Annotated[str, Meta(min_length=1)] | ConversationRef | None = None
    prompt: Any = None


class IncludeHead(Struct):
    include: list[str] | None = None


class Part(Struct):
    """`input_text`, `input_image`, `input_file`, `output_text`, `refusal`, or a kind that only OpenAI knows."""

    type: str
    text: str | None = None
    refusal: str | None = None
    #: An address, or a data URL.
    image_url: str | None = None
    detail: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    file_id: str | None = None
    filename: str | None = None


class ItemHead(Struct):
    """What tells an item's kind: a message may leave out its type, and a reference has nothing but an id."""

    type: str | None = None
    role: str | None = None
    id: str | None = None


class MessageItem(Struct):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Part]


class FunctionCallItem(Struct):
    call_id: str
    name: str
    arguments: str


class FunctionOutputItem(Struct):
    call_id: str
    output: str | list[Part]
    name: str | None = None


class ReasoningText(Struct):
    """`summary_text` or `reasoning_text`."""

    type: str
    text: str


class ReasoningItem(Struct):
    """The same in a request and in an answer."""

    summary: list[ReasoningText] = []
    id: str | None = None
    content: list[ReasoningText] | None = None
    encrypted_content: str | None = None


class Tool(Struct):
    """`function`, or one that OpenAI runs itself; a function without `strict` leaves it to the model's side."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedTool(Struct):
    type: str
    name: str | None = None


class ToolChoice(Struct):
    """An object in `tool_choice`: one function that must be called, the tools that may be, or a tool of OpenAI's."""

    type: str
    name: str | None = None
    mode: Literal["auto", "required"] | None = None
    tools: list[NamedTool] | None = None


class Format(Struct):
    type: str
    name: str | None = None
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class TextSettings(Struct):
    format: Format | None = None


class Thinking(Struct):
    """The `reasoning` of a request."""

    effort: Effort | None = None
    summary: Summary | None = None
    #: The older name of `summary`.
    generate_summary: Summary | None = None


class Request(Struct):
    """All that is carried over into another protocol."""

    model: Annotated[str, Meta(min_length=1)]
    input: str | list[Raw]
    stream: bool | None = None
    instructions: str | None = None
    tools: list[Tool] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    include: list[str] | None = None
    text: TextSettings | None = None
    reasoning: Thinking | None = None
    user: str | None = None
    safety_identifier: str | None = None
    metadata: dict[str, str] | None = None
    #: What OpenAI is to check, and to block: nobody else can.
    moderation: Any = None


# --- an answer's items, as they are written ---------------------------------------------------------------------------


class TopLogprob(Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None


class Logprob(Struct):
    """As OpenAI chat has them, but that `bytes` has to be a list in a message's part."""

    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[TopLogprob] = []


class OutputText(Struct, tag="output_text"):
    text: str = ""
    annotations: list[Any] = []
    logprobs: list[Logprob] = []


class OutputRefusal(Struct, tag="refusal"):
    refusal: str = ""


class SummaryText(Struct, tag="summary_text"):
    text: str = ""


class ThoughtText(Struct, tag="reasoning_text"):
    text: str = ""


class OutputMessage(Struct, tag="message", kw_only=True):
    id: str
    status: Status = "in_progress"
    role: Literal["assistant"] = "assistant"
    content: list[OutputText | OutputRefusal]


class OutputReasoning(Struct, tag="reasoning", kw_only=True):
    #: Unset only in a request, where nobody has given it one.
    id: str | UnsetType
    summary: list[SummaryText]
    content: list[ThoughtText] | UnsetType = UNSET
    encrypted_content: str | None = None


class OutputFunctionCall(Struct, tag="function_call", kw_only=True):
    id: str
    status: Status = "in_progress"
    call_id: str
    name: str
    arguments: str = ""


OutputItem = OutputMessage | OutputReasoning | OutputFunctionCall


# --- the whole answer, as it is written -------------------------------------------------------------------------------


class InputDetails(Struct):
    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputDetails(Struct):
    reasoning_tokens: int = 0


class Usage(Struct):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class IncompleteDetails(Struct):
    reason: Literal["max_output_tokens", "content_filter"]


class Settings(Struct, kw_only=True):
    """What an answer repeats of its request, with OpenAI's defaults for what the client left out."""

    instructions: str | None = None
    max_output_tokens: int | None = None
    max_tool_calls: Any = None
    metadata: dict[str, str] | None = {}
    parallel_tool_calls: bool | None = True
    prompt_cache_key: Any = None
    reasoning: dict[str, Any] | None = None
    safety_identifier: str | None = None
    store: bool | None = True
    temperature: float | None = 1.0
    text: dict[str, Any] | None = None
    tool_choice: Any = "auto"
    tools: list[Any] | None = []
    top_logprobs: int | None = 0
    top_p: float | None = 1.0
    truncation: Any = "disabled"
    user: str | None = None


class Response(Settings, kw_only=True):
    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Status
    background: bool = False
    #: Always null here: an answer that fails ends in an `error` event, or is an error body.
    error: None = None
    incomplete_details: IncompleteDetails | None = None
    model: str
    output: list[OutputItem]
    previous_response_id: None = None
    service_tier: Literal["default"] = "default"
    usage: Usage | None = None


# --- the stream, as it is written: an event's tag is its name too -----------------------------------------------------


class Event(Struct, kw_only=True):
    #: Counts a stream's events; known when one is sent.
    sequence_number: int = 0


class Created(Event, tag="response.created", kw_only=True):
    response: Response


class InProgress(Event, tag="response.in_progress", kw_only=True):
    response: Response


class Completed(Event, tag="response.completed", kw_only=True):
    response: Response


class Incomplete(Event, tag="response.incomplete", kw_only=True):
    response: Response


class ItemEvent(Event, kw_only=True):
    output_index: int


class ItemAdded(ItemEvent, tag="response.output_item.added", kw_only=True):
    item: OutputItem


class ItemDone(ItemEvent, tag="response.output_item.done", kw_only=True):
    item: OutputItem


class PartEvent(ItemEvent, kw_only=True):
    item_id: str
    content_index: int


class PartAdded(PartEvent, tag="response.content_part.added", kw_only=True):
    part: OutputText | OutputRefusal


class PartDone(PartEvent, tag="response.content_part.done", kw_only=True):
    part: OutputText | OutputRefusal


class TextDelta(PartEvent, tag="response.output_text.delta", kw_only=True):
    delta: str
    logprobs: list[Logprob] = []


class TextDone(PartEvent, tag="response.output_text.done", kw_only=True):
    text: str
    logprobs: list[Logprob] = []


class RefusalDelta(PartEvent, tag="response.refusal.delta", kw_only=True):
    delta: str


class RefusalDone(PartEvent, tag="response.refusal.done", kw_only=True):
    refusal: str


class SummaryEvent(ItemEvent, kw_only=True):
    item_id: str
    summary_index: int = 0


class SummaryPartAdded(SummaryEvent, tag="response.reasoning_summary_part.added", kw_only=True):
    part: SummaryText


class SummaryPartDone(SummaryEvent, tag="response.reasoning_summary_part.done", kw_only=True):
    part: SummaryText


class SummaryDelta(SummaryEvent, tag="response.reasoning_summary_text.delta", kw_only=True):
    delta: str


class SummaryDone(SummaryEvent, tag="response.reasoning_summary_text.done", kw_only=True):
    text: str


class ArgumentsDelta(ItemEvent, tag="response.function_call_arguments.delta", kw_only=True):
    item_id: str
    delta: str


class ArgumentsDone(ItemEvent, tag="response.function_call_arguments.done", kw_only=True):
    item_id: str
    name: str
    arguments: str


StreamEvent = (
    Created
    | InProgress
    | Completed
    | Incomplete
    | ItemAdded
    | ItemDone
    | PartAdded
    | PartDone
    | TextDelta
    | TextDone
    | RefusalDelta
    | RefusalDone
    | SummaryPartAdded
    | SummaryPartDone
    | SummaryDelta
    | SummaryDone
    | ArgumentsDelta
    | ArgumentsDone
)


class ErrorEvent(Struct, tag="error", kw_only=True):
    """As OpenAI sends it, and `error`, by which its SDK knows that the stream failed."""

    code: str | None
    message: str
    param: str | None
    error: StreamError


# --- an answer, as it is read: any part of it may be missing ----------------------------------------------------------


class ToldTokenDetails(Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


class ToldUsage(Struct):
    input_tokens: int | None = None
    input_tokens_details: ToldTokenDetails | None = None
    output_tokens: int | None = None
    output_tokens_details: ToldTokenDetails | None = None


class ToldIncomplete(Struct):
    reason: str | None = None


class ToldResponse(Struct):
    id: str | None = None
    model: str | None = None
    created_at: float | None = None
    status: str | None = None
    error: Any = None
    incomplete_details: ToldIncomplete | None = None
    output: list[Raw] | None = None
    usage: ToldUsage | None = None


class ToldPart(Struct):
    type: str
    text: str | None = None
    refusal: str | None = None
    logprobs: list[Logprob] | None = None


class ToldMessage(Struct):
    content: list[ToldPart] = []


class ToldFunctionCall(Struct):
    call_id: str
    name: str
    arguments: str = ""


class EventHead(Struct):
    """What tells an event's kind; a bare error body has none."""

    type: str | None = None
    error: Any = None


class ToldResponseEvent(Struct):
    response: ToldResponse


class ToldItemEvent(Struct):
    output_index: int
    item: Raw


class ToldDelta(Struct):
    """A piece of a text, a refusal, a summary, a thought or of arguments."""

    output_index: int
    delta: str
    item_id: str | None = None
    content_index: int = 0
    summary_index: int = 0
    logprobs: list[Logprob] | None = None


class ToldError(Struct):
    """The `error` event."""

    message: Any = None
    code: Any = None
    error: Any = None


# --- conversations ----------------------------------------------------------------------------------------------------

Metadata = Annotated[dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)]


class NewConversation(Struct):
    items: list[Raw] | None = None
    metadata: Metadata | None = None


class ConversationChange(Struct):
    metadata: Metadata


class NewItems(Struct):
    items: Annotated[list[Raw], Meta(min_length=1)]


class ConversationObject(Struct):
    id: str
    created_at: int
    metadata: dict[str, str]
    object: Literal["conversation"] = "conversation"


class ItemList(Struct):
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


class Deleted(Struct):
    id: str
    object: str
    deleted: bool = True
