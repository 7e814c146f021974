"""Server-sent events as bytes (WHATWG HTML §9.2): cut into whole frames, and written.

Promise: however the bytes arrive split, the same frames come out, and their bytes are those that went in.
"""

from __future__ import annotations

import re

#: A frame over this is refused (bytes); base64 images and audio fit.
FRAME_MAX_BYTES = 16 * 1024 * 1024

DONE = b"data: [DONE]\n\n"

_LINE_END = re.compile(rb"\r\n|\n|\r(?!\n)")
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))")
#: With one of these at its end, a frame is whole, whatever comes next.
WHOLE_ENDS = (b"\n\n", b"\r\n\r\n")
#: Bytes of an unfinished frame that a blank line, completed by the next read, may reach back to.
_REACH = 3


class FrameTooLarge(ValueError):
    """A frame is over the splitter's bound."""


class FrameSplitter:
    """Gives back what is whole of a stream, and keeps the rest.

    A frame is everything up to and including a blank line, or a blank line alone. A frame that ends in CR at the end of a read
    is whole only when the next byte shows that no LF belongs to it.
    """

    __slots__ = ("_frame_max_bytes", "_rest", "holds_any")

    def __init__(self, frame_max_bytes: int = FRAME_MAX_BYTES) -> None:
        self._frame_max_bytes = frame_max_bytes
        self._rest = bytearray()
        #: Something is pending.
        self.holds_any = False

    @property
    def pending(self) -> bytes:
        """The unfinished rest."""
        return bytes(self._rest)

    def feed(self, data: bytes) -> bytes:
        """All frames that are whole now, as they came and unsplit; `b""` when none is."""
        if not self._rest and len(data) <= self._frame_max_bytes and data.endswith(WHOLE_ENDS):
            return data
        rest = self._rest
        searched = len(rest)
        rest += data
        end = _last_frame_end(rest, searched)
        if max(end, len(rest) - end) > self._frame_max_bytes:
            self._check_bound(bytes(rest[:end]), len(rest) - end)
        whole = bytes(rest[:end])
        del rest[:end]
        self.holds_any = bool(rest)
        return whole

    def end(self) -> bytes:
        """The frame that only the end of the stream shows to be whole (it ends in CR); what is then pending was cut."""
        rest = bytes(self._rest)
        if not rest.endswith(b"\r") or not (_BLANK_LINE.search(rest) or _LINE_END.match(rest)):
            return b""
        self._rest.clear()
        self.holds_any = False
        return rest

    @staticmethod
    def split(data: bytes) -> list[bytes]:
        """Whole frames, as `feed` returns them, one by one."""
        if b"\r" not in data and b"\n\n\n" not in data and not data.startswith(b"\n") and data.endswith(b"\n\n"):
            return [frame + b"\n\n" for frame in data[:-2].split(b"\n\n")]
        frames = []
        start = 0
        while start < len(data):
            blank = _LINE_END.match(data, start) or _BLANK_LINE.search(data, start)
            end = blank.end() if blank else len(data)
            frames.append(data[start:end])
            start = end
        return frames

    def _check_bound(self, whole: bytes, rest_bytes: int) -> None:
        largest = max((len(frame) for frame in self.split(whole)), default=0)
        largest = max(largest, rest_bytes)
        if largest > self._frame_max_bytes:
            raise FrameTooLarge(f"an event of {largest} bytes is over the limit of {self._frame_max_bytes}")


def _last_frame_end(buffer: bytearray, searched: int) -> int:
    """Where the last whole frame ends, 0 when none is whole. The first `searched` bytes hold no end that was whole by itself."""
    if buffer.endswith(WHOLE_ENDS):
        return len(buffer)
    if b"\r" not in buffer:
        blank_line = buffer.rfind(b"\n\n", max(0, searched - _REACH))
        return blank_line + 2 if blank_line >= 0 else int(buffer.startswith(b"\n"))
    # Line ends are mixed (rare): one frame after the other. A CR at the very end may yet be half of a CRLF.
    known = len(buffer) - 1 if buffer.endswith(b"\r") else len(buffer)
    end = 0
    position = max(0, searched - _REACH)
    if first := _LINE_END.match(buffer):
        if first.end() > known:
            return 0
        end = position = first.end()
    while position < known:
        blank = _LINE_END.match(buffer, position) if position == end else None
        blank = blank or _BLANK_LINE.search(buffer, position)
        if blank is None or blank.end() > known:
            break
        end = position = blank.end()
    return end


def data_frame(data: bytes) -> bytes:
    """An event with `data` in it; each of its lines becomes a line of its own."""
    if b"\n" in data or b"\r" in data:
        return b"".join([b"data: %b\n" % line for line in _LINE_END.split(data)]) + b"\n"
    return b"data: %b\n\n" % data


def frame_data(frame: bytes) -> bytes | None:
    """What an event carries: its data lines joined by LF; None when it has none (a comment, an empty frame)."""
    if b"\r" not in frame and frame.count(b"data") == frame.count(b"data:"):  # the usual frame: one data line, its last
        start = 0 if frame.startswith(b"data:") else frame.find(b"\ndata:") + 1
        end = frame.find(b"\n", start)
        if (start or frame.startswith(b"data:")) and end >= len(frame) - 2:
            return frame[start + 5 : end].removeprefix(b" ")
    lines = [line for line in _LINE_END.split(frame) if line.startswith(b"data:") or line == b"data"]
    return b"\n".join([line[5:].removeprefix(b" ") for line in lines]) if lines else None
