"""Scripts for a `ScriptedProvider`: good replies, and every way a reply can go wrong."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Literal

from tests.kit.provider import Peer, Script

Framing = Literal["length", "chunked", "close"]

_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def whole(
    body: bytes,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    framing: Framing = "length",
    content_type: str = "application/json",
) -> Script:
    """One body; `close` is delimited by the end of the connection."""
    fields = {"content-type": content_type, **_framing_fields(framing, len(body)), **(headers or {})}

    async def script(peer: Peer) -> None:
        await peer.send(head(status, fields) + (chunk(body) + LAST_CHUNK if framing == "chunked" else body))
        if framing == "close":
            await peer.hang_up()

    return script


def stream(
    frames: Iterable[bytes],
    *,
    framing: Framing = "chunked",
    gap_s: float = 0,
    headers: Mapping[str, str] | None = None,
    then: Callable[[Peer], Awaitable[None]] | None = None,
) -> Script:
    """Server-sent events, one HTTP chunk each, `gap_s` apart. `then` plays instead of a clean end."""
    fields = {"content-type": "text/event-stream; charset=utf-8", **_framing_fields(framing, None), **(headers or {})}

    async def script(peer: Peer) -> None:
        await peer.send(head(200, fields))
        for frame in frames:
            await peer.send(chunk(frame) if framing == "chunked" else frame)
            if gap_s:
                await asyncio.sleep(gap_s)
        if then is not None:
            await then(peer)
        elif framing == "chunked":
            await peer.send(LAST_CHUNK)
        else:
            await peer.hang_up()

    return script


def raw(data: bytes, sizes: int | None = None, gap_s: float = 0, end: Literal["hang up", "hang", "cut"] = "hang up") -> Script:
    """These bytes and no others, `sizes` at a time."""

    async def script(peer: Peer) -> None:
        step = sizes or max(len(data), 1)
        for start in range(0, len(data), step):
            await peer.send(data[start : start + step])
            await asyncio.sleep(gap_s)
        match end:
            case "hang up":
                await peer.hang_up()
            case "hang":
                await peer.forever()
            case "cut":
                peer.cut()

    return script


async def hang(peer: Peer) -> None:
    """The request is read and never answered."""
    await peer.forever()


async def cut(peer: Peer) -> None:
    peer.cut()


def later(delay_s: float, script: Script) -> Script:
    """Answers so much later; never, when the gateway hangs up before."""

    async def delayed(peer: Peer) -> None:
        await asyncio.sleep(delay_s)
        await script(peer)

    return delayed


def in_turn(*scripts: Script) -> Script:
    """The first request gets the first, and so on, round and round."""
    turns = itertools.cycle(scripts)

    async def script(peer: Peer) -> None:
        await next(turns)(peer)

    return script


def after(event: asyncio.Event, script: Script) -> Script:
    """Answers when it is told to."""

    async def waiting(peer: Peer) -> None:
        await event.wait()
        await script(peer)

    return waiting


LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _framing_fields(framing: Framing, length: int | None) -> dict[str, str]:
    match framing:
        case "length":
            assert length is not None, "a stream has no length"
            return {"content-length": str(length)}
        case "chunked":
            return {"transfer-encoding": "chunked"}
        case "close":
            return {"connection": "close"}
