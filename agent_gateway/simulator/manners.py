"""How providers differ around what is said: bodies of errors, rate-limit headers, ids; one class a family of protocols."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import ClassVar, Protocol

import msgspec

from agent_gateway.core.call import Call, Dialect
from agent_gateway.wire.sse import data_frame

Headers = tuple[tuple[str, str], ...]

#: What the simulated account may use a minute; the headers tell it, nothing enforces it.
_REQUESTS_PER_MINUTE = 10_000
_TOKENS_PER_MINUTE = 2_000_000

_json = msgspec.json.Encoder()


class Manners(Protocol):
    #: Before the ids of tool calls.
    call_prefix: str
    #: Where the schema of the tool of this `index` stands in a request.
    tool_schema_path: str
    #: What is said of a thought whose signature is not good, and `where` it stands.
    bad_signature: str

    def headers(self, request_id: str, now: float, wait_s: float | None) -> Headers:
        """Beside the content type; `wait_s` where the allowance is used up, `now` in Unix seconds."""

    def error(self, status: int, request_id: str, wait_s: float) -> bytes:
        """The body that the provider answers with under `status`."""

    def error_frame(self, call: Call, frames_before: int) -> bytes:
        """A failure inside a stream."""


class _OpenAI:
    call_prefix = "call_"
    bad_signature = "The encrypted content for item {where} could not be verified."

    def __init__(self, tool_schema_path: str) -> None:
        self.tool_schema_path = tool_schema_path

    _errors: ClassVar[dict[int, tuple[str, str, str | None]]] = {
        400: ("The request is not valid (simulated).", "invalid_request_error", None),
        401: ("Incorrect API key provided (simulated).", "invalid_request_error", "invalid_api_key"),
        403: ("You are not allowed to use this model (simulated).", "invalid_request_error", "forbidden"),
        404: ("The model does not exist (simulated).", "invalid_request_error", "model_not_found"),
        429: ("Rate limit reached for requests (simulated).", "requests", "rate_limit_exceeded"),
        500: ("The server had an error while processing your request (simulated).", "server_error", None),
        503: ("The engine is currently overloaded, please try again later (simulated).", "service_unavailable", "overloaded"),
    }
    _any_client_error = ("The request was refused (simulated).", "invalid_request_error", None)
    _any_server_error = ("The server failed (simulated).", "server_error", None)

    def headers(self, request_id: str, now: float, wait_s: float | None) -> Headers:
        used_up = wait_s is not None
        return (
            ("x-request-id", f"req_{request_id}"),
            ("x-ratelimit-limit-requests", str(_REQUESTS_PER_MINUTE)),
            ("x-ratelimit-remaining-requests", str(0 if used_up else _REQUESTS_PER_MINUTE - 1)),
            ("x-ratelimit-reset-requests", f"{wait_s:g}s" if used_up else "6ms"),
            ("x-ratelimit-limit-tokens", str(_TOKENS_PER_MINUTE)),
            ("x-ratelimit-remaining-tokens", str(_TOKENS_PER_MINUTE)),
            ("x-ratelimit-reset-tokens", "0s"),
            *([("retry-after", f"{wait_s:g}")] if used_up else ()),
        )

    def error(self, status: int, request_id: str, wait_s: float) -> bytes:
        message, kind, code = self._errors.get(status, self._any_client_error if status < 500 else self._any_server_error)
        return _json.encode({"error": {"message": message, "type": kind, "param": None, "code": code}})

    def error_frame(self, call: Call, frames_before: int) -> bytes:
        return data_frame(self.error(500, "", 0))


class _Responses(_OpenAI):
    def error_frame(self, call: Call, frames_before: int) -> bytes:
        message, kind, _ = self._errors[500]
        event = {"type": "error", "code": kind, "message": message, "param": None, "sequence_number": frames_before}
        return b"event: error\n" + data_frame(_json.encode(event))


class _Anthropic:
    call_prefix = "toolu_"
    tool_schema_path = "tools.{index}.input_schema"
    bad_signature = "{where}: Invalid `signature` in `thinking` block"

    _errors: ClassVar[dict[int, tuple[str, str]]] = {
        401: ("invalid x-api-key (simulated)", "authentication_error"),
        402: ("Your credit balance is too low (simulated)", "billing_error"),
        403: ("You may not use this model (simulated)", "permission_error"),
        404: ("The model does not exist (simulated)", "not_found_error"),
        413: ("Request exceeds the maximum size (simulated)", "request_too_large"),
        429: ("This request would exceed your rate limit (simulated)", "rate_limit_error"),
        504: ("The request took too long (simulated)", "timeout_error"),
        529: ("Overloaded (simulated)", "overloaded_error"),
    }
    _any_client_error = ("The request is not valid (simulated)", "invalid_request_error")
    _any_server_error = ("Internal server error (simulated)", "api_error")

    def headers(self, request_id: str, now: float, wait_s: float | None) -> Headers:
        used_up = wait_s is not None
        reset = datetime.fromtimestamp(now + (wait_s or 0), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        return (
            ("request-id", f"req_{request_id}"),
            ("anthropic-ratelimit-requests-limit", str(_REQUESTS_PER_MINUTE)),
            ("anthropic-ratelimit-requests-remaining", str(0 if used_up else _REQUESTS_PER_MINUTE - 1)),
            ("anthropic-ratelimit-requests-reset", reset),
            ("anthropic-ratelimit-tokens-limit", str(_TOKENS_PER_MINUTE)),
            ("anthropic-ratelimit-tokens-remaining", str(_TOKENS_PER_MINUTE)),
            ("anthropic-ratelimit-tokens-reset", reset),
            *([("retry-after", f"{wait_s:g}")] if used_up else ()),
        )

    def error(self, status: int, request_id: str, wait_s: float) -> bytes:
        message, kind = self._errors.get(status, self._any_client_error if status < 500 else self._any_server_error)
        return _json.encode({"type": "error", "error": {"type": kind, "message": message}, "request_id": f"req_{request_id}"})

    def error_frame(self, call: Call, frames_before: int) -> bytes:
        message, kind = self._errors[529]
        return b"event: error\n" + data_frame(_json.encode({"type": "error", "error": {"type": kind, "message": message}}))


class _Gemini:
    call_prefix = "call_"
    tool_schema_path = "tools[0].functionDeclarations[{index}].parameters"
    bad_signature = "Corrupted thought signature."

    _errors: ClassVar[dict[int, tuple[str, str]]] = {
        400: ("Request contains an invalid argument (simulated).", "INVALID_ARGUMENT"),
        401: ("Request had invalid authentication credentials (simulated).", "UNAUTHENTICATED"),
        403: ("The caller does not have permission (simulated).", "PERMISSION_DENIED"),
        404: ("The model is not found (simulated).", "NOT_FOUND"),
        409: ("The operation was aborted (simulated).", "ABORTED"),
        429: ("You exceeded your current quota (simulated).", "RESOURCE_EXHAUSTED"),
        500: ("An internal error has occurred (simulated).", "INTERNAL"),
        503: ("The model is overloaded. Please try again later (simulated).", "UNAVAILABLE"),
        504: ("The deadline expired before the operation could complete (simulated).", "DEADLINE_EXCEEDED"),
    }
    _any_client_error = ("The request was refused (simulated).", "FAILED_PRECONDITION")
    _any_server_error = ("The service failed (simulated).", "UNKNOWN")

    def headers(self, request_id: str, now: float, wait_s: float | None) -> Headers:
        """None: what a client has to wait stands in the error's body."""
        return ()

    def error(self, status: int, request_id: str, wait_s: float) -> bytes:
        message, name = self._errors.get(status, self._any_client_error if status < 500 else self._any_server_error)
        details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{wait_s:g}s"}] if status == 429 else []
        error = {"code": status, "message": message, "status": name, **({"details": details} if details else {})}
        return _json.encode({"error": error})

    def error_frame(self, call: Call, frames_before: int) -> bytes:
        error = self.error(503, "", 0)
        if call.framing == "sse":
            return data_frame(error)
        return (b",\r\n" if frames_before else b"[") + error + b"]"


_MANNERS: dict[Dialect, Manners] = {
    "openai_chat": _OpenAI("tools[{index}].function.parameters"),
    "openai_completions": _OpenAI(""),
    "openai_embeddings": _OpenAI(""),
    "openai_responses": _Responses("tools[{index}].parameters"),
    "anthropic": _Anthropic(),
    "anthropic_count": _Anthropic(),
    "gemini": _Gemini(),
}


def manners_of(dialect: Dialect) -> Manners:
    return _MANNERS[dialect]
