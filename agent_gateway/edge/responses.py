"""The paths on which stored responses and conversations are asked for: one table, from method and path to what is answered."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import msgspec
from msgspec import Struct

from agent_gateway.core.errors import BadRequest, MethodNotAllowed, NotFound
from agent_gateway.edge.resumable import events_seen
from agent_gateway.session.items import Page
from agent_gateway.session.responses import Responses
from agent_gateway.stores.base import Owner

#: What these paths begin with; responses are made at the first one itself, which is a model's.
STATE_PATHS = ("/v1/responses/", "/v1/conversations")
_LIMIT_MAX = 100
_ID = r"([^/]+)"

_json = msgspec.json.Encoder()


class StateAsk(Struct, frozen=True):
    """One request. `ttl_s`: how long what is written lives on."""

    responses: Responses
    owner: Owner
    query: bytes
    body: bytes
    ttl_s: float
    method: str
    path: str

    def page(self) -> Page:
        """Raises `BadRequest`."""
        asked = parse_qs(self.query.decode("latin-1"))
        limit, order = asked.get("limit", ["20"])[-1], asked.get("order", ["desc"])[-1]
        if not (limit.isascii() and limit.isdigit() and len(limit) < 4 and 1 <= int(limit) <= _LIMIT_MAX):
            raise BadRequest(f"limit: expected a whole number from 1 to {_LIMIT_MAX}.", param="limit")
        if order not in ("asc", "desc"):
            raise BadRequest("order: expected asc or desc.", param="order")
        return Page(asked.get("after", [None])[-1], int(limit), "asc" if order == "asc" else "desc")


async def state_answer(ask: StateAsk) -> bytes:
    """JSON. Raises `NotFound`, `MethodNotAllowed`, `BadRequest`, `Conflict`, `StoreDown`."""
    allowed = []
    for method, path, answer in _ROUTES:
        if (match := path.fullmatch(ask.path.rstrip("/"))) is None:
            continue
        if method == ("GET" if ask.method == "HEAD" else ask.method):
            told = await answer(ask, *match.groups())
            return told if isinstance(told, bytes) else _json.encode(told)
        allowed.append(method)
    if not allowed:
        raise NotFound(f"There is nothing at {ask.path[:200]!r}.")
    takes = ", ".join(allowed)
    raise MethodNotAllowed(f"{ask.path[:200]} does not take {ask.method}; it takes {takes}.", param=takes)


def stream_of_response(path: str, query: bytes) -> tuple[str, int] | None:
    """The request whose stream is asked for with `?stream=true&starting_after=N`, and the number of the last event that the
    client has; None: no stream is. Streams number their events from 1, this protocol its own from 0. Raises `BadRequest`.
    """
    match = re.fullmatch(f"/v1/responses/resp_{_ID}", path)
    asked = parse_qs(query.decode("latin-1"))
    if match is None or asked.get("stream", [""])[-1].lower() != "true":
        return None
    return f"req_{match[1]}", events_seen({}, query) + ("starting_after" in asked)


async def _response(ask: StateAsk, response_id: str) -> bytes:
    return (await ask.responses.find(ask.owner, response_id, ask.ttl_s)).body


async def _cancelled(ask: StateAsk, response_id: str) -> bytes:
    return (await ask.responses.cancel(ask.owner, response_id, ask.ttl_s)).body


_Answer = Callable[..., Awaitable[Any]]
_RESPONSE = f"/v1/responses/{_ID}"
_CONVERSATION = f"/v1/conversations/{_ID}"
_ITEM = f"{_CONVERSATION}/items/{_ID}"
_ROUTES: list[tuple[str, re.Pattern[str], _Answer]] = [
    (method, re.compile(path), answer)
    for method, path, answer in (
        ("GET", _RESPONSE, _response),
        ("DELETE", _RESPONSE, lambda ask, of: ask.responses.delete(ask.owner, of)),
        ("POST", f"{_RESPONSE}/cancel", _cancelled),
        ("GET", f"{_RESPONSE}/input_items", lambda ask, of: ask.responses.input_items(ask.owner, of, ask.page())),
        ("POST", "/v1/conversations", lambda ask: ask.responses.conversations.create(ask.owner, ask.body, ask.ttl_s)),
        ("GET", _CONVERSATION, lambda ask, of: ask.responses.conversations.show(ask.owner, of)),
        ("POST", _CONVERSATION, lambda ask, of: ask.responses.conversations.change(ask.owner, of, ask.body, ask.ttl_s)),
        ("DELETE", _CONVERSATION, lambda ask, of: ask.responses.conversations.delete(ask.owner, of)),
        ("GET", f"{_CONVERSATION}/items", lambda ask, of: ask.responses.conversations.listed(ask.owner, of, ask.page())),
        ("POST", f"{_CONVERSATION}/items", lambda ask, of: ask.responses.conversations.add(ask.owner, of, ask.body, ask.ttl_s)),
        ("GET", _ITEM, lambda ask, of, item: ask.responses.conversations.item(ask.owner, of, item)),
        ("DELETE", _ITEM, lambda ask, of, item: ask.responses.conversations.delete_item(ask.owner, of, item, ask.ttl_s)),
    )
]
