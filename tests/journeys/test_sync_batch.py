"""`POST /v1/batch` over both edges: every request has its result, so many at a time, and none is left behind."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from tests.journeys.conftest import Launch, one_edge
from tests.kit import replies, samples
from tests.kit.batches import asked
from tests.kit.client import Reply, ask, connect, request
from tests.kit.eventually import eventually
from tests.kit.gateway import Gateway
from tests.kit.provider import Heard, Script, ScriptedProvider
from tests.kit.samples import DONE, read_frame

PATH = "/v1/batch"
HEARTBEAT = b": heartbeat\n\n"
ANSWER = replies.whole(samples.COMPLETION)


def each(custom_id: str, body: Any = None, **more: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "body": asked(custom_id) if body is None else body, **more}


def text_in(heard: Heard) -> str:
    return str(heard.json["messages"][0]["content"])


async def sent(gateway: Gateway, *requests: Any, headers: dict[str, str] | None = None, **more: Any) -> Reply:
    return await ask(gateway.url, PATH, {"requests": requests, **more}, headers=headers)


def holding(*texts: str) -> tuple[Callable[[Heard], Script], asyncio.Event]:
    """Answers at once, but these not before the event is set."""
    released = asyncio.Event()
    held = replies.after(released, ANSWER)
    return lambda heard: held if text_in(heard) in texts else ANSWER, released


async def test_results_stand_in_order_and_a_failure_stays_with_its_request(gateway: Gateway, provider: ScriptedProvider) -> None:
    provider.reply_by(lambda heard: replies.whole(samples.error_body("No.", "nope"), 400) if text_in(heard) == "refused" else ANSWER)
    reply = await sent(
        gateway,
        each("first"),
        each("refused"),
        each("unknown", asked("x", "no-such-model")),
        each("nowhere", url="/v1/images"),
        each("no request", {"model": "chat"}),
        each("stream", asked("x", stream=True)),
        each("message", asked("x", max_tokens=9), url="/v1/messages"),
        each("last"),
    )
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    results = reply.json["results"]
    assert [result["custom_id"] for result in results] == [
        "first", "refused", "unknown", "nowhere", "no request", "stream", "message", "last",
    ]  # fmt: skip
    assert [result["status_code"] for result in results] == [200, 400, 404, 400, 400, 400, 200, 200]
    for result in results:
        if result["status_code"] == 200:
            assert result["error"] is None
        else:
            assert result["body"] is None
            assert {"message", "type", "param", "code"} <= set(result["error"])
    assert results[0]["body"]["choices"][0]["message"]["role"] == "assistant"
    assert results[0]["body"]["model"] == "chat"
    assert results[3]["error"]["param"] == "url"
    assert results[6]["body"]["type"] == "message"
    summary = reply.json["summary"]
    assert (summary["total"], summary["completed"], summary["failed"]) == (8, 3, 5)
    costs = []
    for result in results:
        record = await eventually(lambda id=result["request_id"]: gateway.record(id), "its record")  # type: ignore[misc]
        assert record["pattern"] == "batching"
        assert record["http_status"] == result["status_code"]
        costs.append(record["cost_usd"] or 0)
    assert summary["cost_usd"] == pytest.approx(sum(costs))
    assert summary["cost_usd"] > 0


@one_edge
async def test_so_many_are_under_way_at_a_time(launch: Launch, provider: ScriptedProvider) -> None:
    texts = [f"text {number}" for number in range(7)]
    choose, released = holding(*texts)
    provider.reply_by(choose)
    gateway = launch({"GATEWAY_BATCH_SIZE": "3"})
    answer = asyncio.ensure_future(sent(gateway, *[each(text) for text in texts]))
    await eventually(lambda: len(provider.heard) == 3, "three calls")
    await asyncio.sleep(0.1)  # nothing else comes
    assert len(provider.heard) == 3
    released.set()
    assert [result["custom_id"] for result in (await answer).json["results"]] == texts
    assert len(provider.heard) == 7


@one_edge
async def test_each_result_is_sent_when_it_is_there(launch: Launch, provider: ScriptedProvider) -> None:
    choose, released = holding("slow")
    provider.reply_by(choose)
    gateway = launch(streaming={"heartbeat_s": 0.1})
    body = msgspec.json.encode({"requests": [each("slow"), each("quick"), each("bad", {})], "stream": True})
    async with connect(gateway.url) as wire:
        await wire.send(request("POST", PATH, body))
        head = await wire.head()
        assert head.status == 200
        assert head.headers["content-type"].startswith("text/event-stream")
        early = b""
        while len(_results(early)) < 2:
            early += await wire.piece()
        assert {read_frame(frame)["custom_id"] for frame in _results(early)} == {"quick", "bad"}
        assert await wire.piece() == HEARTBEAT
        released.set()
        rest = _results(await wire.pieces())
    slow, summary, done = rest
    assert read_frame(slow)["body"]["choices"][0]["finish_reason"] == "stop"
    assert read_frame(summary)["summary"]["completed"] == 2
    assert done == DONE


def _results(stream: bytes) -> list[bytes]:
    """Its frames, but for heartbeats, which come whenever a result is long in coming."""
    told = stream.replace(HEARTBEAT, b"")
    return samples.frames_of(told) if told else []


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_takes_all_calls_with_it(gateway: Gateway, provider: ScriptedProvider, stream: bool) -> None:
    provider.reply(replies.after(asyncio.Event(), ANSWER))
    user = uuid4().hex  # records of what was asked before may still be on their way
    body = msgspec.json.encode({"requests": [each(text, asked(text, user=user)) for text in ("one", "two")], "stream": stream})
    async with connect(gateway.url) as wire:
        await wire.send(request("POST", PATH, body))
        await eventually(lambda: len(provider.heard) == 2, "both calls")
    await asyncio.gather(*(heard.over.wait() for heard in provider.heard))
    assert all(heard.hung_up.is_set() for heard in provider.heard)

    def recorded() -> list[int]:
        return [record["http_status"] for record in gateway.records if record["user_id"] == user]

    await eventually(lambda: len(recorded()) == 2, "both records")
    assert recorded() == [499, 499]


async def test_each_has_its_own_time(gateway: Gateway, provider: ScriptedProvider) -> None:
    """Enough of it for the quick one on a busy machine."""
    choose, _ = holding("slow")
    provider.reply_by(choose)
    reply = await sent(gateway, each("slow"), each("quick"), headers={"x-gateway-timeout-s": "1.5"})
    assert [result["status_code"] for result in reply.json["results"]] == [504, 200]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"requests": []},
        {"requests": [{"custom_id": "a"}]},
        {"requests": [{"custom_id": "", "body": {}}]},
        {"requests": [each("a"), each("a")]},
        {"requests": [each(str(number), {}) for number in range(1001)]},
        [],
    ],
)
async def test_what_is_no_batch_is_refused_whole(gateway: Gateway, provider: ScriptedProvider, body: Any) -> None:
    reply = await ask(gateway.url, PATH, body)
    assert (reply.status, reply.error["type"]) == (400, "invalid_request_error")
    assert provider.heard == []


async def test_of_what_is_there_twice_its_place_is_told(gateway: Gateway) -> None:
    reply = await ask(gateway.url, PATH, {"requests": [each("a"), each("b"), each("a")]})
    assert reply.error["param"] == "requests[2].custom_id"
    assert reply.error["message"] == "requests[2].custom_id: 'a' was used before; each request needs one of its own."


@one_edge
async def test_a_gateway_that_stops_lets_it_end(launch: Launch, provider: ScriptedProvider) -> None:
    choose, released = holding("one")
    provider.reply_by(choose)
    gateway = launch()
    answer = asyncio.ensure_future(sent(gateway, each("one")))
    await eventually(lambda: provider.heard, "the call")
    stopping = asyncio.ensure_future(asyncio.to_thread(gateway.stop))
    await eventually(lambda: not _listens(gateway), "the end of listening")
    released.set()
    assert (await answer).json["summary"]["completed"] == 1
    assert await stopping == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_a_gateway_that_stops_says_so_to_whoever_takes_too_long(launch: Launch, provider: ScriptedProvider, stream: bool) -> None:
    choose, _ = holding("slow")
    provider.reply_by(choose)
    gateway = launch(server={"drain_timeout_s": 0.2})
    answer = asyncio.ensure_future(sent(gateway, each("quick"), each("slow"), stream=stream))
    await eventually(lambda: len(provider.heard) == 2, "both calls")
    assert await asyncio.to_thread(gateway.stop) == 0
    reply = await answer
    if stream:
        error = read_frame(reply.frames[-1])["error"]  # and no end as if it were complete
        assert reply.status == 200
    else:
        error = reply.error
        assert reply.status == 503
    assert error["code"] == "shutting_down"


def _listens(gateway: Gateway) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", gateway.port)) == 0
