"""The codec of OpenAI Responses: what `protocols.base` asks for, by the modules beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.conversation import Conversation
from agent_gateway.core.delta import Delta
from agent_gateway.core.errors import GatewayError
from agent_gateway.core.route import Deployment
from agent_gateway.protocols.base import AnswerHead
from agent_gateway.protocols.openai_chat import client as openai_chat
from agent_gateway.protocols.openai_chat import relay
from agent_gateway.protocols.openai_responses import answer, client_request, passage, provider_request, reply
from agent_gateway.wire import openai_responses as wire
from agent_gateway.wire.openai_chat import StreamError

_json = msgspec.json.Encoder()

_NO_PARAMETER = "The protocol has no such parameter."
#: What another protocol's request may hold and this one cannot say, by `Conversation`'s names; it is refused.
REFUSED: dict[str, str] = {
    "beyond": "Only a provider of the client's own protocol knows it.",
    "stop": _NO_PARAMETER,
    "seed": _NO_PARAMETER,
    "n": "There is one answer; 1 is taken.",
    "presence_penalty": "There is no such parameter; 0 is taken.",
    "frequency_penalty": "There is no such parameter; 0 is taken.",
    "File": "Audio and video are refused; documents are taken.",
    "Image, File of an assistant": "What an assistant said can only be text.",
}
#: What is left out when another protocol's request is written.
DROPPED: dict[str, str] = {
    "cache_for": "Prompts are cached without being asked.",
    "Reasoning": "One of another protocol's model means nothing here, nor does one that came without its content.",
    "ToolResult.name": "The call's id tells which tool it was.",
    "ToolResult.is_error": "There is no mark for a failed tool; its output says so.",
    "Turn.name": "Participants have no names.",
    "top_k": "There is no such parameter, and it only steers how words are drawn.",
    "paths": "They are for errors only.",
}
#: What a client of this protocol may send and no other protocol is told.
UNREAD: dict[str, str] = {
    "store": "The gateway itself keeps the answer, and asks no provider to keep one.",
    "truncation": "An input that is too long is the provider's to refuse.",
    "context_management": "An input that is too long is the provider's to refuse.",
    "service_tier": "Tiers are a provider's own.",
    "prompt_cache_key": "A hint for OpenAI's cache.",
    "prompt_cache_options": "A hint for OpenAI's cache.",
    "prompt_cache_retention": "A hint for OpenAI's cache.",
    "prompt_cache_breakpoint": "A hint for OpenAI's cache.",
    "max_tool_calls": "It bounds OpenAI's own tools, which are refused.",
    "stream_options": "It asks for padding that the gateway does not send.",
    "text.verbosity": "A hint that others have no word for.",
    "reasoning.summary": "That it is asked for is told, not how long it shall be.",
    "phase": "Which part of an answer a message was is told by its place.",
    "id": "Items of the input are told by their content; a thought's id goes back to its own provider.",
    "status": "Items of the input are taken as they are.",
    "annotations": "Citations in an earlier answer are for its reader.",
    "include": "Logprobs are told; thoughts come encrypted without being asked; the rest is of OpenAI's own tools.",
    "image": "How OpenAI shows images to its models.",
    "access_programs": "What OpenAI's customers have agreed on with it.",
    "background_options": "Background runs begin at once.",
}


class OpenAIResponses:
    dialect: ClassVar[Dialect] = "openai_responses"
    heartbeat: ClassVar[bytes] = b": heartbeat\n\n"

    # --- the client's side ---

    def read_call(self, body: bytes, forward_headers: dict[str, str], path: str) -> Call:
        return client_request.read_call(body, forward_headers)

    def read_conversation(self, call: Call) -> Conversation:
        return client_request.read_conversation(call)

    def stream_writer(self, head: AnswerHead, call: Call) -> answer.StreamWriter:
        return answer.StreamWriter(head, call)

    def write_answer(self, head: AnswerHead, deltas: Sequence[Delta], call: Call) -> bytes:
        return answer.write_answer(head, deltas, call)

    def write_error(self, error: GatewayError, request_id: str) -> bytes:
        return openai_chat.write_error(error)

    def write_stream_error(self, error: GatewayError, request_id: str, fallback_model: str | None) -> bytes:
        """By its member `error`, which OpenAI's own event has not, the SDK raises instead of passing an event on."""
        told = StreamError(error.message, error.type, error.code, error.retry_after_s, fallback_model)
        event = wire.ErrorEvent(code=error.code, message=error.message, param=error.param, error=told)
        return b"event: error\ndata: %b\n\n" % _json.encode(event)

    # --- the provider's side ---

    def write_request(self, conversation: Conversation, deployment: Deployment) -> bytes:
        return provider_request.write_request(conversation, deployment)

    def stream_reader(self) -> reply.StreamReader:
        return reply.StreamReader()

    def read_answer(self, body: bytes) -> list[Delta]:
        return reply.read_answer(body)

    # --- both sides the same ---

    def pass_request(self, call: Call, deployment: Deployment) -> bytes:
        return passage.pass_request(call, deployment)

    def as_unary(self, call: Call) -> Call:
        return relay.unary(call)

    def renamed(self, data: bytes, model: str) -> bytes:
        return passage.renamed(data, model)

    def continued(self, call: Call, text: str, deployment: Deployment) -> Call:
        return passage.continued(call, text, deployment)
