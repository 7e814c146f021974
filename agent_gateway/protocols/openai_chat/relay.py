"""OpenAI chat to OpenAI chat: bytes pass through, and only the model's name and usage nobody asked for are edited.

Promise: every other byte of a body or frame reaches the client as the provider sent it.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Raw, Struct, structs

from agent_gateway.core.call import Call
from agent_gateway.core.delta import Delta
from agent_gateway.core.errors import EmptyReply, MalformedReply, ProviderError, ProviderFault
from agent_gateway.core.route import Deployment
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.estimate import text_tokens
from agent_gateway.protocols.failure import DETAIL_MAX, INSIDE
from agent_gateway.protocols.glance import PADDING
from agent_gateway.protocols.json_edit import remove_null_member, replace_member, replace_string
from agent_gateway.protocols.signature import MARKED, holds_mark
from agent_gateway.protocols.usage import ToldUsage
from agent_gateway.wire.sse import DONE, FrameSplitter, FrameTooLarge, data_frame, frame_data

_json = msgspec.json.Encoder()
_TEXT = re.compile(rb'"content"\s*:\s*"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
_members = msgspec.json.Decoder(dict[str, Raw])
#: Two names of one parameter: OpenAI refuses a request with both.
_SYNONYMS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
#: A string that begins as a signature of another protocol's does: a quotation mark inside a JSON string is escaped.
_SIGNED_ELSEWHERE = re.compile(rb'"(?:signature|data)"\s*:\s*%b' % re.escape(MARKED))
_messages = msgspec.json.Decoder(list[dict[str, Raw]])
_list = msgspec.json.Decoder(list[Raw])
_STREAM_OPTIONS = Raw(b'{"include_usage":true}')


# --- the request ------------------------------------------------------------------------------------------------------


def provider_body(call: Call, deployment: Deployment) -> bytes:
    """The client's body with what routing requires: the deployment's model, its parameters, and usage asked for in streams."""
    ask_usage = call.stream and not call.wants_usage
    holds_marked = holds_mark(call.body)
    if deployment.model == call.model and not (ask_usage or holds_marked or deployment.default or deployment.override):
        return call.body
    members = _members.decode(call.body)
    if holds_marked and "messages" in members:  # embeddings come this way too
        members["messages"] = _without_marked(members["messages"])
    members["model"] = Raw(_json.encode(deployment.model))
    _set_parameters(members, deployment)
    if ask_usage:
        members["stream_options"] = _with_usage(members.get("stream_options"))
    return _json.encode(members)


def _without_marked(messages: Raw) -> Raw:
    """Without the thoughts that other protocols' models had: their signatures mean nothing here."""
    try:
        read = _messages.decode(messages)
        for message in read:
            if "reasoning_details" in message and MARKED in bytes(message["reasoning_details"]):
                details = _list.decode(message["reasoning_details"])
                kept = [detail for detail in details if not _SIGNED_ELSEWHERE.search(detail)]
                message["reasoning_details"] = Raw(_json.encode(kept))
                if not kept:
                    del message["reasoning_details"]
    except msgspec.ValidationError:
        return messages  # what is the provider's to refuse
    return Raw(_json.encode(read))


def with_parameters(body: bytes, deployment: Deployment) -> bytes:
    """A body that was written for the deployment, with its parameters."""
    if not (deployment.default or deployment.override):
        return body
    members = _members.decode(body)
    _set_parameters(members, deployment)
    return _json.encode(members)


def _set_parameters(members: dict[str, Raw], deployment: Deployment) -> None:
    for name, value in deployment.default.items():
        if name not in members and _SYNONYMS.get(name) not in members:
            members[name] = Raw(_json.encode(value))
    for name, value in deployment.override.items():
        members.pop(_SYNONYMS.get(name, ""), None)
        members[name] = Raw(_json.encode(value))


def _with_usage(options: Raw | None) -> Raw:
    if options is None or bytes(options) == b"null":
        return _STREAM_OPTIONS
    return Raw(_json.encode(_members.decode(options) | {"include_usage": Raw(b"true")}))


def unary(call: Call) -> Call:
    """The same call, for an answer in one piece."""
    members = _members.decode(call.body)
    members.pop("stream", None)
    members.pop("stream_options", None)
    return structs.replace(call, stream=False, body=_json.encode(members))


