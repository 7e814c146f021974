"""The codec of OpenAI chat completions: requests read, answers, chunks, usage and errors written.

Promise: a request is refused only for fields that are typed here, and the refusal names the field.
"""

from __future__ import annotations

import re

import msgspec

from agent_gateway.core.call import NO_NEEDS, Call, Need
from agent_gateway.core.errors import BadRequest, GatewayError
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.decoding import check_utf8, decode
from agent_gateway.wire import openai_chat as wire
from agent_gateway.wire.sse import DONE, data_frame

__all__ = [
    "DONE",
    "StreamWriter",
    "read_call",
    "read_request",
    "usage_to_wire",
    "write_answer",
    "write_chunk",
    "write_error",
    "write_stream_error",
]

_json = msgspec.json.Encoder()
_head = msgspec.json.Decoder(wire.RequestHead)
_request = msgspec.json.Decoder(wire.Request)

#: Stands for the text where a chunk is written to be filled in.
_TEXT_HERE = "\x00"
_TEXT_HERE_JSON = _json.encode(_TEXT_HERE)
_SOME = re.compile(rb"\[\s*[^\s\]]")
_MEDIA = re.compile(rb'"type"\s*:\s*"(image_url|input_audio|file)"')
_MEDIA_NEEDS: dict[bytes, Need] = {b"image_url": "vision", b"input_audio": "audio", b"file": "documents"}


# --- reading ----------------------------------------------------------------------------------------------------------


def read_call(body: bytes, forward_headers: dict[str, str]) -> Call:
    """What the gateway acts on; the conversation is not looked at. Raises `BadRequest` whose `param` is the field's path."""
    if not body.isascii():
        check_utf8(body)
    head = decode(_head, body)
    if not _SOME.match(head.messages):
        raise BadRequest("messages: expected a non-empty array of messages.", param="messages")
    options = head.stream_options
    limit = head.max_completion_tokens or head.max_tokens
    wants_json = head.response_format is not None and head.response_format.type in ("json_object", "json_schema")
    return Call(
        dialect="openai_chat",
        model=head.model,
        body=body,
        stream=bool(head.stream),
        wants_usage=options is not None and bool(options.include_usage),
        # Some servers take a limit below 1 for "none".
        max_output_tokens=limit if limit and limit > 0 else None,
        user=head.user,
        wants_json=wants_json,
        conversational=not wants_json and head.tool_choice in (None, "auto", "none"),
        forward_headers=forward_headers,
        needs=_needs(body, head),
    )


def _needs(body: bytes, head: wire.RequestHead) -> frozenset[Need]:
    if head.response_format is None and head.reasoning_effort is None and body.find(b"[", body.find(b"[") + 1) < 0:
        return NO_NEEDS  # one array, the messages: neither tools nor parts; finding one byte is much cheaper than the pattern
    needs: set[Need] = {_MEDIA_NEEDS[found[1]] for found in _MEDIA.finditer(head.messages)}
    if _SOME.match(head.tools) or _SOME.match(head.functions):
        needs.add("tools")
    if head.response_format is not None and head.response_format.type == "json_schema":
        needs.add("json_schema")
    if head.reasoning_effort not in (None, "none"):
        needs.add("reasoning")
    return frozenset(needs) if needs else NO_NEEDS


def read_request(body: bytes) -> wire.Request:
    """All that a model needs to answer. Raises `BadRequest` whose `param` is the field's path."""
    return decode(_request, body)


# --- writing ----------------------------------------------------------------------------------------------------------


def write_answer(answer: wire.Answer) -> bytes:
    return _json.encode(answer)


def write_chunk(chunk: wire.Chunk) -> bytes:
    return data_frame(_json.encode(chunk))


def write_error(error: GatewayError) -> bytes:
    """The body of an error told by its status."""
    return _json.encode(wire.ErrorBody(wire.Error(message=error.message, type=error.type, param=error.param, code=error.code)))


