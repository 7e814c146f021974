"""What OpenAI-compatible providers send, byte for byte as they lay it out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

#: The provider's own name for the model; clients ask for another.
PROVIDER_MODEL = "gpt-4o-mini-2024-07-18"
DONE = b"data: [DONE]\n\n"
USAGE = {
    "prompt_tokens": 19,
    "completion_tokens": 10,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}

#: Indented as api.openai.com does; the model's name stands at the top, in the text and deeper down.
COMPLETION = b"""{
  "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
  "object": "chat.completion",
  "created": 1741569952,
  "model": "gpt-4o-mini-2024-07-18",
  "choices": [
    {
      "index": 0,
      "message": {
        "role": "assistant",
        "content": "I am \\"gpt-4o-mini-2024-07-18\\", \\"model\\": \\"gpt-4o-mini-2024-07-18\\" \\u4f60 \xe4\xbd\xa0",
        "refusal": null,
        "annotations": []
      },
      "logprobs": null,
      "finish_reason": "stop"
    }
  ],
  "usage": {
    "prompt_tokens": 19,
    "completion_tokens": 10,
    "total_tokens": 29,
    "prompt_tokens_details": {
      "cached_tokens": 0,
      "audio_tokens": 0
    },
    "completion_tokens_details": {
      "reasoning_tokens": 0,
      "audio_tokens": 0,
      "accepted_prediction_tokens": 0,
      "rejected_prediction_tokens": 0
    }
  },
  "service_tier": "default",
  "x_unknown": {"model": "gpt-4o-mini-2024-07-18", "n": 1.50}
}
"""
TEXT = 'I am "gpt-4o-mini-2024-07-18", "model": "gpt-4o-mini-2024-07-18" 你 你'


def sse(value: Any) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def delta(change: dict[str, Any], finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk's object in the order of members that OpenAI uses."""
    return {
        "id": "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG",
        "object": "chat.completion.chunk",
        "created": 1741570283,
        "model": PROVIDER_MODEL,
        "service_tier": "default",
        "system_fingerprint": "fp_fc9f1d7035",
        "choices": [{"index": 0, "delta": change, "logprobs": None, "finish_reason": finish_reason}],
        **more,
    }


def text_frames(words: Sequence[str], *, usage: bool = False, null_usage: bool = False) -> list[bytes]:
    """A whole stream. `usage`: with the usage chunk; `null_usage`: every other chunk says `"usage": null`, as OpenAI's do."""
    more: dict[str, Any] = {"usage": None} if null_usage else {}
    frames = [sse(delta({"role": "assistant", "content": "", "refusal": None}, **more))]
    frames += [sse(delta({"content": word}, **more)) for word in words]
    frames.append(sse(delta({}, "stop", **more)))
    if usage:
        frames.append(usage_frame())
    return [*frames, DONE]


def usage_frame() -> bytes:
    return sse({**delta({}), "choices": [], "usage": USAGE})


def tool_call_frames() -> list[bytes]:
    function = {"name": "get_weather", "arguments": ""}
    name = {"index": 0, "id": "call_DdmO9pD3xa9XTPNJ32zg2hcA", "type": "function", "function": function}
    pieces = ['{"', "city", '":"', "Paris", '"}']
    frames = [sse(delta({"role": "assistant", "content": None, "tool_calls": [name], "refusal": None}))]
    frames += [sse(delta({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})) for piece in pieces]
    return [*frames, sse(delta({}, "tool_calls")), DONE]


def error_body(message: str, code: str | None, kind: str = "invalid_request_error", param: str | None = None) -> bytes:
    """Indented by four, as OpenAI's errors are."""
    body = msgspec.json.encode({"error": {"message": message, "type": kind, "param": param, "code": code}})
    return msgspec.json.format(body, indent=4) + b"\n"


def renamed(data: bytes, model: str) -> bytes:
    """What the client must see: in each frame the first member `model` renamed, every other byte as it was."""
    member = re.compile(rb'("model"\s*:\s*)"%b"' % PROVIDER_MODEL.encode())
    return b"\n\n".join(member.sub(rb'\1"%b"' % model.encode(), frame, count=1) for frame in data.split(b"\n\n"))


def frames_of(body: bytes) -> list[bytes]:
    """The SSE frames of a body that ends with one, each with its blank line; comments among them."""
    assert body.endswith(b"\n\n"), body[-200:]
    return [frame + b"\n\n" for frame in body.split(b"\n\n")[:-1]]


def read_frame(frame: bytes) -> Any:
    """The value of a frame's one data line."""
    return msgspec.json.decode(frame.removeprefix(b"data:").strip())


def decode(text: bytes | str) -> Any:
    return msgspec.json.decode(text)
