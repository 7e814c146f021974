"""A WebSocket where bounds are short, peers are silent, and the server knows nothing but ASGI."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from collections.abc import MutableMapping
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from websockets.server import ServerProtocol

from agent_gateway.admission.refusals import Refusals
from agent_gateway.app import Gateway
from agent_gateway.core.exchange import Exchange
from agent_gateway.edge.limits import Limits
from agent_gateway.edge.websocket import serve
from agent_gateway.edge.websocket_lane import SLICE_BYTES
from agent_gateway.edge.websocket_session import REASONS
from tests.edge.conftest import ADMIN_KEY, served
from tests.kit.client import CHAT, Wire, chat, connect, request
from tests.kit.eventually import eventually
from tests.kit.websocket import HANDSHAKE
from tests.kit.websocket import connect as open_socket

STALL_S = 0.2
KEY = {"authorization": f"Bearer {ADMIN_KEY}"}
HELLO = {**HANDSHAKE, **KEY}
TEXT, PING = 0x81, 0x89
STREAM = {"request": "stream", "body": chat(stream=True)}
#: On each side of a connection, and an answer far longer (tokens).
BUFFER_BYTES = 8 * 1024
LONG = {"output_tokens": 4000, "output_spread": 0}


def masked(first_byte: int, payload: bytes) -> bytes:
    """A client's frame; a mask of zeros leaves the payload as it is."""
    return struct.pack("!BBQ", first_byte, 0x80 | 127, len(payload)) + bytes(4) + payload


def impatient(gateway: Gateway, stall_s: float = STALL_S) -> Limits:
    return replace(gateway.limits, write_stall_s=stall_s, linger_s=stall_s)


async def _opened(wire: Wire) -> None:
    await wire.send(request("GET", CHAT, headers=HELLO))
    assert (await wire.head()).status == 101


async def _close_code(wire: Wire) -> int:
    """Of the close frame with which everything that still comes ends."""
    rest = await wire.rest()
    [code] = struct.unpack("!H", rest[rest.rindex(b"\x88") + 2 :][:2])
    return int(code)


