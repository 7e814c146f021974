"""OpenAI chat completions as types (https://platform.openai.com/docs/api-reference/chat).

What comes in tolerates unknown fields; what goes out writes its nulls where OpenAI writes them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
Role = Literal["developer", "system", "user", "assistant", "tool", "function"]
Tokens = Annotated[int, Meta(ge=1)]


# --- the request ------------------------------------------------------------------------------------------------------


class StreamOptions(Struct):
    include_usage: bool | None = None


class FormatHead(Struct):
    type: str | None = None


class RequestHead(Struct):
    """Of a request only what the gateway itself acts on; the conversation stays as it came."""

    model: Annotated[str, Meta(min_length=1)]
    messages: Raw
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    user: str | None = None
    response_format: FormatHead | None = None
    tool_choice: Any = None


class ContentPart(Struct):
    """`text`, or a kind that carries something else (`image_url`, `input_audio`, `file`, …)."""

    type: str
    text: str | None = None


class CalledFunction(Struct):
    name: str
    arguments: str


class ToolCall(Struct, kw_only=True):
    id: str
    type: str = "function"
    function: CalledFunction | None = None


class Message(Struct):
    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class Function(Struct):
    name: str
    description: str | None = None
    #: A JSON schema; left out, the function takes nothing.
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Struct):
    """`function`, or a kind that only some providers know (`custom`, …)."""

    type: str
    function: Function | None = None


class FunctionName(Struct):
    name: str


class NamedTool(Struct):
    type: str
    function: FunctionName | None = None


class AllowedTools(Struct):
    mode: Literal["auto", "required"]
    tools: list[NamedTool]


class ToolChoice(Struct):
    """An object in `tool_choice`: one function that must be called, or the tools that may be."""

    type: str
    function: FunctionName | None = None
    allowed_tools: AllowedTools | None = None


class JsonSchema(Struct):
    name: str
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class ResponseFormat(Struct):
    type: str
    json_schema: JsonSchema | None = None


class Request(Struct):
    """What a model needs to answer."""

    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[Message], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=4)] | None = None
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    tools: list[Tool] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None


# --- usage ------------------------------------------------------------------------------------------------------------


class PromptTokensDetails(Struct):
    cached_tokens: int | None = 0
    audio_tokens: int | None = 0


class CompletionTokensDetails(Struct):
    reasoning_tokens: int | None = 0
    audio_tokens: int | None = 0
    accepted_prediction_tokens: int | None = 0
    rejected_prediction_tokens: int | None = 0


class Usage(Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None


# --- the whole answer -------------------------------------------------------------------------------------------------


class AnswerMessage(Struct):
    role: Role = "assistant"
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | UnsetType = UNSET


class Choice(Struct):
    index: int
    message: AnswerMessage
    logprobs: None = None
    finish_reason: str | None = None


class Answer(Struct, kw_only=True):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None
    system_fingerprint: str | None = None


# --- the stream -------------------------------------------------------------------------------------------------------


class FunctionDelta(Struct, omit_defaults=True):
    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(Struct, omit_defaults=True):
    index: Annotated[int, Meta(ge=0)]
    id: str | None = None
    type: str | None = None
    function: FunctionDelta | None = None


class Delta(Struct):
    role: Role | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    tool_calls: list[ToolCallDelta] | UnsetType = UNSET
    refusal: str | UnsetType | None = UNSET


class ChunkChoice(Struct):
    index: int
    delta: Delta
    logprobs: None = None
    finish_reason: str | None = None


class Chunk(Struct, kw_only=True):
    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str | None = None
    choices: list[ChunkChoice]
    #: Unset when the client did not ask for usage; null in every chunk but the last when it did.
    usage: Usage | UnsetType | None = UNSET


# --- the rest ---------------------------------------------------------------------------------------------------------


class Error(Struct):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(Struct):
    error: Error


class StreamError(Struct):
    """An error told after content has been sent: what else the client may do about it."""

    message: str
    type: str
    code: str | None = None
    #: Seconds.
    retry_after: float | None = None
    fallback_model: str | None = None


class StreamErrorBody(Struct):
    error: StreamError


class Model(Struct, kw_only=True):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Model]
