"""The codec of Anthropic's count_tokens: requests as for Messages, and a number of tokens for an answer.

What belongs to a conversation's answer does not apply here and is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NoReturn

import msgspec

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.conversation import Conversation
from agent_gateway.core.delta import Delta
from agent_gateway.core.errors import GatewayError, MalformedReply, NotExpressible
from agent_gateway.core.route import Deployment
from agent_gateway.protocols.anthropic import conversation, errors, relay
from agent_gateway.protocols.anthropic.codec import Anthropic, read_call
from agent_gateway.protocols.base import AnswerHead, StreamReader, StreamWriter
from agent_gateway.wire import anthropic as wire

__all__ = ["DROPPED", "REFUSED", "AnthropicCount"]

_json = msgspec.json.Encoder()
_count = msgspec.json.Decoder(wire.CountedTokens)

#: No conversation is ever written into this protocol.
DROPPED: dict[str, str] = {}
REFUSED: dict[str, str] = {"turns": "count_tokens answers with a number of tokens, not with a turn."}


class AnthropicCount:
    dialect: ClassVar[Dialect] = "anthropic_count"
    heartbeat: ClassVar[bytes] = Anthropic.heartbeat

    # --- the client's side ---

    def read_call(self, body: bytes, forward_headers: dict[str, str], path: str) -> Call:
        """Never a stream, and no fixed text can stand in for a number."""
        call = read_call(body, forward_headers, self.dialect)
        return msgspec.structs.replace(call, stream=False, conversational=False)

    def read_conversation(self, call: Call) -> Conversation:
        return conversation.read(call.body)

    def stream_writer(self, head: AnswerHead, call: Call) -> StreamWriter:
        _not_here()

    def write_answer(self, head: AnswerHead, deltas: Sequence[Delta], call: Call) -> bytes:
        _not_here()

    def counted(self, input_tokens: int) -> bytes:
        """The answer."""
        return _json.encode(wire.CountedTokens(input_tokens))

    def write_error(self, error: GatewayError, request_id: str) -> bytes:
        return errors.write_error(error, request_id)

    def write_stream_error(self, error: GatewayError, request_id: str, fallback_model: str | None) -> bytes:
        _not_here()

    # --- the provider's side ---

    def write_request(self, conversation: Conversation, deployment: Deployment) -> bytes:
        _not_here()

    def stream_reader(self) -> StreamReader:
        _not_here()

    def read_answer(self, body: bytes) -> list[Delta]:
        """A count says nothing and costs nothing, so there is no delta for it; that it is one is checked."""
        try:
            _count.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedReply("The model provider's answer is not a count of tokens.", detail=str(error)) from None
        return []

    # --- both sides the same ---

    def pass_request(self, call: Call, deployment: Deployment) -> bytes:
        """The deployment's parameters are for answers; none of them is counted."""
        return relay.with_model(call, deployment.model)

    def as_unary(self, call: Call) -> Call:
        return call

    def renamed(self, data: bytes, model: str) -> bytes:
        return data

    def continued(self, call: Call, text: str, deployment: Deployment) -> Call:
        _not_here()


def _not_here() -> NoReturn:
    raise NotExpressible(f"model: {REFUSED['turns']}", param="model")
