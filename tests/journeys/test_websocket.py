"""Many requests on one socket: side by side, cancelled, refused and failed, each under its name; and readers that are slow."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from agent_gateway.control.source import read_file
from tests.kit import replies, samples
from tests.kit.chains import running
from tests.kit.client import CHAT, ask, chat
from tests.kit.eventually import eventually
from tests.kit.gateway import EdgeName, Gateway
from tests.kit.provider import Heard, ScriptedProvider
from tests.kit.websocket import (
    FRAMES,
    WHOLE,
    WORDS,
    asking,
    begun,
    connect,
    error_of,
    left,
    play,
    record_of,
    text_of,
)

REQUESTS_MAX = 32
#: The promise is "at once"; this is what a busy machine may take. Every timeout that would end a call in its stead is longer.
AT_ONCE_S = 5.0


# --- requests -----------------------------------------------------------------------------------------------------------


async def test_a_stream_and_a_whole_answer(gateway: Gateway, provider: ScriptedProvider) -> None:
    play(provider, stream=replies.stream(FRAMES), whole=replies.whole(samples.COMPLETION))
    async with connect(gateway.url) as socket:
        stream = await socket.ask(asking("stream", stream=True, user="user-1"))
        chunks = await socket.answer(stream)
        whole = await socket.ask(asking("whole"))
        assert await socket.answer(whole) == [{"request": whole, "data": WHOLE}]
    expected = [samples.read_frame(samples.renamed(frame, "chat")) for frame in FRAMES[:-1]]
    assert chunks == [{"request": stream, "data": chunk} for chunk in expected]
    assert provider.heard[0].json["messages"] == chat()["messages"]
    record = await record_of(gateway, stream)
    assert (record["status"], record["http_status"], record["pattern"], record["user_id"]) == (
        "success",
        200,
        "streaming",
        "user-1",
    )
    assert samples.decode(record["answer"])["content"] == "".join(WORDS)
    assert (await record_of(gateway, whole))["pattern"] == "unary"


async def test_answers_come_side_by_side(gateway: Gateway, provider: ScriptedProvider) -> None:
    go_on = asyncio.Event()
    play(provider, slow=begun(go_on), whole=replies.whole(samples.COMPLETION), fast=replies.stream(FRAMES))
    async with connect(gateway.url) as socket:
        slow = await socket.ask(asking("slow", stream=True))
        first = [await socket.frame(), await socket.frame()]
        others = [await socket.ask(asking("whole")), await socket.ask(asking("fast", stream=True))]
        answers = await socket.answers(*others)
        assert answers[others[0]] == [{"request": others[0], "data": WHOLE}]
        assert text_of(answers[others[1]]) == "".join(WORDS)
        go_on.set()
        assert text_of(first + await socket.answer(slow)) == "".join(WORDS)


async def test_a_name_is_free_again_when_its_answer_is_out(gateway: Gateway, provider: ScriptedProvider) -> None:
    play(provider, whole=replies.whole(samples.COMPLETION))
    async with connect(gateway.url) as socket:
        for _ in range(3):
            await socket.ask(asking("whole"), "again")
            assert await socket.answer("again") == [{"request": "again", "data": WHOLE}]


async def test_a_cancelled_request_ends_and_its_neighbour_does_not(gateway: Gateway, provider: ScriptedProvider) -> None:
    go_on = asyncio.Event()
    play(provider, endless=begun(), unary=replies.hang, slow=begun(go_on))
    async with connect(gateway.url) as socket:
        neighbour = await socket.ask(asking("slow", stream=True))
        first = [await socket.frame(), await socket.frame()]
        for script, stream in (("endless", True), ("unary", False)):
            name = await socket.ask(asking(script, stream=stream))
            if stream:
                assert [(await socket.frame())["request"] for _ in range(2)] == [name] * 2
            heard = await _heard(provider, script)
            cancelled_at = time.monotonic()
            await socket.say({"cancel": name})
            assert await socket.answer(name) == []
            async with asyncio.timeout(10):
                await heard.hung_up.wait()
            assert (heard.hung_up_at or 0) - cancelled_at < AT_ONCE_S
            assert left(await record_of(gateway, name))
            await socket.say({"cancel": name})  # the two may cross
        go_on.set()
        assert text_of(first + await socket.answer(neighbour)) == "".join(WORDS)


async def test_a_cancel_may_come_with_its_request(gateway: Gateway, provider: ScriptedProvider) -> None:
    play(provider, hang=replies.hang)
    async with connect(gateway.url) as socket:
        names = [f"quick-{number}" for number in range(20)]
        for name in names:
            await socket.ask(asking("hang"), name)
            await socket.say({"cancel": name})
        assert await socket.answers(*names) == {name: [] for name in names}
    for name in names:
        assert left(await record_of(gateway, name))


@pytest.mark.parametrize("stream", [True, False])
async def test_a_failing_provider(gateway: Gateway, provider: ScriptedProvider, stream: bool) -> None:
    limited = {"retry-after": "7"}
    refusal = samples.error_body("no such tool", "unknown_tool", param="tools")
    play(
        provider,
        cut=replies.cut,
        limited=replies.whole(samples.error_body("slow down", "rate"), status=429, headers=limited),
        refused=replies.whole(refusal, status=400),
    )
    async with connect(gateway.url) as socket:
        cut = await socket.ask(asking("cut", stream=stream))
        [frame] = await socket.answer(cut)
        over_http = await ask(gateway.url, CHAT, asking("cut", stream=stream))
        assert frame == {"request": cut, "error": over_http.error, "status": over_http.status}
        name = await socket.ask(asking("refused", stream=stream))
        assert await socket.answer(name) == [{"request": name, "error": samples.decode(refusal)["error"], "status": 400}]
        name = await socket.ask(asking("limited", model="limited-too", stream=stream))
        [frame] = await socket.answer(name)
        assert (frame["status"], frame["error"]["code"]) == (429, "provider_rate_limited")
        assert 0 < frame["retry_after"] <= 7
    assert (await record_of(gateway, cut))["error_code"] == "provider_connection_cut"


async def test_a_stream_that_breaks_off_ends_with_its_error(gateway: Gateway, provider: ScriptedProvider) -> None:
    play(provider, broken=replies.stream(FRAMES[:2], then=replies.cut))
    async with connect(gateway.url) as socket:
        name = await socket.ask(asking("broken", stream=True))
        *chunks, last = await socket.answer(name)
    assert text_of(chunks) == WORDS[0]
    assert last.keys() == {"request", "error"}
    assert {"message", "type", "code", "retry_after", "fallback_model"} == last["error"].keys()
    assert last["error"]["code"] == "provider_connection_cut"
    assert (await record_of(gateway, name))["status"] == "error"


async def test_the_heads_of_the_handshake_hold_for_every_request(gateway: Gateway, provider: ScriptedProvider) -> None:
    play(provider, hang=replies.hang)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with connect(gateway.url, {"x-gateway-timeout-s": "0.8", "traceparent": trace}) as socket:
        for _ in range(2):
            assert error_of(await socket.answer(await socket.ask(asking("hang")))) == (504, "provider_timeout")
    assert [heard.headers["traceparent"] for heard in provider.heard] == [trace] * 2


# --- frames that are none -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "param"),
    [
        ({"body": chat()}, "request"),
        ({"request": 7, "body": chat()}, "request"),
        ({"request": "", "body": chat()}, "request"),
        ({"request": "a" * 129, "body": chat()}, "request"),
        ({"cancel": None}, "cancel"),
        ({"cancel": "a", "now": True}, "now"),
        ({}, "request"),
        ([], None),
    ],
    ids=str,
)
async def test_what_belongs_to_no_request_is_told_to_none(
    gateway: Gateway, provider: ScriptedProvider, frame: Any, param: str
) -> None:
    play(provider, whole=replies.whole(samples.COMPLETION))
    async with connect(gateway.url) as socket:
        await socket.say(frame)
        told = await socket.frame()
        assert (told["request"], told["status"], told["error"]["code"]) == (None, 400, "bad_request")
        assert told["error"]["param"] == param
        name = await socket.ask(asking("whole"))
        assert await socket.answer(name) == [{"request": name, "data": WHOLE}]


@pytest.mark.parametrize(
    ("more", "param"),
    [({}, "body"), ({"body": chat(), "strem": True}, "strem"), ({"body": []}, None), ({"body": {"messages": []}}, "model")],
    ids=str,
)
async def test_a_request_that_cannot_be_read_is_refused_under_its_name(
    gateway: Gateway, provider: ScriptedProvider, more: dict[str, Any], param: str
) -> None:
    async with connect(gateway.url) as socket:
        name = await socket.ask(None)
        assert error_of(await socket.answer(name)) == (400, "bad_request")
        named = f"{name}-again"
        await socket.say({"request": named, **more})
        [frame] = await socket.answer(named)
        assert (frame["status"], frame["error"]["param"]) == (400, param)
    assert provider.heard == []
    assert (await record_of(gateway, named))["http_status"] == 400


async def test_a_name_that_is_taken_leaves_its_owner_alone(gateway: Gateway, provider: ScriptedProvider) -> None:
    go_on = asyncio.Event()
    play(provider, slow=begun(go_on))
    async with connect(gateway.url) as socket:
        name = await socket.ask(asking("slow", stream=True))
        first = [await socket.frame(), await socket.frame()]
        await socket.ask(asking("slow"), name)
        told = await socket.frame()
        assert (told["request"], told["status"], told["error"]["code"], told["error"]["param"]) == (
            None,
            409,
            "conflict",
            "request",
        )
        assert name in told["error"]["message"]
        go_on.set()
        assert text_of(first + await socket.answer(name)) == "".join(WORDS)
    assert len(provider.heard) == 1


async def test_more_at_once_than_a_socket_takes(gateway: Gateway, provider: ScriptedProvider) -> None:
    go_on = asyncio.Event()
    play(provider, later=replies.after(go_on, replies.whole(samples.COMPLETION)))
    async with connect(gateway.url) as socket:
        names = [await socket.ask(asking("later")) for _ in range(REQUESTS_MAX)]
        over = await socket.ask(asking("later"))
        assert error_of(await socket.answer(over)) == (429, "rate_limit_exceeded")
        go_on.set()
        assert await socket.answers(*names) == {name: [{"request": name, "data": WHOLE}] for name in names}
        name = await socket.ask(asking("later"))
        assert await socket.answer(name) == [{"request": name, "data": WHOLE}]
    assert (await record_of(gateway, over))["http_status"] == 429


# --- backpressure -------------------------------------------------------------------------------------------------------

PIECE_BYTES = 16 * 1024
PIECES = 2048
#: More than all of the kernel's socket buffers on the way hold, far less than what is sent.
HELD_BACK_BYTES = PIECE_BYTES * PIECES // 2
GATEWAY_GROWTH_MB = 24


async def test_a_slow_reader_holds_its_providers_back(gateway: Gateway, provider: ScriptedProvider) -> None:
    """Neither is piled up what the client does not take, nor is any of it lost."""
    first, *_, finish, done = samples.text_frames(["x"])
    filler = samples.sse(samples.delta({"content": "x" * PIECE_BYTES}))
    play(provider, much=replies.stream([first, *[filler] * PIECES, finish, done]))
    before = gateway.memory_mb
    async with connect(gateway.url, max_queue=1, ping_interval=None) as socket:
        names = [await socket.ask(asking("much", stream=True)) for _ in range(2)]
        await eventually(lambda: len(provider.heard) == 2, "the provider is asked")
        sent = await _stalled(provider.heard)
        assert PIECE_BYTES < sent < HELD_BACK_BYTES * 2
        assert gateway.memory_mb - before < GATEWAY_GROWTH_MB
        answers = await socket.answers(*names)
    for name in names:
        assert len(text_of(answers[name])) == PIECE_BYTES * PIECES
        assert (await record_of(gateway, name))["status"] == "success"


async def _stalled(calls: list[Heard]) -> int:
    """What the provider had sent to all of them when it could send no more."""
    seen, since = 0, time.monotonic()

    def still() -> bool:
        nonlocal seen, since
        sent = sum(heard.sent for heard in calls)
        if sent != seen:
            seen, since = sent, time.monotonic()
        return sent > 0 and time.monotonic() - since > 0.5

    await eventually(still, "the provider is held back")
    return seen


async def _heard(provider: ScriptedProvider, script: str) -> Heard:
    """The first call of it."""
    calls = await eventually(
        lambda: [heard for heard in provider.heard if heard.json["x_play"] == script], "the provider is asked"
    )
    return calls[0]


# --- the document -------------------------------------------------------------------------------------------------------


def test_the_example_for_browsers_runs(edge: EdgeName, tmp_path: Path) -> None:
    """In Node, whose WebSocket is the browsers' (newer ones need no flag for it)."""
    node = shutil.which("node")
    if node is None or subprocess.run([node, "--experimental-websocket", "-e", "WebSocket"], check=False).returncode:
        pytest.skip("needs Node with a WebSocket (20.10 or later)")
    root = Path(__file__).parent.parent.parent
    example = re.search(r"```javascript\n(.*?)```", (root / "docs" / "websocket.md").read_text(), re.DOTALL)
    assert example is not None
    with running(tmp_path, edge, read_file(root / "examples" / "simulated.yaml")) as simulated:
        script = tmp_path / "example.mjs"
        script.write_text(example[1].replace("ws://127.0.0.1:8080", simulated.url.replace("http", "ws", 1)))
        done = subprocess.run(
            [node, "--experimental-websocket", str(script)], capture_output=True, text=True, timeout=30, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert re.fullmatch(r"\{\s*poem: .{20,}joke: .{20,}\}\s*", done.stdout, re.DOTALL)