def continued(call: Call, text: str, deployment: Deployment) -> Call:
    """The call with the answer so far as the assistant's turn to complete, told in the deployment's way."""
    members = _members.decode(call.body)
    turn: dict[str, Any] = {"role": "assistant", "content": text}
    if deployment.prefill == "prefix":
        turn["prefix"] = True
    if deployment.prefill == "continue_final_message":
        members["continue_final_message"] = Raw(b"true")
        members["add_generation_prompt"] = Raw(b"false")
    members["messages"] = Raw(_json.encode([*msgspec.json.decode(members["messages"], type=list[Raw]), turn]))
    for name in _SYNONYMS:
        if name in members and call.max_output_tokens is not None:
            members[name] = Raw(b"%d" % max(call.max_output_tokens - text_tokens(text), 1))
    return structs.replace(call, body=_json.encode(members))


def renamed(data: bytes, model: str) -> bytes:
    """A frame, or a whole answer, with this name of the model."""
    payload = data if data.lstrip().startswith(b"{") else data_of(data)
    if payload is None or payload.strip() == b"[DONE]":
        return data
    return _with_data(data, payload, replace_member(payload, b"model", _json.encode(model)))


def _with_data(frame: bytes, data: bytes, new_data: bytes) -> bytes:
    """Data on several lines is put on one; a lone line keeps what stands around it."""
    at = frame.find(data)
    return data_frame(new_data) if at < 0 else frame[:at] + new_data + frame[at + len(data) :]


def as_stream(answer: bytes, *, with_usage: bool) -> bytes:
    """A unary answer as a stream of one content event, and one for usage where it was asked for."""
    members: dict[str, Any] = msgspec.json.decode(answer)
    members["object"] = "chat.completion.chunk"
    usage = members.pop("usage", None)
    for choice in members["choices"]:
        delta = choice["delta"] = choice.pop("message", {})
        for index, tool_call in enumerate(delta.get("tool_calls") or ()):
            tool_call.setdefault("index", index)
    frames = [data_frame(_json.encode(members))]
    if with_usage:
        frames.append(data_frame(_json.encode(members | {"choices": [], "usage": usage})))
    return b"".join([*frames, DONE])


# --- what the gateway reads of an answer ------------------------------------------------------------------------------


class _Message(Struct):
    """A message or a delta."""

    content: Any = None
    tool_calls: list[Raw] | None = None
    function_call: Any = None
    refusal: str | None = None
    reasoning: Any = None
    reasoning_content: Any = None
    audio: Any = None
    #: OpenRouter's.
    images: Any = None

    @property
    def is_text(self) -> bool:
        more = self.tool_calls or self.refusal or self.reasoning_content or self.reasoning or self.audio or self.images
        return not (more or self.function_call)

    @property
    def says_something(self) -> bool:
        return bool(self.content) or not self.is_text


class _Choice(Struct):
    message: _Message | None = None
    delta: _Message | None = None
    finish_reason: str | None = None


class _Reply(Struct):
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: ToldUsage | None = None
    error: Any = None


_reply = msgspec.json.Decoder(_Reply)


def error_in_body(error: Any) -> ProviderFault:
    """The failure that a 200 carried as an error body or an error frame."""
    said = error.get("message") if isinstance(error, dict) else error
    return ProviderFault(INSIDE, detail=str(said)[:DETAIL_MAX])


class WholeAnswer:
    """A unary answer, read once and edited: `body` is the client's."""

    __slots__ = ("body", "finish_reason", "says_only_text", "says_something", "text", "usage")

    def __init__(self, body: bytes, public_model: str) -> None:
        try:
            reply = _reply.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedReply("The model provider's answer is not valid JSON of its protocol.", detail=str(error)) from None
        if reply.error is not None:
            raise error_in_body(reply.error)
        if not reply.choices:
            raise EmptyReply("The model provider's answer holds no choices.")
        first = reply.choices[0]
        message = first.message
        self.usage = reply.usage.counted() if reply.usage else None
        self.finish_reason = first.finish_reason
        self.says_something = (message is not None and message.says_something) or any(
            choice.message is not None and choice.message.says_something for choice in reply.choices[1:]
        )
        self.text = message.content if message is not None and type(message.content) is str else None
        self.says_only_text = self.text is not None and len(reply.choices) == 1 and message is not None and message.is_text
        if reply.model is None or reply.model == public_model:
            self.body = body
        else:
            self.body = replace_string(body, b"model", _json.encode(reply.model), _json.encode(public_model))

    @property
    def told(self) -> list[bytes | Delta]:
        return [self.body]

    def as_stream(self, call: Call) -> bytes:
        return as_stream(self.body, with_usage=call.wants_usage)


