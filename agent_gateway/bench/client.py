"""One request of a load test over the wire. Promise: whatever comes of it is an `Outcome`; nothing is tried again."""

from __future__ import annotations

from time import monotonic
from urllib.parse import urlsplit

from agent_gateway.bench.load import Load
from agent_gateway.bench.outcome import NotUnderstood, Outcome, StreamEnd, error_class, priced, read_group, read_whole, says_something
from agent_gateway.bench.times import Times
from agent_gateway.core.errors import (
    ConnectFailed,
    ConnectionCut,
    NameNotResolved,
    NoConnectionFree,
    ProviderError,
    ProviderTimeout,
    TlsFailed,
)
from agent_gateway.upstream.transport import Origin, ReadTimeout, Reply, Transport
from agent_gateway.wire.sse import FrameSplitter

ANSWER_MAX_BYTES = 256 * 1024 * 1024
TIMEOUT = "timeout"

#: The transport's errors as they are told of what is tested. The first that fits.
_CLASSES: tuple[tuple[type[Exception], str], ...] = (
    (ReadTimeout, TIMEOUT),
    (ProviderTimeout, "no connection in time"),
    (NameNotResolved, "name not resolved"),
    (TlsFailed, "TLS failed"),
    (ConnectFailed, "no connection"),
    (NoConnectionFree, "no connection free"),
    (ConnectionCut, "cut off"),
    (ProviderError, "not understood"),
    (NotUnderstood, "not understood"),
)


class Client:
    def __init__(self, load: Load, key: str | None, transport: Transport) -> None:
        """Raises `ValueError` for what is no URL, or a key that no header can hold."""
        self._load = load
        self._transport = transport
        self._origin = Origin.from_url(load.url)
        base = urlsplit(load.url).path.rstrip("/").removesuffix("/v1")
        lines = [f"POST {base}{load.path} HTTP/1.1", f"host: {self._origin.host_header}", "content-type: application/json"]
        if key is not None:
            if not (key.isascii() and key.isprintable()):
                raise ValueError("the key holds characters that no header can hold")
            lines.append(f"authorization: Bearer {key}")
        self._head = "\r\n".join(lines).encode("ascii")

    async def ask(self, body: bytes, session: str | None, due: float, gaps: Times) -> Outcome:
        """`gaps` takes the times between the pieces of a stream."""
        sent = monotonic()
        outcome = Outcome(min(due, sent), sent)  # a timer may come early
        until = outcome.sent + self._load.timeout_s
        session_line = b"" if session is None else b"x-session-id: %b\r\n" % session.encode()
        head = b"%b\r\n%bcontent-length: %d\r\n\r\n" % (self._head, session_line, len(body))
        try:
            reply = await self._transport.send(self._origin, head, body, connect_until=until, until=until)
            try:
                await self._read(reply, outcome, until, gaps)
            finally:
                reply.close()
        except (ReadTimeout, ProviderError, NotUnderstood) as error:
            why = next(name for kind, name in _CLASSES if isinstance(error, kind))
            outcome.answered = 0
            outcome.errors = {why: self._load.requests_each}
        outcome.ended = monotonic()
        priced(outcome, self._load.price)
        return outcome

    async def _read(self, reply: Reply, outcome: Outcome, until: float, gaps: Times) -> None:
        headers = reply.headers
        if reply.status != 200:
            why = error_class(reply.status, await reply.read(until, ANSWER_MAX_BYTES))
            outcome.errors = {why: self._load.requests_each}
            return
        outcome.status = headers.get(b"x-gateway-status", b"success").decode("latin-1")
        match self._load.mode:
            case "stream":
                await _read_stream(reply, outcome, until, gaps)
            case "unary":
                read_whole(outcome, await reply.read(until, ANSWER_MAX_BYTES))
            case "batch":
                read_group(outcome, await reply.read(until, ANSWER_MAX_BYTES))
        if b"x-gateway-overhead-ms" in headers:
            outcome.overhead_s = float(headers[b"x-gateway-overhead-ms"]) / 1000
        if b"x-gateway-cost-usd" in headers:
            outcome.cost_usd = float(headers[b"x-gateway-cost-usd"])


async def _read_stream(reply: Reply, outcome: Outcome, until: float, gaps: Times) -> None:
    """Until something is said, frame by frame; from then on no more than the clock is looked at."""
    end, splitter = StreamEnd(), FrameSplitter()
    while outcome.first_token is None:
        data = await reply.next(until)
        if not data:
            end.tell(outcome)
            return
        now = monotonic()
        end.add(data)
        if any(map(says_something, splitter.split(splitter.feed(data)))):
            outcome.first_token = now
    latest = outcome.first_token

    def heard(data: bytes) -> float:
        nonlocal latest
        now = monotonic()
        gaps.add(now - latest)
        latest = now
        end.add(data)
        return until

    reply.pass_to(heard)
    while data := await reply.next(until):
        heard(data)
    end.tell(outcome)
