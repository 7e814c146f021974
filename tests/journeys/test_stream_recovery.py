"""A stream that breaks off in front of a client: carried on by another model unseen, begun again, or ended with its reason; never as if
it were complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from openai import AsyncOpenAI

from tests.kit import chains, replies, samples
from tests.kit.chains import IDLE_S, PATIENT, Scripts, backup_of, chain, configuration, gateway_says, names, outcomes, recorded, text_of
from tests.kit.client import Reply, chat_request, connect
from tests.kit.faults import AFTER_CONTENT, BEGUN
from tests.kit.gateway import EdgeName, Gateway
from tests.kit.provider import Script

PREFILL = {"prefill": "plain"}
HOLD_BACK_S = 0.3
#: What the client has when the stream breaks off.
SENT = "Hel"
SECOND: dict[str, Any] = {"id": "chatcmpl-second", "created": 1, "system_fingerprint": "fp_second"}


def _chains() -> Iterator[dict[str, Any]]:
    for name in AFTER_CONTENT:
        # Only who says nothing more is not waited for: all others have as long as a busy machine takes.
        yield chain(_model(name), others=PREFILL, timeouts={**PATIENT, "idle_s": IDLE_S} if name == "stall" else PATIENT)
    for name in ("sdk", "all-down", "tool-call", "cut-again", "ended"):
        yield chain(name, others=PREFILL)
    yield chain("told", others=PREFILL, streaming={"recovery": "error"})
    for name in ("restarted", "too-late"):
        yield chain(name, others=PREFILL, streaming={"recovery": "restart", "hold_back_s": HOLD_BACK_S})


def _model(fault: str) -> str:
    return "broken-" + fault.replace(" ", "-")


@pytest.fixture(scope="module")
def running(edge: EdgeName, provider_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    config = configuration({"scripted": f"http://127.0.0.1:{provider_port}/v1"}, names(_chains()), timeouts=PATIENT)
    with chains.running(tmp_path_factory.mktemp("recovery"), edge, config) as gateway:
        yield gateway


def _second(*words: str) -> Script:
    """Another model's stream, with an id and all else of its own."""
    frames = [samples.sse(samples.delta({"role": "assistant", "content": ""}, **SECOND))]
    frames += [samples.sse(samples.delta({"content": word}, **SECOND)) for word in words]
    frames += [samples.sse(samples.delta({}, "stop", **SECOND)), samples.usage_frame(), samples.DONE]
    return replies.stream(frames)


async def _broken(gateway: Gateway, scripts: Scripts, model: str, fault: Script, begun: list[bytes] = BEGUN, **more: Any) -> Reply:
    """The reply of a stream that breaks off when the client has its beginning."""
    seen = asyncio.Event()
    scripts.play(replies.stream(begun, then=replies.after(seen, fault)), model)
    async with connect(gateway.url) as wire:
        await wire.send(chat_request(model, stream=True, **more))
        head = await wire.head()
        body = await wire.piece()
        seen.set()
        body += await wire.pieces()
    return Reply(head.status, head.headers, body, complete=True)


def _error_at_the_end(reply: Reply) -> dict[str, Any]:
    assert samples.DONE not in reply.frames
    error: dict[str, Any] = samples.read_frame(reply.frames[-1])["error"]
    assert set(error) == {"message", "type", "code", "retry_after", "fallback_model"}
    return error


# --- continue ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(AFTER_CONTENT))
async def test_a_broken_stream_is_carried_on(running: Gateway, scripts: Scripts, name: str) -> None:
    model, fault = _model(name), AFTER_CONTENT[name]
    scripts.play(_second("lo", " again"), backup_of(model))
    reply = await _broken(running, scripts, model, fault.script)
    assert (reply.status, *gateway_says(reply)) == (200, "success", None, "1")
    assert text_of(reply, stream=True) == SENT + "lo again"
    assert (len(scripts.heard(model)), len(scripts.heard(backup_of(model)))) == (1, 1)
    record = await recorded(running, reply)
    assert (record["status"], record["reason"], record["error_code"]) == ("fallback", "recovered", None)
    assert (record["http_status"], record["finish_reason"]) == (200, "stop")
    assert outcomes(record) == [fault.code, "success"]
    assert samples.decode(record["answer"])["content"] == SENT + "lo again"


