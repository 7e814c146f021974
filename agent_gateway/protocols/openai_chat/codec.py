"""OpenAI chat completions as one codec: what the other files of this folder do, under the names that every protocol has.

`DROPPED` and `REFUSED` say what of a conversation a provider of this protocol is not told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.conversation import Conversation
from agent_gateway.core.delta import Delta
from agent_gateway.core.errors import GatewayError
from agent_gateway.core.route import Deployment
from agent_gateway.protocols import base
from agent_gateway.protocols.openai_chat import answer, client, conversation, deltas, relay, request, stream
from agent_gateway.protocols.openai_chat.request import DROPPED, REFUSED

__all__ = ["DROPPED", "REFUSED", "OpenAIChat"]


class OpenAIChat:
    dialect: ClassVar[Dialect] = "openai_chat"
    heartbeat: ClassVar[bytes] = b": heartbeat\n\n"

    # --- the client's side ---

    def read_call(self, body: bytes, forward_headers: dict[str, str], path: str) -> Call:
        return client.read_call(body, forward_headers)

    def read_conversation(self, call: Call) -> Conversation:
        return conversation.read_conversation(call)

    def stream_writer(self, head: base.AnswerHead, call: Call) -> base.StreamWriter:
        return answer.StreamWriter(head, with_usage=call.wants_usage)

    def write_answer(self, head: base.AnswerHead, deltas: Sequence[Delta], call: Call) -> bytes:
        return answer.write_answer(head, deltas)

    def write_error(self, error: GatewayError, request_id: str) -> bytes:
        return client.write_error(error)

    def write_stream_error(self, error: GatewayError, request_id: str, fallback_model: str | None) -> bytes:
        return client.write_stream_error(error, fallback_model)

    # --- the provider's side ---

    def write_request(self, conversation: Conversation, deployment: Deployment) -> bytes:
        return request.write_request(conversation, deployment)

    def stream_reader(self) -> base.StreamReader:
        return stream.StreamReader(deltas.ChatAnswer())

    def read_answer(self, body: bytes) -> list[Delta]:
        return deltas.read_answer(body)

    # --- both sides the same ---

    def pass_request(self, call: Call, deployment: Deployment) -> bytes:
        return relay.provider_body(call, deployment)

    def as_unary(self, call: Call) -> Call:
        return relay.unary(call)

    def renamed(self, data: bytes, model: str) -> bytes:
        return relay.renamed(data, model)

    def continued(self, call: Call, text: str, deployment: Deployment) -> Call:
        return relay.continued(call, text, deployment)
