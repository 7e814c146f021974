"""Streams that are taken up again: whoever comes back gets exactly what is missing; whoever does not, has had the answer all the same."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from openai import AsyncOpenAI

from tests.journeys.conftest import Launch, one_edge
from tests.kit import replies, samples
from tests.kit.client import CHAT, Head, Reply, Wire, ask, chat, connect, request
from tests.kit.eventually import PATIENCE_S, eventually
from tests.kit.gateway import Gateway
from tests.kit.provider import Peer, Script, ScriptedProvider

RESUMABLE = {"x-gateway-resumable": "true"}
FRAMES = samples.text_frames(["I ", "am ", "told ", "in ", "pieces."], usage=True)
#: What the client gets of them: usage was not asked for.
SHOWN = [samples.renamed(frame, "chat") for frame in FRAMES if b'"usage"' not in frame]
WHOLE = b"".join(frame[:-1] + b"id: %d\n\n" % number for number, frame in enumerate(SHOWN, 1))
ADMIN_KEY = "sk-admin-0123456789abcdef"
_ID = re.compile(rb"^id: ([0-9]+)\r?$", re.MULTILINE)

MESSAGES = [{"role": "user", "content": "What is a gateway for?"}]
CONTENTS = [{"role": "user", "parts": [{"text": "What is a gateway for?"}]}]
#: Dialect → where it is spoken, and a streamed request for a model.
DIALECTS: dict[str, Callable[[str], tuple[str, dict[str, Any]]]] = {
    "chat": lambda model: (CHAT, {"model": model, "messages": MESSAGES, "stream": True}),
    "responses": lambda model: ("/v1/responses", {"model": model, "input": "What is a gateway for?", "stream": True}),
    "anthropic": lambda model: ("/v1/messages", {"model": model, "messages": MESSAGES, "max_tokens": 500, "stream": True}),
    "gemini": lambda model: (f"/v1beta/models/{model}:streamGenerateContent?alt=sse", {"contents": CONTENTS}),
}


def paused(go_on: asyncio.Event, frames: int = 3) -> Script:
    """So many frames, and the rest when it is told to."""

    async def rest(peer: Peer) -> None:
        await go_on.wait()
        await peer.send(replies.chunk(b"".join(FRAMES[frames:])) + replies.LAST_CHUNK)

    return replies.stream(FRAMES[:frames], then=rest)


def ids(stream: bytes) -> list[int]:
    return [int(number) for number in _ID.findall(stream)]


def cut(stream: bytes, after: int) -> bytes:
    """Its events up to that number."""
    ends = [match.end() for match in re.finditer(rb"^id: %d\r?\n\r?\n" % after, stream, re.MULTILINE)]
    return stream[: ends[0]] if after else b""


@asynccontextmanager
async def begun(gateway: Gateway, target: str, body: dict[str, Any], **headers: str) -> AsyncIterator[tuple[Wire, Head]]:
    """A resumable stream, read as far as its head."""
    async with connect(gateway.url) as wire:
        await wire.send(request("POST", target, msgspec.json.encode(body), RESUMABLE | headers))
        yield wire, await wire.head()


async def leave_after(gateway: Gateway, target: str, body: dict[str, Any], number: int, **headers: str) -> tuple[Head, bytes]:
    """Begins a resumable stream, takes so many events and hangs up; what came."""
    async with begun(gateway, target, body, **headers) as (wire, head):
        seen = b""
        while not ids(seen) or ids(seen)[-1] < number:
            seen += await wire.piece()
        wire.hang_up()
    return head, cut(seen, number)


async def resume(gateway: Gateway, head: Head | str, after: int | None = None, query: str = "", **headers: str) -> Reply:
    request_id = head if isinstance(head, str) else head.headers["x-request-id"]
    if after is not None:
        headers["last-event-id"] = str(after)
    return await ask(gateway.url, f"/v1/streams/{request_id}{query}", headers=headers)


def told(frame: bytes) -> Any:
    """The error in an event."""
    data = next(line for line in frame.splitlines() if line.startswith(b"data: "))
    return msgspec.json.decode(data.removeprefix(b"data: "))["error"]


# --- what is missing, and nothing else ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("kind", ["openai", "anthropic", "gemini"])
async def test_interrupted_after_every_single_event(crossing: Gateway, dialect: str, kind: str) -> None:
    target, body = DIALECTS[dialect](kind)
    whole = await ask(crossing.url, target, body, headers=RESUMABLE)
    assert whole.status == 200
    assert whole.complete
    events = len(ids(whole.body))
    assert events > 5
    assert ids(whole.body) == list(range(1, events + 1))

    async def interrupted(number: int) -> None:
        head, first = await leave_after(crossing, target, body, number)
        rest = await resume(crossing, head, number)
        assert (rest.status, rest.complete) == (200, True)
        assert rest.headers["x-request-id"] == head.headers["x-request-id"]
        again = await resume(crossing, head)
        assert first + rest.body == again.body
        assert ids(again.body) == list(range(1, len(ids(again.body)) + 1))

    for number in range(1, events):
        await interrupted(number)


async def test_a_reader_comes_back_while_the_answer_is_made(gateway: Gateway, provider: ScriptedProvider) -> None:
    go_on = asyncio.Event()
    provider.reply(paused(go_on))
    head, first = await leave_after(gateway, CHAT, chat(stream=True), 2)
    rest = asyncio.create_task(resume(gateway, head, query="?starting_after=2"))
    await asyncio.sleep(0.1)
    assert not rest.done()
    assert not provider.last.hung_up.is_set()
    go_on.set()
    reply = await rest
    assert first + reply.body == WHOLE
    story = ("content-type", "cache-control", "x-request-id", "x-gateway-status", "x-gateway-model", "x-gateway-attempts")
    assert [reply.headers[name] for name in story] == [head.headers[name] for name in story]


async def test_the_frames_are_those_of_any_stream(gateway: Gateway, provider: ScriptedProvider, client: AsyncOpenAI) -> None:
    provider.reply(replies.stream(FRAMES))
    plain = await ask(gateway.url, CHAT, chat(stream=True))
    assert plain.body == b"".join(SHOWN)
    assert (await resume(gateway, plain.headers["x-request-id"])).status == 404
    assert (await ask(gateway.url, CHAT, chat(stream=True), headers=RESUMABLE)).body == WHOLE
    stream = await client.chat.completions.create(
        model="chat", messages=[{"role": "user", "content": "Who are you?"}], stream=True, extra_headers=RESUMABLE
    )
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "I am told in pieces."


async def test_the_wish_is_true_or_nothing(gateway: Gateway, provider: ScriptedProvider) -> None:
    wrong = await ask(gateway.url, CHAT, chat(stream=True), headers={"x-gateway-resumable": "1"})
    assert (wrong.status, wrong.error["param"]) == (400, "x-gateway-resumable")
    assert wrong.error["message"] == "x-gateway-resumable: '1' is not known; send true, or leave it out."
    for word, shown in (("True", WHOLE), ("false", b"".join(SHOWN))):
        provider.reply(replies.stream(FRAMES))
        assert (await ask(gateway.url, CHAT, chat(stream=True), headers={"x-gateway-resumable": word})).body == shown


async def test_many_readers_and_a_slow_one(gateway: Gateway, provider: ScriptedProvider) -> None:
    words = ["x" * 1_000] * 1_000
    go_on = asyncio.Event()
    frames = samples.text_frames(words)
    provider.reply(replies.stream(frames[:2], then=lambda peer: _rest(peer, go_on, frames[2:])))
    async with begun(gateway, CHAT, chat(stream=True)) as (_, head), connect(gateway.url, receive_buffer=4096) as slow:
        target = f"/v1/streams/{head.headers['x-request-id']}"
        await slow.send(request("GET", target))
        slow.stop_reading()
        readers = [asyncio.create_task(ask(gateway.url, target)) for _ in range(20)]
        go_on.set()
        bodies = [reply.body for reply in await asyncio.gather(*readers)]
        assert len(ids(bodies[0])) == len(frames)
        assert set(bodies) == {bodies[0]}
        slow.read_on()
        assert (await slow.reply()).body == bodies[0]


async def _rest(peer: Peer, go_on: asyncio.Event, frames: list[bytes]) -> None:
    await go_on.wait()
    for frame in frames:
        await peer.send(replies.chunk(frame))
    await peer.send(replies.LAST_CHUNK)


async def test_whoever_waits_hears_heartbeats_that_are_no_events(gateway: Gateway, provider: ScriptedProvider) -> None:
    go_on = asyncio.Event()
    provider.reply(paused(go_on))
    async with begun(gateway, CHAT, chat("heartbeat", stream=True)) as (wire, _):
        seen = b""
        while seen.count(b": heartbeat\n\n") < 2:
            seen += await wire.piece()
        go_on.set()
        while piece := await wire.piece():
            seen += piece
    assert seen.replace(b": heartbeat\n\n", b"") == WHOLE.replace(b'"chat"', b'"heartbeat"')


async def test_heartbeats_of_one_who_came_back(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch(streaming={"heartbeat_s": 0.05})
    go_on = asyncio.Event()
    provider.reply(paused(go_on))
    head, first = await leave_after(gateway, CHAT, chat(stream=True), 3)
    async with connect(gateway.url) as wire:
        await wire.send(request("GET", f"/v1/streams/{head.headers['x-request-id']}", headers={"last-event-id": "3"}))
        await wire.head()
        assert await wire.piece() == b": heartbeat\n\n"
        go_on.set()
        rest = b""
        while piece := await wire.piece():
            rest += piece
    # The first reader may have heard some, too, where its events were long in coming.
    assert (first + rest).replace(b": heartbeat\n\n", b"") == WHOLE


# --- the answer goes on -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [0, 3], ids=["before the first event", "in the middle"])
async def test_nobody_comes_back(gateway: Gateway, provider: ScriptedProvider, frames: int) -> None:
    go_on = asyncio.Event()
    provider.reply(paused(go_on, frames))
    name = uuid4().hex
    async with connect(gateway.url) as wire:
        await wire.send(request("POST", CHAT, msgspec.json.encode(chat(stream=True)), RESUMABLE | {"x-request-id": name}))
        await eventually(lambda: provider.heard, "the provider to be asked")
        if frames:
            await wire.head()
        wire.hang_up()
    await asyncio.sleep(0.05)
    assert not provider.last.hung_up.is_set()
    go_on.set()
    [record] = await eventually(lambda: [one for one in gateway.records if one["client_request_id"] == name], "its record")
    assert (record["status"], record["http_status"], record["output_tokens"]) == ("success", 200, 10)
    assert record["cost_usd"] > 0
    assert (await resume(gateway, record["id"])).body == WHOLE


async def test_an_error_in_mid_stream_is_an_event(gateway: Gateway, provider: ScriptedProvider) -> None:
    async def cut_off(peer: Peer) -> None:
        peer.cut()

    provider.reply(replies.stream(FRAMES[:3], then=cut_off))
    first = await ask(gateway.url, CHAT, chat(stream=True), headers=RESUMABLE)
    again = await resume(gateway, first.headers["x-request-id"], 2)
    assert first.body == cut(WHOLE, 2) + again.body
    last = samples.frames_of(again.body)[-1]
    assert told(last)["code"] == "provider_connection_cut"
    assert ids(last) == [len(ids(first.body))]
    record = await eventually(lambda: gateway.record(first.headers["x-request-id"]), "its record")
    assert (record["status"], record["http_status"]) == ("error", 200)


async def test_an_error_before_the_first_event(gateway: Gateway, provider: ScriptedProvider) -> None:
    provider.reply(replies.whole(samples.error_body("no", None), status=500))
    first = await ask(gateway.url, CHAT, chat(stream=True), headers=RESUMABLE)
    assert (first.status, first.error["code"]) == (502, "provider_error")
    again = await resume(gateway, first.headers["x-request-id"])
    assert again.status == 200
    assert ids(again.body) == [1]
    assert told(again.body)["code"] == "provider_error"


async def test_a_request_that_is_refused_is_refused_as_ever(gateway: Gateway, provider: ScriptedProvider) -> None:
    reply = await ask(gateway.url, CHAT, chat("nobody", stream=True), headers=RESUMABLE)
    assert (reply.status, reply.error["code"]) == (404, "model_not_found")


# --- doors ------------------------------------------------------------------------------------------------------------


async def test_only_its_owner_sees_it(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch(auth={"admin_key": ADMIN_KEY, "require_key": True})
    provider.reply(replies.stream(FRAMES))
    keys = []
    for name in ("a", "b"):
        made = await asyncio.to_thread(gateway.command, "keys", "create", name, "--json")
        keys.append(f"Bearer {msgspec.json.decode(made.stdout)['key']}")
    mine, other = keys
    head, first = await leave_after(gateway, CHAT, chat(stream=True, user="ann"), 2, authorization=mine)
    by_user: dict[str, str] = {"authorization": mine, "x-user-id": "ann"}
    assert first + (await resume(gateway, head, 2, **by_user)).body == WHOLE
    for stranger in (
        {"authorization": other, "x-user-id": "ann"},
        {"authorization": mine, "x-user-id": "bob"},
        {"authorization": mine},
        {"authorization": f"Bearer {ADMIN_KEY}"},
    ):
        reply = await resume(gateway, head, 2, **stranger)
        assert (reply.status, reply.error["code"]) == (404, "not_found")
    assert (await resume(gateway, head, 2, authorization="")).status == 401


@one_edge
async def test_what_has_expired_is_not_there(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch(streaming={"resume_ttl_s": 0.5})
    provider.reply(replies.stream(FRAMES))
    began = time.monotonic()
    first = await ask(gateway.url, CHAT, chat(stream=True), headers=RESUMABLE)
    async with asyncio.timeout(PATIENCE_S):
        while (reply := await resume(gateway, first.headers["x-request-id"])).status == 200:
            assert reply.body == WHOLE
            await asyncio.sleep(0.05)
    assert (reply.status, reply.error["code"]) == (404, "not_found")
    assert time.monotonic() - began >= 0.5, "it was there until its time was over"


async def test_numbers_that_are_none(gateway: Gateway, provider: ScriptedProvider) -> None:
    provider.reply(replies.stream(FRAMES))
    request_id = (await ask(gateway.url, CHAT, chat(stream=True), headers=RESUMABLE)).headers["x-request-id"]
    for wrong in ("x", "-1", "1.5", "٣", "9" * 30, str(len(SHOWN) + 1)):
        for reply in (
            await resume(gateway, request_id, None, "", **{"last-event-id": wrong.encode().decode("latin-1")}),
            await ask(gateway.url, f"/v1/streams/{request_id}?starting_after={wrong}".encode().decode("latin-1"))
            if wrong.isascii()
            else await ask(gateway.url, f"/v1/streams/{request_id}?starting_after="),
        ):
            assert (reply.status, reply.error["code"]) == (400, "bad_request"), wrong
    everything = await resume(gateway, request_id, len(SHOWN))
    assert (everything.status, everything.body, everything.complete) == (200, b"", True)
    for nothing in ("", "req_0", "x/y"):
        assert (await resume(gateway, nothing)).status == 404
    assert (await ask(gateway.url, f"/v1/streams/{request_id}", b"{}")).status == 405


async def test_what_is_not_to_be_stored_is_not_kept(gateway: Gateway, provider: ScriptedProvider) -> None:
    provider.reply(replies.stream(FRAMES))
    reply = await ask(gateway.url, CHAT, chat(stream=True, store=False), headers=RESUMABLE)
    assert (reply.status, reply.error["param"]) == (400, "store")
    assert (await ask(gateway.url, CHAT, chat(stream=True, store=False))).body == b"".join(SHOWN)
    assert (await ask(gateway.url, CHAT, chat(stream=True, store=True), headers=RESUMABLE)).body == WHOLE


@pytest.mark.parametrize(
    "sections",
    [
        {"monitoring": {"mode": "minimal"}},
        {"streaming": {"resume_ttl_s": 0}},
    ],
    ids=["minimal", "no time"],
)
async def test_where_nothing_is_kept_a_stream_is_a_stream(launch: Launch, provider: ScriptedProvider, sections: dict[str, Any]) -> None:
    gateway = launch(**sections)
    provider.reply(replies.stream(FRAMES))
    reply = await ask(gateway.url, CHAT, chat(stream=True), headers=RESUMABLE)
    assert reply.body == b"".join(SHOWN)
    assert (await resume(gateway, reply.headers["x-request-id"])).status == 404


@one_edge
async def test_a_model_may_say_otherwise(launch: Launch, provider: ScriptedProvider) -> None:
    deployment = {"provider": "scripted", "model": samples.PROVIDER_MODEL}
    models = {"fleeting": {"deployments": [deployment], "streaming": {"resume_ttl_s": 0}}}
    gateway = launch(models=models)
    provider.reply(replies.stream(FRAMES))
    assert ids((await ask(gateway.url, CHAT, chat("fleeting", stream=True), headers=RESUMABLE)).body) == []
    assert (await ask(gateway.url, CHAT, chat(stream=True), headers=RESUMABLE)).body == WHOLE


async def test_a_whole_answer_has_nothing_to_resume(gateway: Gateway, provider: ScriptedProvider) -> None:
    provider.reply(replies.whole(samples.COMPLETION))
    reply = await ask(gateway.url, CHAT, chat(), headers=RESUMABLE)
    assert reply.status == 200
    assert (await resume(gateway, reply.headers["x-request-id"])).status == 404


@one_edge
async def test_what_is_kept_is_told(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch()
    provider.reply(replies.stream(FRAMES))
    assert (await ask(gateway.url, CHAT, chat(stream=True), headers=RESUMABLE)).body == WHOLE
    metrics = (await ask(gateway.url, "/metrics")).body.decode()
    assert 'agent_gateway_resumable_streams{state="finished"} 1.0' in metrics
    assert 'agent_gateway_resumable_streams{state="running"} 0.0' in metrics
    assert "agent_gateway_resumable_bytes " in metrics


# --- the end of the gateway -------------------------------------------------------------------------------------------


async def test_an_answer_without_its_client_is_waited_for(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch()
    go_on = asyncio.Event()
    provider.reply(paused(go_on))
    head, _ = await leave_after(gateway, CHAT, chat(stream=True), 2)
    gateway.signal(signal.SIGTERM)
    await asyncio.sleep(0.5)
    assert gateway.process.poll() is None
    go_on.set()
    assert await asyncio.to_thread(gateway.wait) == 0
    [record] = gateway.records
    assert (record["id"], record["status"], record["output_tokens"]) == (head.headers["x-request-id"], "success", 10)


@one_edge
async def test_but_not_for_ever(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch(server={"drain_timeout_s": 0.5})
    provider.reply(paused(asyncio.Event()))
    await leave_after(gateway, CHAT, chat(stream=True), 2)
    gateway.signal(signal.SIGTERM)
    assert await asyncio.to_thread(gateway.wait) == 0
    [record] = gateway.records
    assert (record["status"], record["error_code"]) == ("error", "shutting_down")