async def test_a_flood_of_the_smallest_frames_leaves_others_their_turns(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, read, turn, taken = asyncio.get_running_loop(), ServerProtocol.receive_data, 0, Counter[int]()

    def next_turn() -> None:
        nonlocal turn
        turn += 1
        if not ended.is_set():
            loop.call_soon(next_turn)

    def noted(protocol: ServerProtocol, data: bytes) -> None:
        taken[turn] += len(data)
        read(protocol, data)

    monkeypatch.setattr(ServerProtocol, "receive_data", noted)
    ended = asyncio.Event()
    flood = masked(TEXT & 0x7F, b"{") + bytes([0, 0x80, 0, 0, 0, 0]) * 50_000 + masked(0x80, b"}")
    async with served(gateway, gateway.limits, fast=True) as url, connect(url) as wire:
        await _opened(wire)
        taken.clear()
        next_turn()
        await wire.send(flood)
        await eventually(lambda: taken.total() == len(flood), "all of it to be read")
        ended.set()
        wire.hang_up()
    assert max(taken.values()) <= 2 * SLICE_BYTES  # a short piece may come right behind the last slice


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("gateway", [LONG], indirect=True)
async def test_a_client_that_takes_nothing_is_given_up(gateway: Gateway, told: list[Exchange], fast: bool) -> None:
    async with (
        served(gateway, impatient(gateway), fast=fast, send_buffer=BUFFER_BYTES) as url,
        connect(url, receive_buffer=BUFFER_BYTES) as wire,
    ):
        await _opened(wire)
        wire.stop_reading()
        await wire.send(masked(TEXT, msgspec.json.encode(STREAM)))
        await eventually(lambda: told, "its record")
    assert [(exchange.status, exchange.http_status, exchange.edge) for exchange in told] == [("cancelled", 499, "websocket")]


@pytest.mark.parametrize("gateway", [LONG], indirect=True)
async def test_a_client_that_takes_a_little_now_and_then_is_not(gateway: Gateway, told: list[Exchange]) -> None:
    stall_s = 3 * STALL_S  # a busy machine may stand still for a part of it
    async with (
        served(gateway, impatient(gateway, stall_s), fast=True, send_buffer=BUFFER_BYTES) as url,
        connect(url, receive_buffer=BUFFER_BYTES) as wire,
    ):
        await _opened(wire)
        await wire.send(masked(TEXT, msgspec.json.encode(STREAM)))
        began = asyncio.get_running_loop().time()
        while not told:
            await wire.exactly(BUFFER_BYTES)
            await asyncio.sleep(STALL_S / 10)
        assert asyncio.get_running_loop().time() - began > stall_s * 2
    assert told[0].status == "success"


async def test_a_peer_that_answers_no_ping_is_given_up(gateway: Gateway, told: list[Exchange]) -> None:
    settings = gateway.live.runtime.settings
    often = msgspec.structs.replace(settings.streaming, heartbeat_s=STALL_S)
    gateway.live.runtime = replace(gateway.live.runtime, settings=msgspec.structs.replace(settings, streaming=often))
    async with served(gateway, impatient(gateway), fast=True) as url, connect(url) as wire:
        await _opened(wire)
        assert await _close_code(wire) == 1011


async def test_a_close_that_is_never_answered(gateway: Gateway) -> None:
    async with served(gateway, impatient(gateway), fast=True) as url, connect(url) as wire:
        await _opened(wire)
        await wire.send(masked(TEXT, b"this is no JSON"))
        assert await _close_code(wire) == 1007


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (masked(0x83, b""), 1002),
        (b"\x81\x05hello", 1002),
        (masked(0x80, b"continued"), 1002),
        (struct.pack("!BBQ", TEXT, 0x80 | 127, 1 << 40), 1009),
    ],
    ids=["an unknown opcode", "not masked", "a continuation of nothing", "a length over the limit"],
)
async def test_what_is_against_the_protocol(gateway: Gateway, frame: bytes, code: int) -> None:
    async with served(gateway, impatient(gateway), fast=True) as url, connect(url) as wire:
        await _opened(wire)
        await wire.send(frame)
        assert await _close_code(wire) == code


@pytest.mark.parametrize("frame", [masked(0x83, b""), masked(PING, b"hi"), masked(0x88, b""), masked(TEXT, b'{"cancel": "a"}')])
async def test_who_cannot_wait_for_the_handshake(gateway: Gateway, frame: bytes) -> None:
    """Nothing may be sent before its answer. What comes in one read with it is dropped, what comes behind it does no harm."""
    async with served(gateway, impatient(gateway), fast=True) as url, connect(url) as wire:
        await wire.send(request("GET", CHAT, headers=HELLO) + frame)
        await wire.send(frame)
        await wire.head()
    async with served(gateway, gateway.limits, fast=True) as url, open_socket(url, KEY) as socket:
        name = await socket.ask(chat())
        assert "data" in (await socket.frame()), name


async def test_the_smallest_pieces_take_no_more_than_the_message(gateway: Gateway, told: list[Exchange]) -> None:
    async with served(gateway, gateway.limits, fast=True) as url, connect(url) as wire:
        await _opened(wire)
        message = msgspec.json.encode({"request": "a", "body": chat()})
        first, *middle, last = [bytes([byte]) for byte in message]
        empty = b"\x00\x80" + bytes(4)
        await wire.send(b"\x01\x81" + bytes(4) + first)
        for piece in middle:
            await wire.send(empty + b"\x00\x81" + bytes(4) + piece)
        await wire.send(b"\x80\x81" + bytes(4) + last)
        await eventually(lambda: told, "its record")
    assert told[0].call.body == msgspec.json.encode(chat())


# --- a server that knows nothing but ASGI ---------------------------------------------------------------------------------


