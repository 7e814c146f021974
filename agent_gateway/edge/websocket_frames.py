"""The messages of a WebSocket, as JSON: what a client may say, and how answers are told apart on the one socket.

Promise: an answer's own JSON goes into its message as it stands; nothing is decoded to be encoded again.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import Raw, Struct

from agent_gateway.core.errors import BadRequest
from agent_gateway.edge.request import CLIENT_ID_MAX_LENGTH
from agent_gateway.protocols.decoding import check_utf8, decode
from agent_gateway.wire.sse import FrameSplitter, frame_data

_MEMBERS = ("request", "body", "cancel")
_FORMS = 'Send {"request": "a", "body": {…}} or {"cancel": "a"}.'
_DONE = b"[DONE]"
#: How a stream's last event begins where it tells an error; a chunk has other members, or null under this one.
_ERROR = b'{"error":{'

_json = msgspec.json.Encoder()
_members = msgspec.json.Decoder(dict[str, Raw])
_name = msgspec.json.Decoder(str)


class _ErrorBody(Struct):
    error: Raw


_error_body = msgspec.json.Decoder(_ErrorBody)


class _ErrorMessage(Struct, omit_defaults=True):
    #: None: it belongs to no request that could be named.
    request: str | None
    error: Raw
    #: What HTTP would say beside the body.
    status: int | None = None
    retry_after: float | None = None


class Request(Struct, frozen=True):
    name: str
    body: bytes


class Cancel(Struct, frozen=True):
    name: str


class NotReadable(Exception):
    """Not JSON, or not UTF-8: there is no telling what comes next."""


class NotAFrame(Exception):
    """JSON, but none of the forms. `name` is the request's that it seems to be, where it can be told."""

    def __init__(self, error: BadRequest, name: str | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.name = name


def read(message: bytes) -> Request | Cancel:
    """Raises `NotReadable` or `NotAFrame`."""
    members = _read_members(message)
    cancel = _read_name(members, "cancel")
    name = _read_name(members, "request")
    unknown = [member for member in members if member not in _MEMBERS]
    if unknown:
        raise NotAFrame(BadRequest(f"{unknown[0][:200]!r} is no member of a frame. {_FORMS}", param=unknown[0][:200]), name)
    if cancel is not None:
        if len(members) > 1:
            raise NotAFrame(BadRequest(f"cancel: nothing may stand beside it. {_FORMS}", param="cancel"), name)
        return Cancel(cancel)
    if name is None:
        raise NotAFrame(BadRequest(f"request: this member is required. {_FORMS}", param="request"))
    if "body" not in members:
        raise NotAFrame(BadRequest(f"body: this member is required. {_FORMS}", param="body"), name)
    return Request(name, bytes(members["body"]))


def _read_members(message: bytes) -> dict[str, Raw]:
    try:
        check_utf8(message)
        return _members.decode(message)
    except msgspec.ValidationError:
        raise NotAFrame(BadRequest(f"A frame has to be a JSON object. {_FORMS}")) from None
    except (msgspec.DecodeError, UnicodeDecodeError, BadRequest):
        raise NotReadable("Not JSON in UTF-8.") from None
    except RecursionError:
        raise NotReadable("Nested too deeply.") from None


def _read_name(members: dict[str, Raw], member: str) -> str | None:
    if member not in members:
        return None
    try:
        name = decode(_name, bytes(members[member]))
    except BadRequest:
        name = ""
    if not 0 < len(name) <= CLIENT_ID_MAX_LENGTH:
        raise NotAFrame(BadRequest(f"{member}: expected a string of 1 to {CLIENT_ID_MAX_LENGTH} characters.", param=member))
    return name


class Writer:
    """Of one request's messages; `name` None: of none in particular."""

    __slots__ = ("_begin", "_name")

    def __init__(self, name: str | None) -> None:
        self._name = name
        self._begin = b'{"request":%b,' % _json.encode(name)

    def data(self, value: bytes) -> bytes:
        return b'%b"data":%b}' % (self._begin, value)

    def error(self, body: bytes, status: int | None = None, retry_after_s: float | None = None) -> bytes:
        """`body` as HTTP has it: an object whose member is `error`."""
        return _json.encode(_ErrorMessage(self._name, _error_body.decode(body).error, status, retry_after_s))

    def done(self) -> bytes:
        return b'%b"done":true}' % self._begin

    def events(self, frames: bytes) -> Iterator[bytes]:
        """Of a stream's server-sent events; comments and `[DONE]` are for others to read."""
        for frame in FrameSplitter.split(frames):
            value = frame_data(frame)
            if value is None or value == _DONE:
                continue
            yield self.error(value) if value.startswith(_ERROR) else self.data(value)
