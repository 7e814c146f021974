"""Gemini's files (https://ai.google.dev/api/files): sent by the resumable upload, in pieces, and read back where they were generated.

Promise: a file is there once its upload was finalized, whole and in order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import Struct

from agent_gateway.core.errors import BadRequest, Forbidden, NotFound
from agent_gateway.simulator.batches.desk import Desk, Route, limit_of, page, rfc3339
from agent_gateway.simulator.batches.jobs import Job
from agent_gateway.simulator.batches.shelf import KEPT_BYTES_MAX, File
from agent_gateway.simulator.exchange import Answer, Ask, json_answer

#: Uploads that have begun and not ended; the oldest is given up for another.
UPLOADS_MAX = 16
_START_BYTES_MAX = 64 * 1024
_FILE_TTL_S = 48 * 3600.0
_FILES = r"/v1(?:beta)?/files"
_JSON_HEADER = (b"content-type", b"application/json")


class _FileFields(Struct):
    name: str = ""
    display_name: str = ""
    displayName: str = ""
    mime_type: str = ""
    mimeType: str = ""


class _NewFile(Struct):
    file: _FileFields = msgspec.field(default_factory=_FileFields)


_new_file = msgspec.json.Decoder(_NewFile)


@dataclass(slots=True)
class _Upload:
    key: str
    name: str
    display_name: str
    media_type: str
    data: bytearray = field(default_factory=bytearray)


class GeminiFiles:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._uploads: dict[str, _Upload] = {}
        self.routes: Sequence[Route] = (
            Route("POST", re.compile("/upload" + _FILES), self._upload),
            Route("GET", re.compile(_FILES), self._list),
            Route("GET", re.compile(_FILES + r"/([^/:]+)"), self._show),
            Route("DELETE", re.compile(_FILES + r"/([^/:]+)"), self._delete),
            Route("GET", re.compile(r"(?:/download)?" + _FILES + r"/([^/:]+):download"), self._download),
        )

    def found(self, ask: Ask, name: str) -> File:
        """`name`: `files/…`. Raises `NotFound`."""
        file = self._desk.shelf.find(ask.key, name, self._now)
        if file is None:
            raise NotFound(f"The file {name[:100]!r} was not found, or it is not yours.")
        return file

    def write(self, job: Job, data: bytes) -> str:
        """The results of a batch; its name."""
        name = f"files/batch-{job.id}"
        if not (job.fault and job.fault.kind == "gone"):
            self._desk.shelf.put(File(name, job.key, "", "GENERATED", self._now, self._now + _FILE_TTL_S, data))
        return name

    @property
    def _now(self) -> float:
        return self._desk.clock.wall()

    # --- upload: https://ai.google.dev/api/files#method:-media.upload ---

    async def _upload(self, ask: Ask) -> Answer:
        commands = [command.strip() for command in ask.headers.get(b"x-goog-upload-command", b"").split(b",")]
        if commands == [b"start"]:
            return await self._start(ask)
        upload = self._uploads.get(ask.query("upload_id") or "")
        if upload is None:
            raise NotFound("upload_id: there is no such upload; begin one with X-Goog-Upload-Command: start.", param="upload_id")
        if commands == [b"query"]:
            return _active(upload)
        if not commands or not set(commands) <= {b"upload", b"finalize"}:
            raise BadRequest("X-Goog-Upload-Command: expected 'start', 'upload', 'upload, finalize', 'finalize' or 'query'.")
        if b"upload" in commands:
            offset = ask.headers.get(b"x-goog-upload-offset", b"0")
            if offset != str(len(upload.data)).encode():
                raise BadRequest(f"X-Goog-Upload-Offset: {offset[:20].decode('latin-1')!r} is not {len(upload.data)}, where the upload is.")
            upload.data += await ask.body(KEPT_BYTES_MAX - len(upload.data))
        if b"finalize" not in commands:
            return _active(upload)
        del self._uploads[ask.query("upload_id") or ""]
        return self._finalized(ask, upload)

    async def _start(self, ask: Ask) -> Answer:
        try:
            given = _new_file.decode(await ask.body(_START_BYTES_MAX) or b"{}").file
        except msgspec.MsgspecError as error:
            raise BadRequest(f"The request describes no file: {error}.") from None
        media_type = ask.headers.get(b"x-goog-upload-header-content-type", b"").decode("latin-1")
        name = given.name or f"files/{self._desk.new_id(12)}"
        upload_id = self._desk.new_id(32)
        kind = given.mimeType or given.mime_type or media_type or "application/octet-stream"
        self._uploads[upload_id] = _Upload(ask.key, name, given.displayName or given.display_name, kind)
        if len(self._uploads) > UPLOADS_MAX:
            del self._uploads[next(iter(self._uploads))]
        url = f"{ask.origin}{ask.path}?upload_id={upload_id}&upload_protocol=resumable"
        return Answer(200, b"{}", (_JSON_HEADER, (b"x-goog-upload-url", url.encode()), (b"x-goog-upload-status", b"active")))

    def _finalized(self, ask: Ask, upload: _Upload) -> Answer:
        expires_at = self._now + _FILE_TTL_S
        data = bytes(upload.data)
        file = File(upload.name, upload.key, upload.display_name, "UPLOADED", self._now, expires_at, data, upload.media_type)
        self._desk.shelf.put(file)
        body = msgspec.json.encode({"file": _shown(file, ask)})
        return Answer(200, body, (_JSON_HEADER, (b"x-goog-upload-status", b"final")))

    # --- what is there ---

    async def _list(self, ask: Ask) -> Answer:
        limit = limit_of(ask, "pageSize", 10, 100)
        files, more = page(self._desk.shelf.of_key(ask.key, self._now), limit, ask.query("pageToken") or None)
        next_page = {"nextPageToken": files[-1].id} if more else {}
        return json_answer({"files": [_shown(file, ask) for file in files], **next_page})

    async def _show(self, ask: Ask, file_id: str) -> Answer:
        return json_answer(_shown(self.found(ask, f"files/{file_id}"), ask))

    async def _delete(self, ask: Ask, file_id: str) -> Answer:
        self._desk.shelf.drop(ask.key, self.found(ask, f"files/{file_id}").id)
        return json_answer({})

    async def _download(self, ask: Ask, file_id: str) -> Answer:
        file = self.found(ask, f"files/{file_id}")
        if file.purpose != "GENERATED":
            raise Forbidden(f"{file.id} was uploaded; only generated files can be downloaded.")
        return Answer(200, file.data, ((b"content-type", file.media_type.encode()),))


def _active(upload: _Upload) -> Answer:
    received = str(len(upload.data)).encode()
    return Answer(200, b"", ((b"x-goog-upload-status", b"active"), (b"x-goog-upload-size-received", received)))


def _shown(file: File, ask: Ask) -> dict[str, Any]:
    shown = {
        "name": file.id,
        "displayName": file.name,
        "mimeType": file.media_type,
        "sizeBytes": str(len(file.data)),
        "createTime": rfc3339(file.created_at),
        "updateTime": rfc3339(file.created_at),
        "expirationTime": rfc3339(file.expires_at),
        "uri": f"{ask.origin}/v1beta/{file.id}",
        "state": "ACTIVE",
        "source": file.purpose,
    }
    if file.purpose == "GENERATED":
        shown["downloadUri"] = f"{ask.origin}/v1beta/{file.id}:download?alt=media"
    return shown
