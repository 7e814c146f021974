"""What a conversation is made of in each protocol — messages, contents, items — taken out of bodies and put back, verbatim.

Promise: a turn that is put back has the very bytes it had; of the body around it only the white space between members may change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias

import msgspec
from msgspec import Raw, structs

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.plugins import Seat
from agent_gateway.protocols.base import codec_of
from agent_gateway.wire.sse import FrameSplitter, frame_data

#: Protocols that hold conversations.
TURNS = Seat(
    "turns",
    {
        "openai_chat": "agent_gateway.protocols.openai_chat.turns:ChatTurns",
        "openai_responses": "agent_gateway.protocols.openai_responses.turns:ResponsesTurns",
        "anthropic": "agent_gateway.protocols.anthropic.turns:AnthropicTurns",
        "gemini": "agent_gateway.protocols.gemini.turns:GeminiTurns",
    },
)

#: `system`: instructions among the turns; `results`: of tools, which nothing may part from the turn that called them.
Kind: TypeAlias = Literal["system", "user", "results", "assistant"]

#: Gemini's codec wants a path, for what stands there; what is asked of it here does not.
_ANY_PATH = "/v1beta/models/any:generateContent"

_json = msgspec.json.Encoder()
_members = msgspec.json.Decoder(dict[str, Raw])
_list = msgspec.json.Decoder(list[Raw])


class AnswerCollector(Protocol):
    """An answer's first choice, gathered from the stream that the client gets."""

    #: The protocol's end mark has come; where it has none (Gemini), the end of the stream tells.
    done: bool

    def feed(self, data: bytes) -> None:
        """Whole frames. What is not of the protocol is passed over."""

    def turns(self) -> list[bytes]:
        """The answer as it is to be sent again; empty where it says nothing."""

    def text(self) -> str:
        """Of what has come so far, the plain text: all that an answer that broke off can be gone on from."""


class Turns(Protocol):
    """One protocol's."""

    def of(self, call: Call) -> list[bytes]:
        """The call's own, in order."""

    def put(self, call: Call, turns: Sequence[bytes]) -> Call:
        """The call with these in the place of its own."""

    def kind(self, turn: bytes) -> Kind: ...

    def said(self, text: str) -> bytes:
        """An assistant's turn of plain text."""

    def answer(self, body: bytes) -> list[bytes]:
        """Of a whole answer, as the client gets it: the first choice as it is to be sent again."""

    def collector(self, call: Call) -> AnswerCollector:
        """For the call's stream."""


_turns: dict[Dialect, Turns] = {}


def turns_of(dialect: Dialect) -> Turns | None:
    """None: the protocol holds no conversations (embeddings, counts, completions of a text)."""
    turns = _turns.get(dialect)
    if turns is None and dialect in TURNS.table:
        turns = _turns[dialect] = TURNS.load(dialect)()
    return turns


# --- what the protocols share -----------------------------------------------------------------------------------------


def members_of(body: bytes) -> dict[str, Raw]:
    return _members.decode(body)


def listed(value: Raw | bytes) -> list[bytes]:
    """The elements of a JSON array, each as it stands."""
    return [bytes(turn) for turn in _list.decode(value)]


def with_member(call: Call, name: str, turns: Sequence[bytes]) -> Call:
    """`name` is the body's member that holds the turns."""
    members = _members.decode(call.body)
    members[name] = Raw(b"[%b]" % b",".join(turns))
    return with_body(call, _json.encode(members))


def with_body(call: Call, body: bytes) -> Call:
    """The same call with other turns, which may need other things of a model."""
    changed = structs.replace(call, body=body)
    return structs.replace(changed, needs=codec_of(call.dialect).read_call(body, call.forward_headers, _ANY_PATH).needs)


class EventReader:
    """A stream's events as JSON objects; whatever is none is passed over."""

    __slots__ = ("_splitter",)

    def __init__(self) -> None:
        self._splitter = FrameSplitter()

    def read(self, data: bytes) -> list[dict[str, Any] | None]:
        """None stands for OpenAI's end mark."""
        events: list[dict[str, Any] | None] = []
        for frame in self._splitter.split(self._splitter.feed(data)):
            payload = frame_data(frame)
            if payload is None:
                continue
            if payload.strip() == b"[DONE]":
                events.append(None)
            elif (event := as_object(payload)) is not None:
                events.append(event)
        return events


def as_object(data: bytes) -> dict[str, Any] | None:
    try:
        value = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
