"""Every way a socket ends, with all that ran on it: by the client, by what it sent, and by the gateway's own end."""

from __future__ import annotations

import asyncio
import signal
import time

import msgspec
import pytest

from tests.journeys.conftest import Launch, one_edge
from tests.kit import replies, samples
from tests.kit.client import CHAT
from tests.kit.client import connect as wire_to
from tests.kit.client import request as http_request
from tests.kit.configuration import BODY_MAX_MB, HEARTBEAT_S
from tests.kit.eventually import eventually
from tests.kit.gateway import Gateway
from tests.kit.provider import ScriptedProvider
from tests.kit.websocket import (
    HANDSHAKE,
    WHOLE,
    WORDS,
    asking,
    begun,
    connect,
    left,
    play,
    record_of,
    text_of,
)

#: The promise is "at once"; this is what a busy machine may take. Every timeout that would end a call in its stead is longer.
AT_ONCE_S = 5.0


@pytest.mark.parametrize(
    "message",
    [b"{", b"hello", b"", b'{"request": "a", "body": {"x": "\xff"}}', b'{"body":' + b"[" * 100_000],
    ids=lambda message: repr(message[:12]),
)
async def test_what_cannot_be_read_ends_the_socket_and_what_ran_on_it(
    gateway: Gateway, provider: ScriptedProvider, message: bytes
) -> None:
    play(provider, endless=begun())
    async with connect(gateway.url) as socket:
        name = await socket.ask(asking("endless", stream=True))
        assert [(await socket.frame())["request"] for _ in range(2)] == [name] * 2
        await socket.say(message)
        assert await socket.closed() == (1007, "A message is not JSON in UTF-8.")
    assert left(await record_of(gateway, name))
    async with asyncio.timeout(10):
        await provider.last.hung_up.wait()


async def test_a_message_over_the_limit(gateway: Gateway, provider: ScriptedProvider) -> None:
    play(provider, endless=begun(), whole=replies.whole(samples.COMPLETION))
    limit = BODY_MAX_MB * 1024 * 1024
    async with connect(gateway.url) as socket:
        name = await socket.ask(asking("whole", user="a" * (limit - 1000)))
        assert await socket.answer(name) == [{"request": name, "data": WHOLE}]
        running = await socket.ask(asking("endless", stream=True))
        assert [(await socket.frame())["request"] for _ in range(2)] == [running] * 2
        assert (await socket.closed(socket.ask(asking("whole", user="a" * limit * 8))))[0] == 1009
    assert left(await record_of(gateway, running))


async def test_a_message_in_many_pieces(gateway: Gateway, provider: ScriptedProvider) -> None:
    play(provider, whole=replies.whole(samples.COMPLETION))
    async with connect(gateway.url) as socket:
        text = msgspec.json.encode({"request": "pieces", "body": asking("whole")}).decode()
        await socket.connection.send(text[start : start + 7] for start in range(0, len(text), 7))
        assert await socket.answer("pieces") == [{"request": "pieces", "data": WHOLE}]
        too_many = socket.connection.send("a" * 1000 for _ in range(BODY_MAX_MB * 1100))
        assert (await socket.closed(too_many))[0] == 1009


@pytest.mark.parametrize("goodbye", [True, False])
async def test_a_client_that_leaves_cancels_all_that_it_asked(
    gateway: Gateway, provider: ScriptedProvider, goodbye: bool
) -> None:
    play(provider, endless=begun(), unary=replies.hang)
    async with connect(gateway.url) as socket:
        names = [await socket.ask(asking(script, stream=script == "endless")) for script in ["endless", "unary"] * 3]
        await eventually(lambda: len(provider.heard) == len(names), "the provider is asked")
        for _ in range(6):
            await socket.frame()
        left_at = time.monotonic()
        if goodbye:
            await socket.connection.close()
            assert socket.connection.close_code == 1000
        else:
            socket.vanish()
    for heard in provider.heard:
        async with asyncio.timeout(10):
            await heard.hung_up.wait()
        assert (heard.hung_up_at or 0) - left_at < AT_ONCE_S
    for name in names:
        assert left(await record_of(gateway, name))


async def test_who_leaves_with_the_question_is_recorded_too(gateway: Gateway, provider: ScriptedProvider) -> None:
    play(provider, hang=replies.hang)
    names = []
    for _ in range(20):
        async with connect(gateway.url) as socket:
            names.append(await socket.ask(asking("hang")))
            socket.vanish()
    for name in names:
        assert left(await record_of(gateway, name))


@one_edge
async def test_a_drain_lets_answers_end(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch()
    go_on = asyncio.Event()
    play(provider, slow=begun(go_on))
    async with connect(gateway.url) as socket, connect(gateway.url) as idle:
        name = await socket.ask(asking("slow", stream=True))
        first = [await socket.frame(), await socket.frame()]
        gateway.signal(signal.SIGTERM)
        assert await idle.closed() == (1001, "The gateway stops.")
        late = await socket.ask(asking("slow", stream=True))
        [frame] = await socket.answer(late)
        assert (frame["status"], frame["error"]["code"], frame["retry_after"]) == (503, "shutting_down", 1)
        go_on.set()
        assert text_of(first + await socket.answer(name)) == "".join(WORDS)
        assert await socket.closed() == (1001, "The gateway stops.")
    assert await asyncio.to_thread(gateway.wait) == 0
    assert {record["client_request_id"]: record["status"] for record in gateway.records} == {name: "success", late: "error"}


@one_edge
async def test_what_outlasts_the_drain_is_told_so_and_recorded(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch(server={"drain_timeout_s": 0.5})
    play(provider, endless=begun(), unary=replies.hang)
    async with connect(gateway.url) as socket:
        stream = await socket.ask(asking("endless", stream=True))
        first = [await socket.frame(), await socket.frame()]
        unary = await socket.ask(asking("unary"))
        await eventually(lambda: len(provider.heard) == 2, "the provider is asked")
        gateway.signal(signal.SIGTERM)
        answers = await socket.answers(stream, unary)
        assert text_of(first) == WORDS[0]
        assert [frame["error"]["code"] for frames in answers.values() for frame in frames] == ["shutting_down"] * 2
        assert await socket.closed() == (1001, "The gateway stops.")
    assert await asyncio.to_thread(gateway.wait) == 0
    assert [(record["status"], record["error_code"]) for record in gateway.records] == [("error", "shutting_down")] * 2


@one_edge
async def test_pings_both_ways(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch(streaming={"heartbeat_s": HEARTBEAT_S})
    play(provider, hang=replies.hang)
    async with wire_to(gateway.url) as wire, connect(gateway.url, ping_interval=None) as socket:
        await wire.send(http_request("GET", CHAT, headers=HANDSHAKE))
        assert (await wire.head()).status == 101
        assert await wire.exactly(2) == b"\x89\x04", "a ping of 4 bytes"
        async with asyncio.timeout(10):
            await (await socket.connection.ping(b"are you there"))
