"""What a codec promises: one a protocol, for the client's side, the provider's side and the simulator alike; and the seat they sit in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Protocol, get_args

from msgspec import Struct

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.conversation import Conversation
from agent_gateway.core.delta import Delta
from agent_gateway.core.errors import GatewayError, ProviderRefusedRequest
from agent_gateway.core.plugins import Seat
from agent_gateway.core.route import Deployment

CODECS = Seat(
    "protocols",
    {
        "openai_chat": "agent_gateway.protocols.openai_chat.codec:OpenAIChat",
        "openai_completions": "agent_gateway.protocols.openai_completions.codec:OpenAICompletions",
        "openai_embeddings": "agent_gateway.protocols.openai_embeddings.codec:OpenAIEmbeddings",
        "openai_responses": "agent_gateway.protocols.openai_responses.codec:OpenAIResponses",
        "anthropic": "agent_gateway.protocols.anthropic.codec:Anthropic",
        "anthropic_count": "agent_gateway.protocols.anthropic_count.codec:AnthropicCount",
        "gemini": "agent_gateway.protocols.gemini.codec:Gemini",
    },
)


class AnswerHead(Struct, frozen=True):
    """What marks one answer as itself, wherever its content comes from."""

    #: Bare, of letters and digits: the protocol puts its own prefix before it (`chatcmpl-`, `msg_`, `resp_`).
    id: str
    #: Unix seconds.
    created: int
    #: As the client spelt it.
    model: str
    fingerprint: str | None = None


class StreamReader(Protocol):
    """A provider's stream, read. However its bytes arrive split, the same deltas come out."""

    #: The protocol's own end mark has come (`[DONE]`, `message_stop`, `response.completed`); nothing more is expected.
    done: bool

    @property
    def text_member(self) -> bytes | None:
        """The member that tells a piece of text: after a frame that was read as one `TextDelta` and nothing else, those that differ from
        it in this member's value alone are read as that text, and leave the reader as it is. None: this cannot be said.
        """

    def feed(self, data: bytes) -> list[Delta]:
        """What is whole of the bytes so far. Raises `MalformedReply`, or `ProviderFault` and its likes for an error inside the stream;
        deltas of frames before the bad one are returned first, and the next call raises.
        """

    def finish(self) -> None:
        """Called at the clean end of the body. Raises `EmptyReply` or `MalformedReply` where the answer was not complete by then."""


class StreamWriter(Protocol):
    """An answer, written as the client's stream. May hold back what its protocol says only at the end (the reason, usage)."""

    def write(self, deltas: Iterable[Delta]) -> bytes:
        """Whole frames; perhaps none. Ids and models of a provider's `Started` are not taken over: the head's are written."""

    def follow(self, text: str, frames: bytes) -> None:
        """Called first, where another wrote the answer's beginning: the client has `text`, and got `frames` last. What is written next
        goes on there.
        """

    def end(self) -> bytes:
        """All that is still owed, the protocol's end mark included. Called once, when the answer is complete."""


class Codec(Protocol):
    """Bodies are JSON. Errors in what a client sent are `BadRequest` with the field's path; in what a provider sent `MalformedReply`."""

    dialect: ClassVar[Dialect]
    #: An event that means nothing, for quiet streams: one that the protocol's SDKs pass over.
    heartbeat: ClassVar[bytes]

    # --- the client's side ---

    def read_call(self, body: bytes, forward_headers: dict[str, str], path: str) -> Call:
        """What the gateway acts on, read as cheaply as can be; `path` is the request's, where the protocol puts model and method there."""

    def read_conversation(self, call: Call) -> Conversation:
        """All of the request, for another protocol."""

    def stream_writer(self, head: AnswerHead, call: Call) -> StreamWriter:
        """`call` says with or without usage, and the framing."""

    def write_answer(self, head: AnswerHead, deltas: Sequence[Delta], call: Call) -> bytes:
        """The whole answer; `deltas` is all of it, pieces in any size."""

    def write_error(self, error: GatewayError, request_id: str) -> bytes:
        """The body of an error told by its status."""

    def write_stream_error(self, error: GatewayError, request_id: str, fallback_model: str | None) -> bytes:
        """The last event of a stream that failed after content was sent; its data has a member `error`."""

    # --- the provider's side ---

    def write_request(self, conversation: Conversation, deployment: Deployment) -> bytes:
        """Raises `NotExpressible` for what the protocol cannot say. The deployment's parameters (`default`, `override`) are in it."""

    def stream_reader(self) -> StreamReader: ...

    def read_answer(self, body: bytes) -> list[Delta]:
        """Of a whole answer. Raises `MalformedReply`, `EmptyReply`, and what `read_error` says for an error under a 200."""

    # --- both sides the same ---

    def pass_request(self, call: Call, deployment: Deployment) -> bytes:
        """The client's body with what routing requires (model, the deployment's parameters) and nothing else changed."""

    def as_unary(self, call: Call) -> Call:
        """The same call, for an answer in one piece."""

    def renamed(self, data: bytes, model: str) -> bytes:
        """One frame of a stream, or a whole answer, with the client's name of the model in place of the provider's; else byte for byte."""

    def continued(self, call: Call, text: str, deployment: Deployment) -> Call:
        """The call with the answer so far as the assistant's turn to complete, told in the deployment's way (`Deployment.prefill`)."""


_codecs: dict[Dialect, Codec] = {}


def codec_of(dialect: Dialect) -> Codec:
    """The one codec of a protocol; loaded when it is first asked for."""
    codec = _codecs.get(dialect)
    if codec is None:
        codec = _codecs[dialect] = CODECS.load(dialect)()
    return codec


def error_body(error: GatewayError, request_id: str, dialect: Dialect) -> bytes:
    """In the client's protocol; goes with `shown_status`. What a provider of the same protocol said of the request is passed on as it
    stands.
    """
    if isinstance(error, ProviderRefusedRequest) and error.passed_on and error.dialect == dialect:
        return error.body
    return codec_of(dialect).write_error(error, request_id)


def load_codecs() -> None:
    """All of them now, so that no request waits for the first of its protocol (70 ms together)."""
    for dialect in get_args(Dialect):
        codec_of(dialect)
