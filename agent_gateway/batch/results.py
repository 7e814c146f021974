"""Finished items as lines of a batch's output and error files, as OpenAI writes them."""

from __future__ import annotations

from typing import Any

import msgspec

from agent_gateway.stores.batches import FinishedItem, ItemState

_encoder = msgspec.json.Encoder()
#: Why an item was not run.
_UNRUN: dict[ItemState, tuple[str, str]] = {
    "cancelled": ("batch_cancelled", "This request was not run before the batch was cancelled."),
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
}


class _Response(msgspec.Struct):
    status_code: int | None
    request_id: str | None
    body: msgspec.Raw


def result_line(batch_id: str, item: FinishedItem) -> bytes:
    """With its line end. What ended with an error of the request's own has that as its response."""
    response = error = None
    if item.body is not None:
        response = _Response(item.status_code, item.request_id, msgspec.Raw(item.body))
    else:
        code, message = _UNRUN.get(item.state, ("server_error", "This request has no result."))
        error = {"code": code, "message": message}
    name = f"batch_req_{batch_id.removeprefix('batch_')}_{item.number}"
    line: dict[str, Any] = {"id": name, "custom_id": item.custom_id, "response": response, "error": error}
    return _encoder.encode(line) + b"\n"
