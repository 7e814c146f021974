"""What the gateway asks of others than model providers, over the same transport: a token issuer's documents, an operator's webhook.

Promise: only the configured URL is asked, no redirect is followed, and an answer is bounded in time and size.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import ProviderTimeout
from agent_gateway.upstream.origin import Origin
from agent_gateway.upstream.transport import ReadTimeout, Transport

#: For a document (s).
GET_TIMEOUT_S = 5.0
ANSWER_MAX_BYTES = 1024 * 1024

_NO_HEADERS: Mapping[str, str] = {}


class Web:
    def __init__(self, transport: Transport, clock: Clock) -> None:
        self._transport = transport
        self._clock = clock

    async def get(self, url: str) -> bytes:
        """The body of a 200. Raises `OSError` for any other status, and what `post` does."""
        status, body = await self._ask("GET", url, b"", {"accept": "application/json"}, GET_TIMEOUT_S)
        if status != 200:
            raise OSError(f"{url} answered with status {status}")
        return body

    async def post(self, url: str, body: bytes, headers: Mapping[str, str] = _NO_HEADERS, timeout_s: float = 5.0) -> tuple[int, bytes]:
        """Status and body. `headers` in lower case. Raises `ProviderError`, and `ValueError` for a URL that is none."""
        return await self._ask("POST", url, body, headers, timeout_s)

    async def _ask(self, method: str, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> tuple[int, bytes]:
        origin, parts = Origin.from_url(url), urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = {
            "host": origin.host_header,
            "user-agent": "agent-gateway",
            "accept-encoding": "identity",
            "content-length": str(len(body)),
            **headers,
        }
        head = "".join([f"{method} {target} HTTP/1.1\r\n", *(f"{name}: {value}\r\n" for name, value in lines.items()), "\r\n"])
        until = self._clock.monotonic() + timeout_s
        try:
            reply = await self._transport.send(origin, head.encode("latin-1"), body, connect_until=until, until=until)
            try:
                return reply.status, await reply.read(until, ANSWER_MAX_BYTES)
            finally:
                reply.close()
        except ReadTimeout:
            raise ProviderTimeout(f"{origin.host} did not answer in time.", kind="attempt") from None
