"""OpenAI's files (https://platform.openai.com/docs/api-reference/files): sent as forms, read back as they were sent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agent_gateway.core.errors import BadRequest, NotFound
from agent_gateway.simulator.batches.desk import Desk, Route, limit_of, page
from agent_gateway.simulator.batches.shelf import File
from agent_gateway.simulator.exchange import Answer, Ask, json_answer
from agent_gateway.wire.multipart import MultipartReader

#: Its paths begin so; Google has them for its compatible API.
BASE = r"(?:/v1|/v1beta/openai)"
FILE_BYTES_MAX = 200 * 1024 * 1024
#: Of files for batches, where nothing else is asked for.
FILE_TTL_S = 30 * 86400.0
#: What may be asked for.
_FILE_TTL_BOUNDS_S = (3600, 30 * 86400)
#: Of a form, beside the file in it.
_FORM_BYTES_MAX = 64 * 1024
_OCTETS = ((b"content-type", b"application/octet-stream"),)


class OpenAIFiles:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.routes: Sequence[Route] = (
            Route("POST", re.compile(BASE + r"/files"), self._upload),
            Route("GET", re.compile(BASE + r"/files"), self._list),
            Route("GET", re.compile(BASE + r"/files/([^/]+)"), self._show),
            Route("DELETE", re.compile(BASE + r"/files/([^/]+)"), self._delete),
            Route("GET", re.compile(BASE + r"/files/([^/]+)/content"), self._content),
        )

    def put(self, key: str, name: str, purpose: str, data: bytes, ttl_s: float | None) -> File:
        expires_at = None if ttl_s is None else self._now + ttl_s
        file = File(f"file-{self._desk.new_id(22)}", key, name, purpose, self._now, expires_at, data)
        self._desk.shelf.put(file)
        return file

    def found(self, ask: Ask, file_id: str) -> File:
        """Raises `NotFound`."""
        file = self._desk.shelf.find(ask.key, file_id, self._now)
        if file is None:
            raise NotFound(f"No such File object: {file_id[:100]}", param="id")
        return file

    @property
    def _now(self) -> float:
        return self._desk.clock.wall()

    async def _upload(self, ask: Ask) -> Answer:
        form = await _read_form(ask)
        if form.file is None:
            raise BadRequest("file: a file is required.", param="file")
        if not form.fields.get("purpose"):
            raise BadRequest("purpose: is required.", param="purpose")
        purpose = form.fields["purpose"]
        seconds = form.fields.get("expires_after[seconds]")
        ttl_s = checked_ttl_s("expires_after", seconds) if seconds else FILE_TTL_S if purpose == "batch" else None
        file = self.put(ask.key, form.filename, purpose, bytes(form.file), ttl_s)
        return json_answer(_shown_file(file))

    async def _list(self, ask: Ask) -> Answer:
        purpose, after = ask.query("purpose"), ask.query("after")
        files = [file for file in self._desk.shelf.of_key(ask.key, self._now) if purpose in (None, file.purpose)]
        if ask.query("order") == "asc":
            files.reverse()
        shown, more = page(files, limit_of(ask, "limit", 10_000, 10_000), after)
        return json_answer(listed([_shown_file(file) for file in shown], more))

    async def _show(self, ask: Ask, file_id: str) -> Answer:
        return json_answer(_shown_file(self.found(ask, file_id)))

    async def _delete(self, ask: Ask, file_id: str) -> Answer:
        self._desk.shelf.drop(ask.key, self.found(ask, file_id).id)
        return json_answer({"id": file_id, "object": "file", "deleted": True})

    async def _content(self, ask: Ask, file_id: str) -> Answer:
        return Answer(200, self.found(ask, file_id).data, _OCTETS)


def checked_ttl_s(param: str, given: str) -> float:
    least, most = _FILE_TTL_BOUNDS_S
    if not (given.isascii() and given.isdigit() and least <= int(given) <= most):
        raise BadRequest(f"{param}: {given[:20]!r} is not a number of seconds from {least} to {most}.", param=param)
    return float(given)


def listed(data: list[dict[str, Any]], more: bool) -> dict[str, Any]:
    ids = [one["id"] for one in data]
    return {"object": "list", "data": data, "first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None, "has_more": more}


def second(time: float | None) -> int | None:
    return None if time is None else int(time)


@dataclass(slots=True)
class _Form:
    fields: dict[str, str] = field(default_factory=dict)
    filename: str = ""
    file: bytearray | None = None


async def _read_form(ask: Ask) -> _Form:
    """Raises `BadRequest`, `TooLarge`, `UnsupportedMedia`."""
    form = _Form()
    reader = MultipartReader(ask.headers.get(b"content-type", b""))
    into = bytearray()
    fields: dict[str, bytearray] = {}
    async for piece in ask.pieces(FILE_BYTES_MAX + _FORM_BYTES_MAX):
        for found in reader.feed(piece):
            if isinstance(found, bytes):
                into += found
            elif found.name == "file":
                into = form.file = bytearray()
                form.filename = found.filename or ""
            else:
                into = fields[found.name] = bytearray()
    reader.finish()
    form.fields = {name: value.decode("utf-8", "replace") for name, value in fields.items()}
    return form


def _shown_file(file: File) -> dict[str, Any]:
    return {
        "object": "file",
        "id": file.id,
        "purpose": file.purpose,
        "filename": file.name,
        "bytes": len(file.data),
        "created_at": int(file.created_at),
        "expires_at": second(file.expires_at),
        "status": "processed",
        "status_details": None,
    }
