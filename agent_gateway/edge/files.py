"""Files on their way in, as forms: in pieces, so that no file is ever whole in memory.

Promise: who sends too slowly is given up, and of an upload that breaks off nothing stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any

from agent_gateway.core.errors import BadRequest, ClientLeft, GatewayError, RequestTimeout, TooLarge, UnsupportedMedia
from agent_gateway.edge.batch_room import BatchAsk, Upload
from agent_gateway.edge.request import body_length
from agent_gateway.wire.multipart import MultipartReader, Part

#: Of a form, beside the file in it.
FORM_BYTES_MAX = 64 * 1024
#: A client has `Limits.body_timeout_s` for each so many bytes of an upload,
STEP_BYTES = 1024 * 1024
#: and an upload holds so many of `Limits.bodies`: what comes, and what is being kept.
HELD_BYTES = 3 * STEP_BYTES


async def uploaded(ask: BatchAsk) -> Any:
    """The file as it is shown. Raises `TooLarge`, `BadRequest`, …"""
    bytes_max = int(ask.runtime.settings.server.files_max_mb * 1024 * 1024)
    length = body_length(ask.headers)
    if length is not None and length > bytes_max + FORM_BYTES_MAX:
        raise TooLarge(f"The request's body has {length} bytes; a file may have {bytes_max}.", param="file")
    if ask.headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        raise UnsupportedMedia("content-encoding: a file is sent as it is, without an encoding.", param="content-encoding")
    reader = MultipartReader(ask.headers.get(b"content-type", b""))
    ask.exchange.hold = ask.limits.bodies.hold(HELD_BYTES)
    upload = ask.room.files.upload(ask.owner, bytes_max)
    try:
        form = _Form(upload)
        async with aclosing(_pieces(ask)) as pieces:
            async for piece in pieces:
                for found in reader.feed(piece):
                    await form.take(found)
        reader.finish()
        form.end_field()
        return await upload.finish()
    except BaseException:
        with suppress(GatewayError):  # the store's sweep finds what is left
            await upload.abandon()
        raise


class _Form:
    """Hands what a form consists of to an upload."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload
        self._in_file = False
        #: Of the field that has begun; None: none has.
        self._name: str | None = None
        self._value = bytearray()
        self._fields_bytes = 0

    async def take(self, found: Part | bytes) -> None:
        if isinstance(found, bytes):
            if self._in_file:
                await self._upload.write(found)
            else:
                self._grow_field(found)
            return
        self.end_field()
        self._in_file = found.name == "file"
        if self._in_file:
            await self._upload.begin(found.filename or "")
        else:
            self._name = found.name

    def end_field(self) -> None:
        if self._name is not None:
            self._upload.field(self._name, self._value.decode("utf-8", "replace"))
        self._name = None
        self._value.clear()

    def _grow_field(self, value: bytes) -> None:
        self._fields_bytes += len(value)
        if self._fields_bytes > FORM_BYTES_MAX:
            raise BadRequest(f"The form's fields have more than {FORM_BYTES_MAX} bytes beside the file; the file's part is named `file`.")
        self._value += value


async def _pieces(ask: BatchAsk) -> AsyncGenerator[bytes, None]:
    """The body as it comes. What its taker does with it takes none of the client's time."""
    loop = asyncio.get_running_loop()
    left_s, left_bytes = ask.limits.body_timeout_s, STEP_BYTES
    more = True
    while more:
        begun = loop.time()
        try:
            async with asyncio.timeout(left_s):
                message = await ask.receive()
        except TimeoutError:
            raise RequestTimeout("The file was not sent in time.") from None
        if message["type"] == "http.disconnect":
            raise ClientLeft("The client closed the connection.")
        piece: bytes = message.get("body", b"")
        left_s, left_bytes = left_s - (loop.time() - begun), left_bytes - len(piece)
        if left_bytes <= 0:
            left_s, left_bytes = ask.limits.body_timeout_s, STEP_BYTES
        yield piece
        more = message.get("more_body", False)
