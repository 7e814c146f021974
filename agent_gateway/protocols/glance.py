"""A provider's stream, read frame by frame: one that differs from the one before it in nothing but its text is known at a glance.

Promise: the same deltas come out as if each frame had been read.
"""

from __future__ import annotations

import re
from functools import cache

import msgspec

from agent_gateway.core.delta import Delta, TextDelta
from agent_gateway.protocols.base import StreamReader
from agent_gateway.wire.sse import WHOLE_ENDS

#: A larger frame is not taken for the usual one (bytes).
FRAME_MAX_BYTES = 16 * 1024
#: Frames that were learnt and not seen again: a provider's whose frames are all different are no longer looked at.
UNLIKE_MAX = 16

#: What OpenAI adds to hide how long the text is from who sees only lengths: another in every frame, and nobody reads it.
PADDING = re.compile(rb'"obfuscation"\s*:\s*"([^"\\]*+)"')

_string = msgspec.json.Decoder(str)


class GlancingReader:
    """Reads whole frames, as `FrameSplitter.split` returns them.

    What stands around the text of a frame, and around its padding, is learnt where its reader made one plain text of it, and forgotten
    with the next frame that is another: in between the reader is in the state in which it read the first, and would read all of them so
    (`StreamReader.text_member`).
    """

    __slots__ = ("_after", "_before", "_between", "_choice", "_knows", "_middle", "_reader", "_text_end", "_text_start", "_tries")

    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader
        self._knows = False
        self._tries = UNLIKE_MAX
        #: Up to the text's quotation mark; from its other one to the padding's first, empty where there is no padding; and from the last
        #: one on: all included.
        self._before = self._middle = self._after = b""
        #: From one text to the next, where frames follow each other.
        self._between = b""
        self._text_start = self._text_end = 0
        self._choice = 0

    @property
    def done(self) -> bool:
        return self._reader.done

    def finish(self) -> None:
        self._reader.finish()

    def feed(self, frame: bytes) -> list[Delta]:
        """Raises what the reader raises."""
        texts = self.texts_of(frame)
        if texts is not None:
            return texts
        self._knows = False
        deltas = self._reader.feed(frame)
        if self._tries and len(deltas) == 1:
            self._learn(frame, deltas[0])
        return deltas

    def texts_of(self, data: bytes) -> list[Delta] | None:
        """What `feed` would return for the frames that `data` is; None, and nothing was fed, where that takes reading."""
        if not (self._knows and data.startswith(self._before) and data.endswith(self._after)):
            return None
        told = data[self._text_start : self._text_end].split(self._between)
        if self._middle:
            told = self._without_padding(told)
        if b"" in told:
            return None
        choice = self._choice
        try:
            texts: list[Delta] = [TextDelta(_string.decode(b'"%b"' % text), choice) for text in told]
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
        self._tries = UNLIKE_MAX
        return texts

    def _without_padding(self, told: list[bytes]) -> list[bytes]:
        """Nothing where any has no padding."""
        parts = [text_and_more.partition(self._middle) for text_and_more in told]
        padded = all(middle and _decoded(b'"%b"' % padding) is not None for _, middle, padding in parts)
        return [text if padded else b"" for text, _, _ in parts]

    def _learn(self, frame: bytes, delta: Delta) -> None:
        """A frame in which one member has this name, and nothing but its value is escaped, tells its text there."""
        member = self._reader.text_member
        if member is None or type(delta) is not TextDelta or delta.logprobs is not None or len(frame) > FRAME_MAX_BYTES:
            return
        self._tries -= 1
        found = _member(member).search(frame)
        if found is None or frame.count(b'"%b"' % member) != 1 or not frame.endswith(WHOLE_ENDS) or _decoded(found[1]) != delta.text:
            return
        before, after = frame[: found.start(1) + 1], frame[found.end(1) - 1 :]
        if b"\\" in before or b"\\" in after:
            return
        middle = b""
        padding = PADDING.search(after)
        if padding is not None:
            middle, after = after[: padding.start(1)], after[padding.end(1) :]
        self._before, self._middle, self._after = before, middle, after
        self._between = after + before
        self._text_start, self._text_end = len(before), -len(after)
        self._choice = delta.choice
        self._knows = True


def _decoded(told: bytes) -> str | None:
    """Of one JSON string; None where it is none."""
    try:
        return _string.decode(told)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


@cache
def _member(name: bytes) -> re.Pattern[bytes]:
    return re.compile(rb'"%b"\s*:\s*("(?:[^"\\]++|\\.)*+")' % re.escape(name))
