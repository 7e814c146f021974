"""Gemini's generateContent as types (https://ai.google.dev/api/generate-content).

What comes in tolerates unknown fields; names are camelCase on the wire, and snake_case ones are turned into them before.
"""

from __future__ import annotations

from typing import Any

from msgspec import Raw, Struct, field

#: A member that is left out, or null.
NULL = Raw(b"null")

# --- contents, of requests and answers --------------------------------------------------------------------------------


class Blob(Struct, rename="camel", omit_defaults=True):
    """`data` is base64."""

    mime_type: str
    data: str


class FileData(Struct, rename="camel", omit_defaults=True):
    file_uri: str
    mime_type: str | None = None


class FunctionCall(Struct, rename="camel", omit_defaults=True):
    """`args` is an object; `id` is left out by some models."""

    name: str
    args: Raw = NULL
    id: str | None = None


class MediaPart(Struct, rename="camel", omit_defaults=True):
    """What a function's response may hold beside its object."""

    inline_data: Blob | None = None
    file_data: FileData | None = None


class FunctionResponse(Struct, rename="camel", omit_defaults=True):
    """`response` is an object."""

    name: str
    response: Raw = NULL
    id: str | None = None
    parts: list[MediaPart] | None = None


class Part(Struct, rename="camel", omit_defaults=True):
    """One kind of content, or one that is not known here; a signature may hang on any."""

    text: str | None = None
    thought: bool | None = None
    inline_data: Blob | None = None
    file_data: FileData | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None
    video_metadata: Any = None
    thought_signature: str | None = None
    executable_code: Any = None
    code_execution_result: Any = None

    @property
    def holds_more(self) -> bool:
        """Media, or code that was run."""
        told = (self.inline_data, self.file_data, self.executable_code, self.code_execution_result)
        return any(item is not None for item in told)


class Content(Struct, rename="camel", omit_defaults=True):
    """Google takes a lone part for a list of one."""

    parts: list[Part] | Part | None = None
    role: str | None = None


# --- the request ------------------------------------------------------------------------------------------------------


class FunctionDeclaration(Struct, rename="camel", omit_defaults=True):
    """`parameters` is an OpenAPI schema, `parametersJsonSchema` a JSON schema; one of them, or none."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    parameters_json_schema: dict[str, Any] | None = None


class Tool(Struct, rename="camel", omit_defaults=True):
    """Functions, or tools of Google's own, which are not typed here."""

    function_declarations: list[FunctionDeclaration] | None = None


class FunctionCallingConfig(Struct, rename="camel", omit_defaults=True):
    mode: str | None = None
    allowed_function_names: list[str] | None = None


class ToolConfig(Struct, rename="camel", omit_defaults=True):
    function_calling_config: FunctionCallingConfig | None = None


class ThinkingConfig(Struct, rename="camel", omit_defaults=True):
    include_thoughts: bool | None = None
    thinking_budget: int | None = None
    thinking_level: str | None = None


class GenerationConfig(Struct, rename="camel", omit_defaults=True):
    temperature: float | None = None
    top_p: float | None = None
    top_k: float | None = None
    max_output_tokens: int | None = None
    stop_sequences: list[str] | None = None
    candidate_count: int | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_logprobs: bool | None = None
    logprobs: int | None = None
    response_mime_type: str | None = None
    response_schema: dict[str, Any] | None = None
    response_json_schema: dict[str, Any] | None = None
    thinking_config: ThinkingConfig | None = None
    response_modalities: list[str] | None = None
    speech_config: Any = None
    image_config: Any = None
    audio_transcription_config: Any = None


class Request(Struct, rename="camel", omit_defaults=True, kw_only=True):
    """Google takes a lone content for a list of one."""

    contents: list[Content] | Content
    system_instruction: Content | None = None
    tools: list[Tool] | None = None
    tool_config: ToolConfig | None = None
    generation_config: GenerationConfig | None = None
    cached_content: str | None = None
    continuation_token: str | None = None


class GenerationHead(Struct, rename="camel"):
    max_output_tokens: int | None = None
    response_mime_type: str | None = None
    response_schema: Raw = NULL
    response_json_schema: Raw = NULL
    thinking_config: ThinkingConfig | None = None


class RequestHead(Struct, rename="camel"):
    """Of a request only what the gateway itself acts on; the contents stay as they came."""

    contents: Raw
    tools: list[Raw] | None = None
    tool_config: ToolConfig | None = None
    generation_config: GenerationHead | None = None


# --- the answer, whole or one event of a stream -----------------------------------------------------------------------


class TokenLogprob(Struct, rename="camel", omit_defaults=True):
    token: str | None = None
    log_probability: float | None = None


class TopCandidates(Struct, rename="camel", omit_defaults=True):
    candidates: list[TokenLogprob] | None = None


class LogprobsResult(Struct, rename="camel", omit_defaults=True):
    """Both lists are as long as the text has tokens."""

    top_candidates: list[TopCandidates] | None = None
    chosen_candidates: list[TokenLogprob] | None = None


class Candidate(Struct, rename="camel", omit_defaults=True):
    content: Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None
    index: int | None = None
    logprobs_result: LogprobsResult | None = None


class PromptFeedback(Struct, rename="camel", omit_defaults=True):
    block_reason: str | None = None


class UsageMetadata(Struct, rename="camel", omit_defaults=True):
    """The prompt's count includes what was cached; the candidates' leaves out the thoughts."""

    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    total_token_count: int | None = None
    cached_content_token_count: int | None = None
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None


class Answer(Struct, rename="camel", omit_defaults=True):
    candidates: list[Candidate] | None = None
    prompt_feedback: PromptFeedback | None = None
    usage_metadata: UsageMetadata | None = None
    model_version: str | None = None
    response_id: str | None = None
    error: Error | None = None


# --- errors -----------------------------------------------------------------------------------------------------------


class FieldViolation(Struct):
    field: str
    description: str


class ErrorDetail(Struct, rename="camel", omit_defaults=True):
    """google/rpc/error_details.proto: `ErrorInfo` has a reason, `BadRequest` the violations, `RetryInfo` the delay (`"34.5s"`)."""

    type: str = field(default="", name="@type")
    reason: str | None = None
    domain: str | None = None
    field_violations: list[FieldViolation] | None = None
    retry_delay: str | None = None


class Error(Struct, omit_defaults=True):
    """`code` is an HTTP status, `status` the name of a google.rpc.Code."""

    code: int | None = None
    message: str | None = None
    status: str | None = None
    details: list[ErrorDetail] | None = None


class StreamError(Struct):
    """An error told after content has been sent: what else the client may do about it."""

    code: int
    message: str
    status: str
    #: Seconds.
    retry_after: float | None = None
    fallback_model: str | None = None


class ErrorBody(Struct):
    error: Error


class StreamErrorBody(Struct):
    error: StreamError
