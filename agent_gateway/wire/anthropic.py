"""Anthropic's Messages API as types (https://platform.claude.com/docs/en/api/messages).

What comes in tolerates unknown fields and kinds of blocks; what goes out leaves out what was not said.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal", "model_context_window_exceeded"]
ErrorType = Literal[
    "invalid_request_error",
    "authentication_error",
    "billing_error",
    "permission_error",
    "not_found_error",
    "conflict_error",
    "request_too_large",
    "rate_limit_error",
    "timeout_error",
    "api_error",
    "overloaded_error",
]
NOT_SAID = Raw(b"")
Model = Annotated[str, Meta(min_length=1)]


# --- the request ------------------------------------------------------------------------------------------------------


class Metadata(Struct):
    user_id: str | None = None


class ToolChoice(Struct, omit_defaults=True):
    """`auto`, `any`, `none`, or `tool` with its name."""

    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(Struct, omit_defaults=True):
    """`enabled` with a budget, `adaptive`, `disabled`, `between_tools`."""

    type: str
    budget_tokens: int | None = None
    display: Literal["summarized", "omitted"] | None = None


class FormatHead(Struct):
    type: str | None = None


class OutputHead(Struct):
    format: FormatHead | None = None


class RequestHead(Struct):
    """Of a request only what the gateway itself acts on; the conversation stays as it came."""

    model: Model
    messages: Raw
    stream: bool | None = None
    max_tokens: int | None = None
    metadata: Metadata | None = None
    tools: Raw = NOT_SAID
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputHead | None = None


class CacheControl(Struct, omit_defaults=True):
    type: str
    ttl: Literal["5m", "1h"] | None = None


class Source(Struct, omit_defaults=True):
    """Of an image or a document: `base64`, `url`, `text`, `content` or `file`."""

    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    content: str | list[Any] | None = None


class Citations(Struct):
    enabled: bool | None = None


class Block(Struct, omit_defaults=True):
    """A piece of content, with the fields of all kinds: which are set, `type` says."""

    type: str
    text: str | None = None
    source: Source | str | None = None
    title: str | None = None
    context: str | None = None
    citations: Citations | list[Any] | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = NOT_SAID
    toolset_name: str | None = None
    tool_use_id: str | None = None
    content: str | list[Block] | dict[str, Any] | None = None
    is_error: bool | None = None
    cache_control: CacheControl | None = None


class Message(Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class Tool(Struct, omit_defaults=True):
    """The client's own (`custom`, or no type), or one that Anthropic defines or runs."""

    name: str = ""
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None
    cache_control: CacheControl | None = None


class JsonFormat(Struct):
    type: str
    schema: dict[str, Any] | None = None


class OutputConfig(Struct, omit_defaults=True):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonFormat | None = None


class Request(Struct):
    """All that a model needs to answer. `max_tokens` is required by the protocol; a deployment's default may stand in for it."""

    model: Model
    messages: Annotated[list[Message], Meta(min_length=1)]
    system: str | list[Block] | None = None
    max_tokens: int | None = None
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    metadata: Metadata | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    container: Any = None
    inference_geo: str | None = None
    mcp_servers: list[Any] | None = None


# --- the answer -------------------------------------------------------------------------------------------------------


class OutputTokensDetails(Struct):
    thinking_tokens: int | None = None


class Usage(Struct, omit_defaults=True):
    """`input_tokens` are those that were neither read from the cache nor written to it. In a stream, the last that was said counts."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens_details: OutputTokensDetails | None = None


class ErrorDetail(Struct):
    type: str = "api_error"
    message: str = ""


class Answer(Struct, kw_only=True):
    """A whole answer, as it is read: `type` may be `error`."""

    type: str = "message"
    id: str | None = None
    model: str | None = None
    content: list[Block] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: Usage | None = None
    error: ErrorDetail | None = None


class WrittenAnswer(Struct, kw_only=True):
    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[Block]
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    usage: Usage


class CountedTokens(Struct):
    input_tokens: int


# --- the stream -------------------------------------------------------------------------------------------------------


class Delta(Struct, omit_defaults=True):
    """Of a block (`text_delta`, `input_json_delta`, `thinking_delta`, `signature_delta`, …), or of the message's end."""

    type: str = ""
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None


class Event(Struct):
    """Any event, as it is read: which fields are set, `type` says."""

    type: str
    index: int = 0
    delta: Delta | None = None
    content_block: Block | None = None
    message: Answer | None = None
    usage: Usage | None = None
    error: ErrorDetail | None = None


class MessageStart(Struct, tag="message_start", tag_field="type"):
    message: WrittenAnswer


class ContentBlockStart(Struct, tag="content_block_start", tag_field="type"):
    index: int
    content_block: Block


class ContentBlockStop(Struct, tag="content_block_stop", tag_field="type"):
    index: int


class StopDelta(Struct):
    stop_reason: StopReason
    stop_sequence: str | None = None


class MessageDelta(Struct, tag="message_delta", tag_field="type"):
    delta: StopDelta
    usage: Usage


# --- errors -----------------------------------------------------------------------------------------------------------


class Error(Struct):
    type: ErrorType
    message: str


class ErrorBody(Struct, tag="error", tag_field="type"):
    error: Error
    request_id: str


class StreamError(Struct):
    """An error told after content has been sent: what else the client may do about it."""

    type: ErrorType
    message: str
    code: str
    #: Seconds.
    retry_after: float | None = None
    fallback_model: str | None = None


class StreamErrorBody(Struct, tag="error", tag_field="type"):
    error: StreamError
    request_id: str
