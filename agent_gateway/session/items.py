"""Items of the Responses API as they are listed: each with an id, page by page.

Promise: an item that nobody gave an id has one that follows from its place, the same whenever it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from agent_gateway.core.errors import BadRequest
from agent_gateway.wire.openai_responses import ItemList

#: Before the ids of items, by their kind.
_PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}
_item = msgspec.json.Decoder(dict[str, Any])


@dataclass(frozen=True, slots=True)
class Page:
    """What of a list is asked for: `after` an item's id."""

    after: str | None = None
    limit: int = 20
    order: Literal["asc", "desc"] = "desc"


def checked_items(items: Iterable[bytes | msgspec.Raw], where: str) -> list[bytes]:
    """Raises `BadRequest` for what is no object."""
    checked = [bytes(item) for item in items]
    for index, item in enumerate(checked):
        if not item.startswith(b"{"):
            raise BadRequest(f"{where}[{index}]: expected an object.", param=f"{where}[{index}]")
    return checked


def told_item(item: bytes, place: str) -> dict[str, Any]:
    """As the API lists it; `place` makes it an id where it has none."""
    told = _item.decode(item)
    kind = told.setdefault("type", "message")
    if not told.get("id"):
        told["id"] = f"{_PREFIXES.get(kind, 'item')}_{place}"
    if kind == "message":
        told.setdefault("status", "completed")
        if isinstance(text := told.get("content"), str):
            part = {"type": "output_text", "text": text, "annotations": []}
            told["content"] = [part if told.get("role") == "assistant" else {"type": "input_text", "text": text}]
    return told


def page_of(items: Sequence[dict[str, Any]], page: Page) -> ItemList:
    """`items` oldest first. Raises `BadRequest` for an `after` that is none of them."""
    ordered = list(items) if page.order == "asc" else list(reversed(items))
    if page.after is not None:
        places = [place for place, item in enumerate(ordered) if item["id"] == page.after]
        if not places:
            raise BadRequest(f"after: there is no item {page.after[:100]!r} in this list.", param="after")
        ordered = ordered[places[0] + 1 :]
    shown = ordered[: page.limit]
    first, last = (shown[0]["id"], shown[-1]["id"]) if shown else (None, None)
    return ItemList(shown, first, last, len(ordered) > len(shown))