def write_stream_error(error: GatewayError, fallback_model: str | None = None) -> bytes:
    """The last event of a stream that failed after content was sent."""
    told = wire.StreamError(
        message=error.message,
        type=error.type,
        code=error.code,
        retry_after=error.retry_after_s,
        fallback_model=fallback_model,
    )
    return data_frame(_json.encode(wire.StreamErrorBody(told)))


class StreamWriter:
    """One answer's chunks, as frames. With `with_usage`, `usage` is null in each and counted in the last."""

    __slots__ = ("_created", "_fingerprint", "_frames", "_id", "_model", "_usage")

    def __init__(self, answer_id: str, created: int, model: str, *, fingerprint: str | None = None, with_usage: bool = False) -> None:
        self._id = answer_id
        self._created = created
        self._model = model
        self._fingerprint = fingerprint
        self._usage: msgspec.UnsetType | None = None if with_usage else msgspec.UNSET
        #: Around the text of a choice's plain chunk: nearly all of them are plain, and this spares them the encoding of the rest.
        self._frames: dict[int, tuple[bytes, bytes]] = {}

    def role(self, choice: int, *, says_text: bool = True) -> bytes:
        """A choice's first chunk."""
        return self.delta(choice, wire.Delta(role="assistant", content="" if says_text else None, refusal=None))

    def text(self, choice: int, text: str) -> bytes:
        around = self._frames.get(choice)
        if around is None:
            before, _, after = self.delta(choice, wire.Delta(content=_TEXT_HERE)).rpartition(_TEXT_HERE_JSON)
            around = self._frames[choice] = before, after
        return b"%b%b%b" % (around[0], _json.encode(text), around[1])

    def tool_call(self, choice: int, index: int, call_id: str, name: str) -> bytes:
        """A tool call begins; its arguments follow."""
        function = wire.FunctionDelta(name=name, arguments="")
        return self._tool(choice, wire.ToolCallDelta(index=index, id=call_id, type="function", function=function))

    def tool_arguments(self, choice: int, index: int, arguments: str) -> bytes:
        return self._tool(choice, wire.ToolCallDelta(index=index, function=wire.FunctionDelta(arguments=arguments)))

    def finish(self, choice: int, reason: str) -> bytes:
        return self._chunk(wire.ChunkChoice(index=choice, delta=wire.Delta(), finish_reason=reason))

    def usage(self, usage: Usage) -> bytes:
        return self._write([], usage_to_wire(usage))

    def delta(self, choice: int, delta: wire.Delta, logprobs: wire.Logprobs | None = None) -> bytes:
        return self._chunk(wire.ChunkChoice(index=choice, delta=delta, logprobs=logprobs))

    def _tool(self, choice: int, call: wire.ToolCallDelta) -> bytes:
        return self.delta(choice, wire.Delta(tool_calls=[call]))

    def _chunk(self, choice: wire.ChunkChoice) -> bytes:
        return self._write([choice], self._usage)

    def _write(self, choices: list[wire.ChunkChoice], usage: wire.Usage | msgspec.UnsetType | None) -> bytes:
        return write_chunk(
            wire.Chunk(
                id=self._id,
                created=self._created,
                model=self._model,
                choices=choices,
                system_fingerprint=self._fingerprint,
                usage=usage,
            )
        )


# --- usage ------------------------------------------------------------------------------------------------------------


def usage_to_wire(usage: Usage) -> wire.Usage:
    return wire.Usage(
        prompt_tokens=usage.input,
        completion_tokens=usage.output,
        total_tokens=usage.total,
        prompt_tokens_details=wire.PromptTokensDetails(
            cached_tokens=usage.cache_read, cache_write_tokens=usage.cache_write or msgspec.UNSET
        ),
        completion_tokens_details=wire.CompletionTokensDetails(reasoning_tokens=usage.reasoning),
    )