# --- streams ----------------------------------------------------------------------------------------------------------


class _Shape:
    """A content frame around its text and its padding: what comes before, between and after them, as it arrives and as it goes to the
    client.

    A frame with the same beginning, middle and end, and no other quotation mark than theirs, is such a frame with another text: one
    JSON string cannot hold an unescaped quotation mark, and none, escaped or not, is in it.
    """

    __slots__ = ("after", "before", "between", "middle", "new_after", "new_before", "new_between", "new_middle", "quotes")

    def __init__(self, pieces: tuple[bytes, bytes, bytes], new_pieces: tuple[bytes, bytes, bytes]) -> None:
        """The middle is empty where there is no padding."""
        self.before, self.middle, self.after = pieces
        self.new_before, self.new_middle, self.new_after = new_pieces
        #: From one frame's last string to the next one's text, where frames follow each other.
        self.between = self.after + self.before
        self.new_between = self.new_after + self.new_before
        self.quotes = sum([piece.count(b'"') for piece in pieces])

    def kept(self, text: bytes) -> bytes:
        """The client's frame, for the record."""
        return b"%b%b%b%b" % (self.new_before, text, self.new_middle, self.new_after)


def _around(frame: bytes) -> tuple[bytes, bytes, bytes] | None:
    """What stands before its text, between that and its padding, and after them."""
    text = _TEXT.search(frame)
    if text is None or frame.count(b'"content"') != 1:
        return None
    padding = PADDING.search(frame, text.end(1))
    if padding is None:
        return frame[: text.start(1)], b"", frame[text.end(1) :]
    return frame[: text.start(1)], frame[text.end(1) : padding.start(1)], frame[padding.end(1) :]


#: A larger frame is not taken for the usual one (bytes).
SHAPE_MAX_BYTES = 16 * 1024
#: Text of frames in a row is gathered up to this before it is kept as a frame (bytes).
RUN_MAX_BYTES = 16 * 1024


