"""A record as one line of JSON: the columns of the table `records` by name, what was asked and answered as JSON of its own.

Promise: always one line, whatever a client sent.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from agent_gateway.record.row import Record, unpacked

_BODIES = ("attempts", "request", "answer")
_FLAGS = ("stream", "tokens_estimated")
_encoder = msgspec.json.Encoder()


def json_line(record: Record) -> bytes:
    """With its newline. A body that was cut, and so is no JSON any more, is a text."""
    values: dict[str, Any] = record._asdict()
    for name in _FLAGS:
        values[name] = bool(values[name])
    for name in _BODIES:
        if values[name] is not None:
            values[name] = _json(values[name])
    return _encoder.encode(values) + b"\n"


def _json(stored: bytes) -> Raw | str:
    body = unpacked(stored) or b""
    try:
        compact: bytes = msgspec.json.format(body, indent=-1)  # a client's line breaks would be the line's end
        compact.decode()
        return Raw(compact)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body.decode("utf-8", "replace")
