"""Anthropic's own SDK as the judge: what it makes of a body or a stream, over a transport without a network."""

from __future__ import annotations

import anthropic
import httpx2
import pydantic
from anthropic.types import Message, RawMessageStreamEvent

from agent_gateway.wire.sse import FrameSplitter, frame_data

_event: pydantic.TypeAdapter[RawMessageStreamEvent] = pydantic.TypeAdapter(RawMessageStreamEvent)


def client(content: bytes, status: int = 200, content_type: str = "application/json") -> anthropic.Anthropic:
    """Whatever it asks, this is the answer."""
    transport = httpx2.MockTransport(
        lambda request: httpx2.Response(status, content=content, headers={"content-type": content_type}, request=request)
    )
    return anthropic.Anthropic(api_key="x", base_url="http://localhost", http_client=httpx2.Client(transport=transport), max_retries=0)


def whole(body: bytes) -> Message:
    """Validated strictly, and then as the SDK reads it."""
    Message.model_validate_json(body)
    with client(body) as sdk:
        return sdk.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}])


def streamed(stream: bytes) -> Message:
    """Every event validated strictly, under its own name; then what the SDK puts together."""
    for frame in FrameSplitter.split(stream):
        data = frame_data(frame)
        assert data is not None, frame
        if b'"type":"ping"' not in data:
            event = _event.validate_json(data)
            assert frame.startswith(f"event: {event.type}\n".encode()), frame
    with (
        client(stream, content_type="text/event-stream") as sdk,
        sdk.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}]) as events,
    ):
        return events.get_final_message()
