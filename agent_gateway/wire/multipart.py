"""`multipart/form-data` as it arrives: from pieces of any size to parts and their content, of which no more than a piece is held.

Promise: where the pieces are cut makes no difference to what is understood; what is no such form is `BadRequest`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from agent_gateway.core.errors import BadRequest, UnsupportedMedia

#: Of one part.
HEAD_BYTES_MAX = 8 * 1024
PARTS_MAX = 64

#: As RFC 2046 has it.
_BOUNDARY = re.compile(rb'multipart/form-data\s*;(?:.*;)?\s*boundary=(?:"([^"]{1,70})"|([^\s";,]{1,70}))\s*(?:;.*)?', re.IGNORECASE)
_DISPOSITION = re.compile(r"^content-disposition\s*:\s*form-data\s*(;.*)$", re.IGNORECASE | re.MULTILINE)
_PARAMETER = re.compile(r';\s*([\w*]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s"]*))')


@dataclass(frozen=True, slots=True)
class Part:
    """It begins; its content follows."""

    name: str
    #: None: it is a field, not a file.
    filename: str | None


class MultipartReader:
    """`feed` it what comes, then `finish`."""

    def __init__(self, content_type: bytes) -> None:
        """Raises `UnsupportedMedia`."""
        match = _BOUNDARY.fullmatch(content_type.strip())
        if match is None:
            shown = content_type[:64].decode("latin-1")
            raise UnsupportedMedia(f"content-type: {shown!r} is not multipart/form-data with a boundary.", param="content-type")
        self._delimiter = b"\r\n--" + (match[1] or match[2])
        #: The first delimiter may be the first that comes.
        self._buffer = bytearray(b"\r\n")
        self._state: Literal["content", "delimiter", "head", "end"] = "content"
        #: None yet has begun: what comes before the first is passed over.
        self._parts = 0

    def feed(self, data: bytes) -> Iterator[Part | bytes]:
        """Parts as they begin, and of each its content, in pieces. Raises `BadRequest`."""
        self._buffer += data
        while (found := self._next()) is not None:
            if found:
                yield found

    def finish(self) -> None:
        """Raises `BadRequest`."""
        if self._state != "end":
            raise BadRequest("The form breaks off before its last boundary.")

    def _next(self) -> Part | bytes | None:
        """None: there has to come more."""
        match self._state:
            case "content":
                return self._content()
            case "delimiter":
                return self._delimiter_line()
            case "head":
                return self._head()
            case "end":
                self._buffer.clear()
                return None

    def _content(self) -> bytes | None:
        buffer, delimiter = self._buffer, self._delimiter
        end = buffer.find(delimiter)
        if end >= 0:
            self._state, taken = "delimiter", end + len(delimiter)
        else:  # at the end may stand the beginning of a delimiter
            end = taken = len(buffer) - len(delimiter) + 1
            if end <= 0:
                return None
        content = bytes(memoryview(buffer)[:end]) if self._parts else b""
        del buffer[:taken]
        return content

    def _delimiter_line(self) -> bytes | None:
        """What follows a delimiter: `--` after the last, else the end of the line."""
        if self._buffer.startswith(b"--"):
            self._state = "end"
            return b""
        line = self._until(b"\r\n")
        if line is None:
            return None
        if line.strip(b" \t"):
            raise BadRequest("The form has a boundary in the middle of a line.")
        self._state = "head"
        return b""

    def _head(self) -> Part | None:
        head = self._until(b"\r\n\r\n")
        if head is None:
            return None
        self._state = "content"
        self._parts += 1
        if self._parts > PARTS_MAX:
            raise BadRequest(f"The form has more than {PARTS_MAX} parts.")
        return _part(head.decode("utf-8", "replace"))

    def _until(self, end: bytes) -> bytes | None:
        """Taken from the buffer, with its end."""
        at = self._buffer.find(end)
        if at > HEAD_BYTES_MAX or (at < 0 and len(self._buffer) > HEAD_BYTES_MAX):
            raise BadRequest(f"A part of the form has a head of more than {HEAD_BYTES_MAX} bytes.")
        if at < 0:
            return None
        taken = bytes(self._buffer[:at])
        del self._buffer[: at + len(end)]
        return taken


def _part(head: str) -> Part:
    disposition = _DISPOSITION.search(head)
    given = {} if disposition is None else {name.lower(): quoted or bare for name, quoted, bare in _PARAMETER.findall(disposition[1])}
    if "name" not in given:
        raise BadRequest("A part of the form has no `content-disposition: form-data; name=…`.")
    filename = given.get("filename")
    if "filename*" in given:  # RFC 5987: charset'language'percent-encoded
        filename = unquote(given["filename*"].rpartition("'")[2])
    return Part(_unescaped(given["name"]), None if filename is None else _unescaped(filename))


def _unescaped(text: str) -> str:
    """Quotes are escaped by a backslash, or percent-encoded as browsers do."""
    return re.sub(r"\\(.)", r"\1", text).replace("%22", '"').replace("%0D%0A", " ").replace("\r", " ").replace("\n", " ").strip()
