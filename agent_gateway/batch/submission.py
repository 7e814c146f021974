"""From the lines of a batch's input file to its items; pure, so that it can be fed as a file is read.

Promise: every line that cannot be run is told with its number, and nothing of a file that has one is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from agent_gateway.batch.duplicates import Duplicates
from agent_gateway.batch.prefix import prefix_of
from agent_gateway.core.call import MODEL_PATHS, Call, Dialect
from agent_gateway.core.errors import BadRequest
from agent_gateway.protocols.base import codec_of
from agent_gateway.stores.batches import MODELS_MAX, NewItem

#: What a batch may ask, and in which protocol.
ENDPOINTS: dict[str, Dialect] = {path: dialect for dialect, path in MODEL_PATHS.items() if dialect != "anthropic_count"}

ITEMS_MAX = 50_000
LINE_BYTES_MAX = 32 * 1024 * 1024
CUSTOM_ID_MAX_LENGTH = 512
#: Errors told of one file; after so many it is read no further.
ERRORS_MAX = 100


class LineError(msgspec.Struct, frozen=True):
    """As OpenAI's `batch.errors.data` has it."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class _Line(msgspec.Struct):
    custom_id: str
    url: str
    body: msgspec.Raw
    method: str = "POST"


_line_decoder = msgspec.json.Decoder(_Line)


class Submission:
    """One input file: `feed` it, `finish` it, then look at `errors`, `total` and `models`."""

    def __init__(
        self, endpoint: str, *, deduplicate: bool | None = None, items_max: int = ITEMS_MAX, line_bytes_max: int = LINE_BYTES_MAX
    ) -> None:
        """`endpoint`: one of `ENDPOINTS`; `deduplicate`: see `Duplicates`."""
        self.errors: list[LineError] = []
        self.total = 0
        self.models: set[str] = set()
        self._endpoint = endpoint
        self._items_max = items_max
        self._line_bytes_max = line_bytes_max
        self._number = 0
        self._custom_ids: set[str] = set()
        self._duplicates = Duplicates(deduplicate)
        #: Of a line that is not whole yet.
        self._pieces: list[bytes] = []
        self._pieces_bytes = 0
        self._given_up = False

    @property
    def hopeless(self) -> bool:
        """Whatever follows, the file is refused, and enough is said of it."""
        return self._given_up or len(self.errors) >= ERRORS_MAX

    def feed(self, data: bytes) -> Iterator[NewItem | None]:
        """Of each line that is whole now its item; None where there is none."""
        first, *rest = data.split(b"\n")
        self._keep(first)
        for piece in rest:
            yield self._end_line()
            self._keep(piece)

    def finish(self) -> NewItem | None:
        """The last line, where no line end followed it."""
        item = self._end_line()
        if self.total == 0 and not self.errors:
            self.errors.append(LineError("empty_file", "The input file has no lines. Each line is one request, as JSON."))
        return item

    def _keep(self, piece: bytes) -> None:
        self._pieces_bytes += len(piece)
        if self._pieces_bytes <= self._line_bytes_max:
            self._pieces.append(piece)

    def _end_line(self) -> NewItem | None:
        line, size = b"".join(self._pieces), self._pieces_bytes
        self._pieces, self._pieces_bytes = [], 0
        self._number += 1
        if self.hopeless or (size == len(line) and not line.strip()):
            return None
        if size > self._line_bytes_max:
            self._refuse("line_too_long", f"The line has {size} bytes; {self._line_bytes_max} are allowed.")
            return None
        return self._item(line)

    def _item(self, line: bytes) -> NewItem | None:
        try:
            read = _line_decoder.decode(line)
        except msgspec.ValidationError as error:
            self._refuse("invalid_request", f"The line is no batch request: {error}.")
            return None
        except msgspec.DecodeError as error:
            self._refuse("invalid_json_line", f"The line is no valid JSON: {error}.")
            return None
        call = self._call(read) if self._is_addressed(read) and self._is_new(read.custom_id) else None
        if call is None:
            return None
        self.total += 1
        self.models.add(call.model)
        if self.total > self._items_max:
            self._give_up("too_many_requests", f"The file has more than {self._items_max} requests. Split it.")
        elif len(self.models) > MODELS_MAX:
            self._give_up("too_many_models", f"The file names more than {MODELS_MAX} models. Split it.")
        if self._given_up:
            return None
        twin = self._duplicates.twin_of(self._number, call)
        return NewItem(self._number, read.custom_id, call.model, call.body, prefix=prefix_of(call), twin=twin)

    def _is_addressed(self, line: _Line) -> bool:
        if line.method.upper() != "POST":
            self._refuse("invalid_method", f"method: {line.method[:20]!r} is not to be had; use POST.", "method")
        elif line.url != self._endpoint:
            self._refuse("invalid_url", f"url: {line.url[:100]!r} is not the batch's endpoint, {self._endpoint}.", "url")
        else:
            return True
        return False

    def _is_new(self, custom_id: str) -> bool:
        if not 0 < len(custom_id) <= CUSTOM_ID_MAX_LENGTH:
            self._refuse("invalid_custom_id", f"custom_id: from 1 to {CUSTOM_ID_MAX_LENGTH} characters, please.", "custom_id")
        elif "\0" in custom_id:
            self._refuse("invalid_custom_id", "custom_id: a NUL character cannot be kept by every database; leave it out.", "custom_id")
        elif custom_id in self._custom_ids:
            self._refuse("duplicate_custom_id", f"custom_id: {custom_id[:100]!r} was used before.", "custom_id")
        else:
            self._custom_ids.add(custom_id)
            return True
        return False

    def _call(self, line: _Line) -> Call | None:
        try:
            return read_call(self._endpoint, bytes(line.body))
        except BadRequest as error:
            self._refuse(error.code, error.message, f"body.{error.param}" if error.param else "body")
            return None

    def _give_up(self, code: str, message: str) -> None:
        self._given_up = True
        self._refuse(code, message)

    def _refuse(self, code: str, message: str, param: str | None = None) -> None:
        self.errors.append(LineError(code, message, self._number, param))


def read_call(endpoint: str, body: bytes) -> Call:
    """The call of one item. Raises `BadRequest`, also for what only makes sense to a client who waits."""
    call = codec_of(ENDPOINTS[endpoint]).read_call(body, {}, endpoint)
    if call.stream:
        raise BadRequest("stream: a batch has whole answers; leave it out.", param="stream")
    if "\0" in call.model:
        raise BadRequest("model: no model has a NUL character in its name.", param="model")
    if call.in_background:
        raise BadRequest("background: a batch is in the background itself; leave it out.", param="background")
    return msgspec.structs.replace(call, conversational=False)


def items_of(lines: Iterable[NewItem | None]) -> list[NewItem]:
    return [item for item in lines if item is not None]