class _Server:
    """What such a server would hand to the app."""

    def __init__(self, *messages: Any) -> None:
        self._coming: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self._coming.put_nowait({"type": "websocket.connect"})
        for message in messages:
            self.say(message)
        self.sent: list[MutableMapping[str, Any]] = []
        #: Cleared: the client reads nothing.
        self.reads = asyncio.Event()
        self.reads.set()

    def say(self, message: Any) -> None:
        text = message if isinstance(message, str) else msgspec.json.encode(message).decode()
        self._coming.put_nowait({"type": "websocket.receive", "text": text, "bytes": None})

    def leave(self) -> None:
        self._coming.put_nowait({"type": "websocket.disconnect", "code": 1006})

    async def receive(self) -> MutableMapping[str, Any]:
        return await self._coming.get()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "websocket.send":
            await self.reads.wait()
        self.sent.append(message)

    @property
    def frames(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(message["text"]) for message in self.sent if message["type"] == "websocket.send"]


def _scope(path: str = CHAT, **more: Any) -> dict[str, Any]:
    headers = [(name.encode(), value.encode()) for name, value in {"host": "localhost", **KEY}.items()]
    return {
        "type": "websocket",
        "path": f"/gateway{path}",
        "root_path": "/gateway",
        "headers": headers,
        "subprotocols": [],
        **more,
    }


async def _serve(gateway: Gateway, server: _Server, limits: Limits | None = None, **scope: Any) -> None:
    async def started() -> None:
        pass

    async with asyncio.timeout(10):
        await serve(_scope(**scope), server.receive, server.send, gateway.live, limits or gateway.limits, Refusals(), started)


async def test_it_is_served_below_a_prefix(gateway: Gateway, told: list[Exchange]) -> None:
    server = _Server({"request": "a", "body": chat()})
    serving = asyncio.ensure_future(gateway.app(_scope(), server.receive, server.send))
    await eventually(lambda: {"request": "a", "done": True} in server.frames, "its answer")
    server.leave()
    await serving
    assert server.sent[0] == {"type": "websocket.accept", "subprotocol": None}
    assert [frame.keys() - {"request"} for frame in server.frames] == [{"data"}, {"done"}]
    assert told[0].status == "success"


@pytest.mark.parametrize(
    "scope", [{"path": "/v1/models"}, {"headers": [(b"host", b"localhost")]}, {"headers": [(b"host", b"evil.example")]}]
)
async def test_whom_it_cannot_answer_in_http_it_closes_on(gateway: Gateway, scope: dict[str, Any]) -> None:
    server = _Server()
    await _serve(gateway, server, **scope)
    assert server.sent == [{"type": "websocket.close", "code": 1008}]


async def test_a_message_over_the_limit_closes_there_too(gateway: Gateway) -> None:
    server = _Server("a" * 1001)
    await _serve(gateway, server, replace(gateway.limits, body_max_bytes=1000))
    assert server.sent[-1] == {"type": "websocket.close", "code": 1009, "reason": REASONS[1009]}


@pytest.mark.parametrize("frame", [STREAM, {"request": "bad"}, {}], ids=["an answer", "a refusal", "one of nobody's"])
async def test_a_client_that_takes_nothing_ends_the_app(gateway: Gateway, told: list[Exchange], frame: Any) -> None:
    server = _Server(frame)
    server.reads.clear()
    await _serve(gateway, server, impatient(gateway))
    assert server.frames == []
    assert len(told) == 1


async def test_a_fault_of_ours_is_a_close_and_a_line_in_the_log(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    server = _Server()
    server._coming.put_nowait({"type": "websocket.receive"})
    await _serve(gateway, server)
    assert server.sent[-1] == {"type": "websocket.close", "code": 1011, "reason": REASONS[1011]}
    assert "a WebSocket failed by a fault of the gateway" in caplog.text


async def test_what_never_began_is_recorded_too(gateway: Gateway, told: list[Exchange]) -> None:
    """The server stops in the very turn of the loop in which a request came."""
    server = _Server()
    serving = asyncio.ensure_future(_serve(gateway, server))
    await eventually(lambda: server.sent, "the accept")
    asyncio.get_running_loop().call_soon(serving.cancel)
    server.say({"request": "a", "body": chat()})
    await serving
    assert [exchange.http_status for exchange in told] == [503]
    assert server.sent[-1] == {"type": "websocket.close", "code": 1001, "reason": REASONS[1001]}
