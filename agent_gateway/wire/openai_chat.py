"""OpenAI chat completions as types (https://platform.openai.com/docs/api-reference/chat).

What comes in tolerates unknown fields; what goes out writes its nulls where OpenAI writes them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
Role = Literal["developer", "system", "user", "assistant", "tool", "function"]
Tokens = Annotated[int, Meta(ge=1)]
#: A member that was left out, where another value would be kept as it came.
NOTHING = Raw(b"null")


# --- the request ------------------------------------------------------------------------------------------------------


class StreamOptions(Struct, omit_defaults=True):
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
    tools: Raw = NOTHING
    functions: Raw = NOTHING
    reasoning_effort: Any = None


class CacheControl(Struct, omit_defaults=True):
    """Anthropic's mark for the prompt cache, which clients of OpenRouter and others put on a part."""

    type: str
    ttl: str | None = None


class ImageUrl(Struct, omit_defaults=True):
    url: str
    detail: str | None = None


class InputAudio(Struct):
    data: str
    #: `wav`, `mp3`.
    format: str


class InputFile(Struct, omit_defaults=True):
    """`file_data` is a data URL, by convention."""

    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class ContentPart(Struct, omit_defaults=True):
    """`text`, or a kind that carries something else; of a kind that is not known here, nothing but its name."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | None = None
    input_audio: InputAudio | None = None
    file: InputFile | None = None
    cache_control: CacheControl | None = None


class CalledFunction(Struct):
    name: str
    arguments: str


class ToolCall(Struct, kw_only=True):
    id: str
    type: str = "function"
    function: CalledFunction | None = None


class ReasoningDetail(Struct, omit_defaults=True):
    """One thought, or a piece of it, in the way of OpenRouter: `reasoning.text`, `.summary` or `.encrypted`."""

    type: str
    text: str | None = None
    summary: str | None = None
    #: Of `reasoning.encrypted`.
    data: str | None = None
    signature: str | None = None
    #: Whose signature it is (`anthropic-claude-v1`).
    format: str | None = None
    id: str | None = None
    #: Counts the thoughts of a choice.
    index: int | None = None
    #: The gateway's own member: the tool call that this thought stands right before.
    tool_call_id: str | None = None


class Message(Struct, omit_defaults=True):
    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    #: One tool call, as it was told before there were `tool_calls`.
    function_call: CalledFunction | None = None
    refusal: str | None = None
    #: DeepSeek's and vLLM's name for what the model thought.
    reasoning_content: str | None = None
    #: OpenRouter's and Groq's.
    reasoning: str | None = None
    reasoning_details: list[ReasoningDetail] | None = None
    #: An answer in sound, referred to.
    audio: Any = None


class Function(Struct, omit_defaults=True):
    name: str
    description: str | None = None
    #: A JSON schema; left out, the function takes nothing.
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Struct, omit_defaults=True):
    """`function`, or a kind that only some providers know (`custom`, …)."""

    type: str
    function: Function | None = None
    cache_control: CacheControl | None = None


class FunctionName(Struct):
    name: str


class NamedTool(Struct):
    type: str
    function: FunctionName | None = None


class AllowedTools(Struct):
    mode: Literal["auto", "required"]
    tools: list[NamedTool]


class ToolChoice(Struct, omit_defaults=True):
    """An object in `tool_choice`: one function that must be called, or the tools that may be."""

    type: str
    function: FunctionName | None = None
    allowed_tools: AllowedTools | None = None


class JsonSchema(Struct, omit_defaults=True):
    name: str
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class ResponseFormat(Struct, omit_defaults=True):
    type: str
    json_schema: JsonSchema | None = None


class Request(Struct, omit_defaults=True):
    """What a model needs to answer, and what only some models can give."""

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
    #: Not OpenAI's, but of most that are compatible with it.
    top_k: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[Tool] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    #: `tools` and `tool_choice`, as they were called before.
    functions: list[Function] | None = None
    function_call: str | FunctionName | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: str | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    modalities: Any = None
    web_search_options: Any = None
    logit_bias: Any = None
    moderation: Any = None


# --- usage ------------------------------------------------------------------------------------------------------------


class PromptTokensDetails(Struct):
    cached_tokens: int | None = 0
    audio_tokens: int | None = 0
    cache_write_tokens: int | UnsetType | None = UNSET


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


class Logprobs(Struct):
    """`content` is a list of one object a token."""

    content: Raw
    refusal: None = None


class AnswerMessage(Struct):
    role: Role = "assistant"
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    reasoning_details: list[ReasoningDetail] | UnsetType = UNSET


class Choice(Struct):
    index: int
    message: AnswerMessage
    logprobs: Logprobs | None = None
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
    reasoning_content: str | UnsetType = UNSET
    reasoning_details: list[ReasoningDetail] | UnsetType = UNSET


class ChunkChoice(Struct):
    index: int
    delta: Delta
    logprobs: Logprobs | None = None
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
