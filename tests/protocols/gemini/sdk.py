"""Google's own SDK over bytes that a test gives it: its parsing is the oracle."""

from __future__ import annotations

from typing import Any

import httpx2
import msgspec
from google import genai
from google.genai import types

#: What the SDK sent last: the path with its query, and the body.
Sent = tuple[str, bytes]


class Oracle:
    """`reply` is what the model answers; `status` with what HTTP status."""

    def __init__(self, reply: bytes = b"{}", status: int = 200) -> None:
        self.sent: list[Sent] = []

        def handle(request: httpx2.Request) -> httpx2.Response:
            self.sent.append((request.url.raw_path.decode(), request.read()))
            return httpx2.Response(status, content=reply)

        options = types.HttpOptions(base_url="http://gateway.test", client_args={"transport": httpx2.MockTransport(handle)})
        # Kept: the SDK closes a client that is not.
        self._client = genai.Client(api_key="x", http_options=options)
        self.models = self._client.models

    def answer(self) -> types.GenerateContentResponse:
        return self.models.generate_content(model="m", contents="hi")

    def stream(self) -> list[types.GenerateContentResponse]:
        return list(self.models.generate_content_stream(model="m", contents="hi"))

    def request(self, config: dict[str, Any], contents: Any = "hi", model: str = "m", *, stream: bool = False) -> Sent:
        """What the SDK sends for this."""
        told = types.GenerateContentConfig.model_validate(config)
        if stream:
            list(self.models.generate_content_stream(model=model, contents=contents, config=told))
        else:
            self.models.generate_content(model=model, contents=contents, config=told)
        return self.sent[-1]


def json(data: bytes) -> Any:
    return msgspec.json.decode(data)