async def test_the_sdk_sees_one_answer(running: Gateway, scripts: Scripts) -> None:
    words = ["The quick ", "brown fox "]
    seen = asyncio.Event()
    begun = samples.text_frames(words)[:3]
    scripts.play(replies.stream(begun, then=replies.after(seen, replies.cut)), "sdk")
    # It repeats the end of what it was given, in pieces of its own.
    scripts.play(_second("brown", " fox jum", "ps over ", "the dog."), backup_of("sdk"))
    chunks = []
    async with AsyncOpenAI(base_url=f"{running.url}/v1", api_key="sk-client", max_retries=0, timeout=15) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="sdk", messages=[{"role": "user", "content": "Go on."}], stream=True, stream_options={"include_usage": True}
        )
        async for chunk in raw.parse():
            chunks.append(chunk)
            if chunk.choices and chunk.choices[0].delta.content == words[-1]:
                seen.set()
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "The quick brown fox jumps over the dog."
    first = chunks[0]
    said = {(chunk.id, chunk.model, chunk.created, chunk.system_fingerprint) for chunk in chunks}
    assert said == {(first.id, "sdk", first.created, first.system_fingerprint)}
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert [chunk.choices[0].delta.role for chunk in chunks if chunk.choices].count("assistant") == 1

    record = await recorded(running, raw.headers["x-request-id"])
    broken, carried_on = record["attempts"]
    assert broken["usage"]["estimated"]
    assert (carried_on["usage"]["input"], carried_on["usage"]["output"]) == (19, 10)
    assert record["output_tokens"] == broken["usage"]["output"] + 10
    assert record["cost_usd"] == pytest.approx(broken["cost_usd"] + carried_on["cost_usd"])
    assert min(broken["cost_usd"], carried_on["cost_usd"]) > 0
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (record["input_tokens"], record["output_tokens"])


async def test_the_second_model_is_given_the_answer_so_far(running: Gateway, scripts: Scripts) -> None:
    scripts.play(_second("lo"), backup_of("ended"))
    await _broken(running, scripts, "ended", replies.cut, max_tokens=100)
    (asked,) = scripts.heard(backup_of("ended"))
    assert asked.json["messages"] == [
        {"role": "user", "content": "Who are you?"},
        {"role": "assistant", "content": SENT},
    ]
    assert asked.json["max_tokens"] == 99


async def test_one_that_breaks_off_again_and_again_ends_with_the_error(running: Gateway, scripts: Scripts) -> None:
    scripts.play(replies.stream(BEGUN, then=replies.later(0.1, replies.cut)), backup_of("cut-again"))
    reply = await _broken(running, scripts, "cut-again", replies.cut)
    error = _error_at_the_end(reply)
    assert (error["code"], error["fallback_model"]) == ("provider_connection_cut", backup_of("cut-again"))
    record = await recorded(running, reply)
    assert (record["status"], record["error_code"]) == ("error", "provider_connection_cut")
    assert outcomes(record) == ["provider_connection_cut"] * 3
    assert (len(scripts.heard("cut-again")), len(scripts.heard(backup_of("cut-again")))) == (1, 2)


async def test_no_other_that_answers_ends_with_the_first_error(running: Gateway, scripts: Scripts) -> None:
    scripts.play(replies.whole(b"{}", status=500), backup_of("all-down"))
    reply = await _broken(running, scripts, "all-down", replies.cut)
    assert _error_at_the_end(reply)["code"] == "provider_connection_cut"
    record = await recorded(running, reply)
    assert record["error_code"] == "provider_connection_cut"
    assert outcomes(record) == ["provider_connection_cut", "provider_error"]


async def test_half_a_tool_call_is_never_carried_on(running: Gateway, scripts: Scripts) -> None:
    scripts.play(_second("lo"), backup_of("tool-call"))
    reply = await _broken(running, scripts, "tool-call", replies.cut, samples.tool_call_frames()[:3])
    assert _error_at_the_end(reply)["code"] == "provider_connection_cut"
    assert scripts.heard(backup_of("tool-call")) == []


# --- error and restart ------------------------------------------------------------------------------------------------


async def test_where_recovery_is_off_the_client_is_told_whom_to_ask(running: Gateway, scripts: Scripts) -> None:
    scripts.play(_second("lo"), backup_of("told"))
    reply = await _broken(running, scripts, "told", AFTER_CONTENT["error event"].script)
    error = _error_at_the_end(reply)
    assert (error["code"], error["type"]) == ("provider_error", "provider_error")
    assert (error["retry_after"], error["fallback_model"]) == (None, backup_of("told"))
    assert scripts.heard(backup_of("told")) == []


async def test_what_breaks_off_while_it_is_held_back_begins_again_unseen(running: Gateway, scripts: Scripts) -> None:
    scripts.play(replies.stream(BEGUN, then=replies.cut), "restarted")
    scripts.play(_second("A new ", "answer"), backup_of("restarted"))
    async with connect(running.url) as wire:
        await wire.send(chat_request("restarted", stream=True))
        reply = await wire.reply()
    assert (reply.status, *gateway_says(reply)) == (200, "fallback", "provider_connection_cut", "2")
    assert text_of(reply, stream=True) == "A new answer"
    assert outcomes(await recorded(running, reply)) == ["provider_connection_cut", "success"]


async def test_what_was_released_is_not_begun_again(running: Gateway, scripts: Scripts) -> None:
    scripts.play(_second("A new answer"), backup_of("too-late"))
    reply = await _broken(running, scripts, "too-late", replies.cut)
    assert (reply.status, *gateway_says(reply)) == (200, "success", None, "1")
    assert _error_at_the_end(reply)["code"] == "provider_connection_cut"
    assert scripts.heard(backup_of("too-late")) == []
