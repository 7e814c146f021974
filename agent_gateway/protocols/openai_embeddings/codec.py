"""OpenAI's embeddings: between a client and a provider that both speak them; no other protocol has a word for them.

Promise: the input is known to be one before a provider is asked; vectors pass through byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NoReturn

import msgspec
from msgspec import Raw, Struct

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.conversation import Conversation
from agent_gateway.core.delta import Delta, Used
from agent_gateway.core.errors import BadRequest, EmptyReply, GatewayError, MalformedReply, NotExpressible
from agent_gateway.core.route import Deployment
from agent_gateway.protocols import base
from agent_gateway.protocols.decoding import check_utf8, decode
from agent_gateway.protocols.openai_chat import client as openai
from agent_gateway.protocols.openai_chat import relay
from agent_gateway.protocols.usage import ToldUsage
from agent_gateway.wire import openai_embeddings as wire

#: As for every protocol: what a translation drops, and what it refuses. Of embeddings there is none.
DROPPED: dict[str, str] = {}
REFUSED = {"turns": "Embeddings are not a conversation: client and provider both have to speak them."}

_request = msgspec.json.Decoder(wire.Request)


class _Reply(Struct):
    data: list[Raw] | None = None
    usage: ToldUsage | None = None
    error: Any = None


_reply = msgspec.json.Decoder(_Reply)
_members = msgspec.json.Decoder(dict[str, Raw])


class OpenAIEmbeddings:
    dialect: ClassVar[Dialect] = "openai_embeddings"
    heartbeat: ClassVar[bytes] = b""

    # --- the client's side ---

    def read_call(self, body: bytes, forward_headers: dict[str, str], path: str) -> Call:
        if not body.isascii():
            check_utf8(body)
        asked = decode(_request, body)
        _check_input(asked.input)
        return Call(
            dialect="openai_embeddings",
            model=asked.model,
            body=body,
            user=asked.user,
            conversational=False,
            forward_headers=forward_headers,
        )

    def read_conversation(self, call: Call) -> Conversation:
        _refuse()

    def stream_writer(self, head: base.AnswerHead, call: Call) -> base.StreamWriter:
        _refuse()

    def write_answer(self, head: base.AnswerHead, deltas: Sequence[Delta], call: Call) -> bytes:
        _refuse()

    def write_error(self, error: GatewayError, request_id: str) -> bytes:
        return openai.write_error(error)

    def write_stream_error(self, error: GatewayError, request_id: str, fallback_model: str | None) -> bytes:
        _refuse()

    # --- the provider's side ---

    def write_request(self, conversation: Conversation, deployment: Deployment) -> bytes:
        _refuse()

    def stream_reader(self) -> base.StreamReader:
        _refuse()

    def read_answer(self, body: bytes) -> list[Delta]:
        """What was used; the vectors are not looked at."""
        try:
            reply = _reply.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedReply("The model provider's answer is not valid JSON of its protocol.", detail=str(error)) from None
        if reply.error is not None:
            raise relay.error_in_body(reply.error)
        if not reply.data:
            raise EmptyReply("The model provider's answer holds no embeddings.")
        return [] if reply.usage is None else [Used(reply.usage.counted())]

    # --- both sides the same ---

    def pass_request(self, call: Call, deployment: Deployment) -> bytes:
        return relay.provider_body(call, deployment)

    def as_unary(self, call: Call) -> Call:
        return call

    def renamed(self, data: bytes, model: str) -> bytes:
        """Most providers tell the model behind the vectors, which are then not gone through: what begins there is an object of its own."""
        at = data.rfind(b'"model"')
        if at < 0:
            return data
        rest = b"{" + data[at:]
        try:
            _members.decode(rest)
        except msgspec.MsgspecError:
            return relay.renamed(data, model)
        return data[:at] + relay.renamed(rest, model)[1:]

    def continued(self, call: Call, text: str, deployment: Deployment) -> Call:
        _refuse()


def _refuse() -> NoReturn:
    raise NotExpressible("embeddings: they are not a conversation, and no other protocol has them.", param="embeddings")


def _check_input(asked: str | list[str | int | list[int]]) -> None:
    """OpenAI refuses texts and lists of tokens that are empty, and a mixture."""
    parts = [asked] if isinstance(asked, str) else asked
    for index, part in enumerate(parts):
        path = "input" if isinstance(asked, str) else f"input[{index}]"
        if type(part) is not type(parts[0]):
            raise BadRequest(f"{path}: all elements have to be of one kind: texts, tokens, or lists of tokens.", param=path)
        if part in ("", []):
            raise BadRequest(f"{path}: expected a text, or tokens, that is not empty.", param=path)
