"""A JSON array that grows, cut into its elements.

Promise: however the bytes arrive split, the same elements come out.
"""

from __future__ import annotations

import re

from agent_gateway.wire.sse import FRAME_MAX_BYTES, FrameTooLarge

_MARK = re.compile(rb'["{}\[\]]')
_STRING_MARK = re.compile(rb'["\\]')


class ArraySplitter:
    """The array's elements are objects."""

    __slots__ = ("_buffer", "_depth", "_in_string", "_position", "_start", "done")

    def __init__(self) -> None:
        self._buffer = bytearray()
        #: Up to where the buffer has been looked at.
        self._position = 0
        #: Where the unfinished element begins.
        self._start = 0
        self._depth = 0
        self._in_string = False
        #: The array is closed.
        self.done = False

    def feed(self, data: bytes) -> list[bytes]:
        """Elements that are whole now."""
        self._buffer += data
        elements = []
        while (mark := (_STRING_MARK if self._in_string else _MARK).search(self._buffer, self._position)) is not None:
            if mark[0] == b"\\":
                if mark.end() == len(self._buffer):
                    break  # what it escapes is yet to come
                self._position = mark.end() + 1
                continue
            self._position = mark.end()
            if mark[0] == b'"':
                self._in_string = not self._in_string
            elif mark[0] in (b"{", b"["):
                if self._depth == 1:
                    self._start = mark.start()
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth == 1:
                    elements.append(bytes(self._buffer[self._start : mark.end()]))
                    self._start = mark.end()
                self.done = self.done or self._depth == 0
        else:
            self._position = len(self._buffer)
        del self._buffer[: self._start]
        self._position -= self._start
        self._start = 0
        if len(self._buffer) > FRAME_MAX_BYTES:
            raise FrameTooLarge(f"an event of {len(self._buffer)} bytes is over the limit of {FRAME_MAX_BYTES}")
        return elements
