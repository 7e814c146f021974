"""The paths of files and batches: one table, from method and path to what is answered."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from agent_gateway.core.errors import BadRequest, MethodNotAllowed
from agent_gateway.core.streamed import Streamed
from agent_gateway.edge.batch_room import BatchAsk
from agent_gateway.edge.files import uploaded
from agent_gateway.edge.grouped import Grouped
from agent_gateway.edge.request import check_media

BATCHES_LIMIT, BATCHES_LIMIT_MAX = 20, 100
#: So many may be asked for, as of OpenAI; a page has so many at most.
FILES_LIMIT_MAX, FILES_PAGE_MAX = 10_000, 1_000


def is_batch_path(path: str) -> bool:
    return any(known.fullmatch(path.rstrip("/")) for _, known, _ in _ROUTES)


async def batch_answer(ask: BatchAsk) -> Any:
    """A `Streamed`, still to be told, a `Grouped`, still to be run, or what JSON is made of. Raises `GatewayError`."""
    allowed = []
    for method, path, answer in _ROUTES:
        if (match := path.fullmatch(ask.path.rstrip("/"))) is None:
            continue
        if method == ("GET" if ask.method == "HEAD" else ask.method):
            ask.runtime.gate.check_endpoint(ask.exchange, ask.path)
            return await answer(ask, *match.groups())
        allowed.append(method)
    takes = ", ".join(allowed)
    raise MethodNotAllowed(f"{ask.path[:200]} does not take {ask.method}; it takes {takes}.", param=takes)


async def _files(ask: BatchAsk) -> Any:
    if ask.asked("order") not in (None, "desc"):
        raise BadRequest("order: files are listed youngest first (desc) only.", param="order")
    limit = min(ask.limit(FILES_LIMIT_MAX, FILES_LIMIT_MAX), FILES_PAGE_MAX)
    return await ask.room.files.listed(ask.owner, limit=limit, after=ask.asked("after"), purpose=ask.asked("purpose"))


async def _content(ask: BatchAsk, file_id: str) -> Streamed:
    file = await ask.room.files.find(ask.owner, file_id)
    return Streamed(ask.room.files.content(file.id, file.bytes), "application/octet-stream", {"content-length": str(file.bytes)})


async def _batches(ask: BatchAsk) -> Any:
    return await ask.room.batches.listed(ask.owner, limit=ask.limit(BATCHES_LIMIT, BATCHES_LIMIT_MAX), after=ask.asked("after"))


async def _new_batch(ask: BatchAsk) -> Any:
    check_media(ask.headers)
    check_endpoint = partial(ask.runtime.gate.check_endpoint, ask.exchange)
    return await ask.room.batches.create(ask.owner, ask.exchange.key, await ask.body(), check_endpoint)


async def _group(ask: BatchAsk) -> Grouped:
    check_media(ask.headers)
    return Grouped(ask, ask.room.group(await ask.body(), ask.owner.user, ask.exchange, ask.runtime))


_Answer = Callable[..., Awaitable[Any]]
_ID = r"([^/]+)"
_ROUTES: list[tuple[str, re.Pattern[str], _Answer]] = [
    (method, re.compile(path), answer)
    for method, path, answer in (
        ("GET", "/v1/files", _files),
        ("POST", "/v1/files", uploaded),
        ("GET", f"/v1/files/{_ID}", lambda ask, of: ask.room.files.find(ask.owner, of)),
        ("DELETE", f"/v1/files/{_ID}", lambda ask, of: ask.room.files.delete(ask.owner, of)),
        ("GET", f"/v1/files/{_ID}/content", _content),
        ("GET", "/v1/batches", _batches),
        ("POST", "/v1/batches", _new_batch),
        ("GET", f"/v1/batches/{_ID}", lambda ask, of: ask.room.batches.find(ask.owner, of)),
        ("POST", f"/v1/batches/{_ID}/cancel", lambda ask, of: ask.room.batches.cancel(ask.owner, of)),
        ("POST", "/v1/batch", _group),
    )
]