class StreamRelay:
    """One stream on its way through: feed it what arrives, send on what it returns.

    A frame that differs from one before only in its text and its padding costs three comparisons; any other is parsed. What was sent on
    is kept in `sent` for the record, frames that follow each other in one shape as one frame with all their text.
    """

    __slots__ = (
        "_model_json",
        "_run",
        "_shape",
        "_splitter",
        "_strip_usage",
        "done",
        "failure",
        "finish_reason",
        "first_text",
        "has_content",
        "sample",
        "sent",
        "usage",
    )

    def __init__(self, public_model: str, *, strip_usage: bool) -> None:
        self._model_json = _json.encode(public_model)
        self._strip_usage = strip_usage
        self._splitter = FrameSplitter()
        self._shape: _Shape | None = None
        #: Texts of the latest frames, all of this shape.
        self._run = bytearray()
        self.sent: list[bytes | Delta] = []
        self.has_content = False
        #: The first piece of text, where the answer begins with text.
        self.first_text: str | None = None
        #: A frame with text, as the client got it.
        self.sample = b""
        self.done = False
        #: A bad frame came behind what `feed` returned last.
        self.failure: ProviderError | None = None
        self.finish_reason: str | None = None
        self.usage: Usage | None = None

    @property
    def latest(self) -> bytes:
        """Every frame says where it stands."""
        return self.sample

    @property
    def started(self) -> None:
        """Not read: a frame shows it (`sample`)."""

    def feed(self, data: bytes) -> bytes:
        """Whole frames for the client. Raises `MalformedReply`, or `ProviderFault` for an error frame.

        After content has come it does not raise for a bad frame, but sets `failure` and returns what came before it; then no more.
        """
        if self.failure is not None:
            return b""
        frame = self.feed_text(data)
        if frame is not None:
            return frame
        try:
            data = self._splitter.feed(data)
        except FrameTooLarge as error:
            raise MalformedReply("The model provider sent an event over the size limit.", detail=str(error)) from None
        return self._frames(self._splitter.split(data)) if data else b""

    def feed_text(self, data: bytes) -> bytes | None:
        """The usual read, frames of the usual shape, as `feed` would return it; None, and nothing done, where it is any other."""
        shape = self._shape
        if shape is None or self._splitter.holds_any or self.failure is not None:
            return None
        return self._known(shape, data)

    def _frames(self, frames: list[bytes]) -> bytes:
        """What is good of them goes out even if a bad one follows: that one fails the next call."""
        edited: list[bytes] = []
        for frame in frames:
            try:
                edited.append(self._frame(frame))
            except (MalformedReply, ProviderFault) as error:
                if not self.has_content:
                    raise
                self.failure = error
                break
        return b"".join(edited)

    def keep(self) -> None:
        """Everything sent on is in `sent` from here on."""
        if self._run and self._shape is not None:
            self.sent.append(self._shape.kept(bytes(self._run)))
            self._run = bytearray()

    def finish(self) -> bytes:
        """Called at the clean end of the body: a stream that stops before it is finished was cut. Nothing more is to be sent."""
        if not (self.done or self.finish_reason):
            if not self.has_content:
                raise EmptyReply("The model provider's stream ended without an answer.")
            raise MalformedReply("The model provider's stream ended before its answer did.")
        if self._splitter.pending:
            raise MalformedReply("The model provider's stream ended inside an event.")
        return b""

    def _frame(self, frame: bytes) -> bytes:
        shape = self._shape
        if shape is not None:
            known = self._known(shape, frame)
            if known is not None:
                return known
        self.keep()
        edited = self._parsed(frame)
        if edited:
            self.sent.append(edited)
        return edited

    def _known(self, shape: _Shape, data: bytes) -> bytes | None:
        """The client's frames for frames of this shape; None, and nothing done, where any is of another."""
        if not (data.startswith(shape.before) and data.endswith(shape.after)):
            return None
        texts = new_told = data[len(shape.before) : -len(shape.after)].split(shape.between)
        if data.count(b'"') != shape.quotes * len(texts):
            return None
        if shape.middle:
            told, texts, new_told = texts, [], []
            for text_and_padding in told:
                text, middle, padding = text_and_padding.partition(shape.middle)
                if not middle or b"\\" in padding:
                    return None
                texts.append(text)
                new_told.append(b"%b%b%b" % (text, shape.new_middle, padding))
        self._run += b"".join(texts)
        if len(self._run) > RUN_MAX_BYTES:
            self.keep()
        return b"%b%b%b" % (shape.new_before, shape.new_between.join(new_told), shape.new_after)

    def _parsed(self, frame: bytes) -> bytes:
        data = data_of(frame)
        if data is None:
            return frame  # a comment, or fields without data
        if data.strip() == b"[DONE]":
            self.done = True
            return frame
        chunk = _read_chunk(data)
        self._note(chunk)
        new_data = data
        if self._strip_usage and b'"usage"' in data:
            if chunk.usage is None:
                new_data = remove_null_member(data, b"usage")
            elif not chunk.choices:
                return b""
        edited = _with_data(frame, data, replace_member(new_data, b"model", self._model_json))
        if chunk.usage is None and chunk.choices and len(chunk.choices) == 1:
            self._learn(frame, edited, chunk.choices[0])
        return edited

    def _learn(self, frame: bytes, edited: bytes, choice: _Choice) -> None:
        """Takes the shape of a frame that says one text and nothing else."""
        text = choice.delta.content if choice.delta is not None else None
        if not isinstance(text, str) or not text or choice.finish_reason or len(frame) > SHAPE_MAX_BYTES:
            return
        pieces, new_pieces = _around(frame), _around(edited)
        if pieces is None or new_pieces is None:
            return
        self.sample = edited
        self._shape = _Shape(pieces, new_pieces)

    def _note(self, chunk: _Reply) -> None:
        if chunk.usage is not None:
            self.usage = chunk.usage.counted()
        for choice in chunk.choices or ():
            if choice.finish_reason:
                self.finish_reason = choice.finish_reason
            said = choice.delta or choice.message
            if said is not None and said.says_something:
                if not self.has_content and isinstance(said.content, str):
                    self.first_text = said.content
                self.has_content = True


def _read_chunk(data: bytes) -> _Reply:
    """Raises `MalformedReply`, or `ProviderFault` for an error."""
    try:
        chunk = _reply.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        detail = f"{error}: {data[:200]!r}"
        raise MalformedReply("The model provider sent an event that is not JSON of its protocol.", detail=detail) from None
    if chunk.error is not None:
        raise error_in_body(chunk.error)
    return chunk


def data_of(frame: bytes) -> bytes | None:
    """What the event carries; the usual frame, one line that begins with `data:`, is not split."""
    if frame.startswith(b"data:") and frame.find(b"\n") >= len(frame) - 2 and b"\r" not in frame:
        return frame[5:].strip(b" \n")
    return frame_data(frame)
