"""The codec of Gemini's generateContent and streamGenerateContent, as `protocols.base` promises it.

The model, the method and the framing stand in the request's path, so bodies hold none of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

import msgspec
from msgspec import Raw, structs

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.conversation import Conversation
from agent_gateway.core.delta import Delta
from agent_gateway.core.errors import GatewayError
from agent_gateway.core.route import Deployment
from agent_gateway.protocols.base import AnswerHead
from agent_gateway.protocols.gemini import call as calls
from agent_gateway.protocols.gemini import conversation as conversations
from agent_gateway.protocols.gemini import errors, reader, request, writer
from agent_gateway.protocols.gemini.foreign import with_signed_calls, without_foreign_thoughts
from agent_gateway.protocols.gemini.parameters import with_parameters
from agent_gateway.protocols.gemini.request import DROPPED, REFUSED
from agent_gateway.protocols.json_edit import replace_member
from agent_gateway.wire.sse import data_frame

__all__ = ["DROPPED", "REFUSED", "Gemini"]

_json = msgspec.json.Encoder()
_members = msgspec.json.Decoder(dict[str, Raw])

#: A member that nothing but simple ones, and the end of the one object that is still open, follow: it is of the top level.
_VERSION = re.compile(
    rb'"modelVersion"\s*:\s*("(?:[^"\\]++|\\.)*+")(?:\s*,\s*"\w+"\s*:\s*(?:"[^"\\]*"|[^\s,"{}\[\]]+))*\s*\}\s*', re.DOTALL
)


class Gemini:
    dialect: ClassVar[Dialect] = "gemini"
    #: Empty lines: Google's SDKs take a comment for JSON and fail on it. Between the elements of an array they are white space.
    heartbeat: ClassVar[bytes] = b"\n\n"

    # --- the client's side

    def read_call(self, body: bytes, forward_headers: dict[str, str], path: str) -> Call:
        return calls.read_call(body, forward_headers, path)

    def read_conversation(self, call: Call) -> Conversation:
        return conversations.read(call)

    def stream_writer(self, head: AnswerHead, call: Call) -> writer.StreamWriter:
        return writer.StreamWriter(head, call.framing)

    def write_answer(self, head: AnswerHead, deltas: Sequence[Delta], call: Call) -> bytes:
        return writer.write_answer(head, deltas)

    def write_error(self, error: GatewayError, request_id: str) -> bytes:
        return errors.write_error(error)

    def write_stream_error(self, error: GatewayError, request_id: str, fallback_model: str | None) -> bytes:
        return data_frame(errors.stream_error(error, fallback_model))

    # --- the provider's side

    def write_request(self, conversation: Conversation, deployment: Deployment) -> bytes:
        return request.write(conversation, deployment)

    def stream_reader(self) -> reader.StreamReader:
        return reader.StreamReader()

    def read_answer(self, body: bytes) -> list[Delta]:
        return reader.read_answer(body)

    # --- both sides the same

    def pass_request(self, call: Call, deployment: Deployment) -> bytes:
        body = without_foreign_thoughts(call.body)
        if request.is_modern(deployment.model):
            body = with_signed_calls(body)
        if not (deployment.default or deployment.override):
            return body
        return _json.encode(with_parameters(_members.decode(body), deployment))

    def as_unary(self, call: Call) -> Call:
        return structs.replace(call, stream=False)

    def renamed(self, data: bytes, model: str) -> bytes:
        start = data.rfind(b'"modelVersion"')
        if start < 0:
            return data
        name = _json.encode(model)
        at_end = _VERSION.fullmatch(data, start)
        if at_end is None:
            return replace_member(data, b"modelVersion", name)
        return data[: at_end.start(1)] + name + data[at_end.end(1) :]

    def continued(self, call: Call, text: str, deployment: Deployment) -> Call:
        """A last turn of the model's is gone on from as it is."""
        return structs.replace(call, body=request.continued(call.body, text))
