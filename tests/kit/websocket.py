"""A WebSocket client by the `websockets` package, that speaks the gateway's frames and nothing else."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_connection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.kit import replies, samples
from tests.kit.client import CHAT, PATIENCE_S, chat
from tests.kit.eventually import eventually
from tests.kit.gateway import Gateway
from tests.kit.provider import Peer, Script, ScriptedProvider
from tests.kit.records import Record
from tests.kit.samples import decode

#: One message of the gateway's.
Frame = dict[str, Any]

_names = itertools.count(1)


class Socket:
    """One connection to the gateway."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def ask(self, body: Any, name: str | None = None) -> str:
        """Begins a request, by a name that no other has had."""
        name = name or f"request-{next(_names)}"
        await self.say({"request": name, "body": body})
        return name

    async def say(self, frame: Any) -> None:
        """Bytes go out as text, as they are; other values as JSON."""
        text = frame if isinstance(frame, bytes) else msgspec.json.encode(frame)
        async with asyncio.timeout(PATIENCE_S):
            await self.connection.send(text, text=True)

    async def frame(self) -> Frame:
        async with asyncio.timeout(PATIENCE_S):
            frame: Frame = decode(await self.connection.recv())
        return frame

    async def answer(self, name: str) -> list[Frame]:
        """The rest of a request's frames, its last one left out; nothing of another may come meanwhile."""
        [frames] = (await self.answers(name)).values()
        return frames

    async def answers(self, *names: str) -> dict[str, list[Frame]]:
        """The rest of these requests' frames, as they come, each without its last one."""
        answers: dict[str, list[Frame]] = {name: [] for name in names}
        left = set(names)
        while left:
            frame = await self.frame()
            name = frame["request"]
            assert name in left, frame
            if "done" in frame:
                assert frame == {"request": name, "done": True}
                left.remove(name)
            else:
                answers[name].append(frame)
        return answers

    async def closed(self, sending: Awaitable[object] | None = None) -> tuple[int, str]:
        """The code and reason with which the gateway closes; nothing is said before. It may show while `sending`."""
        with pytest.raises(ConnectionClosed) as closed:
            await self._listen(sending)
        assert closed.value.rcvd is not None, "the connection was lost without a word"
        return closed.value.rcvd.code, closed.value.rcvd.reason

    async def _listen(self, sending: Awaitable[object] | None) -> None:
        if sending is not None:
            await sending
        await self.frame()

    def vanish(self) -> None:
        """What a crash does: no goodbye."""
        self.connection.transport.abort()


@asynccontextmanager
async def connect(
    url: str, headers: Mapping[str, str] | None = None, subprotocols: Sequence[str] | None = None, **more: Any
) -> AsyncIterator[Socket]:
    """`url`: the gateway's, with `http`. Raises `InvalidStatus` when it refuses."""
    more = {"max_size": None, "compression": None, "proxy": None, "close_timeout": 2, **more}
    target = url.replace("http", "ws", 1) + CHAT
    opening = open_connection(target, additional_headers=headers, subprotocols=subprotocols, **more)  # type: ignore[arg-type]
    async with opening as connection:
        yield Socket(connection)


async def refused(url: str, headers: Mapping[str, str], subprotocols: Sequence[str] | None) -> tuple[int, Frame]:
    """Status and error of a handshake that the gateway refuses."""
    with pytest.raises(InvalidStatus) as refusal:
        await connect(url, headers, subprotocols).__aenter__()
    response = refusal.value.response
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"].startswith("req_")
    told: Frame = decode(bytes(response.body or b""))["error"]
    return response.status_code, told


def text_of(frames: list[Frame]) -> str:
    """Of a stream's chunks."""
    return "".join(choice["delta"].get("content") or "" for frame in frames for choice in frame["data"]["choices"])


# --- what the journeys have in common: a provider that plays scripts by the request's own choice ---

WORDS = ["Hel", "lo", "!"]
FRAMES = samples.text_frames(WORDS)
WHOLE = samples.decode(samples.renamed(samples.COMPLETION, "chat"))
HANDSHAKE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def play(provider: ScriptedProvider, **scripts: Script) -> None:
    """Requests choose by their member `x_play`."""
    provider.reply_by(lambda heard: scripts[heard.json["x_play"]])


def asking(script: str, **more: Any) -> dict[str, Any]:
    return chat(x_play=script, **more)


def begun(go_on: asyncio.Event | None = None) -> Script:
    """A stream whose rest comes when it is told to; never, when nobody will tell."""

    async def rest(peer: Peer) -> None:
        await (go_on or asyncio.Event()).wait()
        await peer.send(replies.chunk(b"".join(FRAMES[2:])) + replies.LAST_CHUNK)

    return replies.stream(FRAMES[:2], then=rest)


async def record_of(gateway: Gateway, name: str) -> Record:
    """A request's record, found by the client's name for it; there is one."""
    [record] = await eventually(lambda: [one for one in gateway.records if one["client_request_id"] == name], f"the record of {name}")
    return record


def left(record: Record) -> bool:
    return (record["status"], record["http_status"], record["error_code"]) == ("cancelled", 499, "client_left")


def error_of(frames: list[Frame]) -> tuple[int | None, str]:
    """Status and code of an answer that is one error."""
    [frame] = frames
    assert {"request", "error"} <= frame.keys() <= {"request", "error", "status", "retry_after"}
    return frame.get("status"), frame["error"]["code"]
