"""The playground's calls: answered as anybody's, summed up at their end, in the audit log, and over when their reader leaves."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent_gateway.wire.sse import frame_data
from tests.journeys.conftest import Launch
from tests.journeys.test_admin import ADMIN_KEY, administer, made, shown
from tests.journeys.test_dashboard_doors import asked, logged_in
from tests.kit import replies, samples
from tests.kit.chains import recorded
from tests.kit.client import Reply, ask, chat, connect, request
from tests.kit.eventually import eventually
from tests.kit.gateway import Gateway
from tests.kit.provider import Peer, Script, ScriptedProvider

PLAYGROUND = "/admin/v1/playground"
DEPLOYMENT = f"scripted/{samples.PROVIDER_MODEL}"
SAID = "what only the model is told"


def events_of(reply: Reply) -> list[tuple[str, Any]]:
    """Each by its name, with its JSON; the protocol's end mark is None."""
    assert (reply.status, reply.headers["content-type"], reply.complete) == (200, "text/event-stream", True)
    events = []
    for frame in reply.frames:
        name = frame.split(b"\n", 1)[0].removeprefix(b"event: ").decode() if frame.startswith(b"event: ") else "message"
        data = frame_data(frame)
        assert data is not None
        events.append((name, None if data == b"[DONE]" else msgspec.json.decode(data)))
    return events


def text_of(events: list[tuple[str, Any]]) -> str:
    chunks = [data for name, data in events if name == "message" and data is not None]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


async def audited(gateway: Gateway) -> list[dict[str, Any]]:
    """Newest first."""
    entries = (await ask(gateway.url, "/admin/v1/audit?limit=100")).json["data"]
    return [entry for entry in entries if entry["action"] == "playground.ask"]


async def test_an_answer_is_told_as_it_comes_and_at_its_end_what_it_took(gateway: Gateway, provider: ScriptedProvider) -> None:
    provider.reply(replies.stream(samples.text_frames(["Hello", " there"], usage=True)))
    body = {**chat(temperature=0.5, max_tokens=9), "messages": [{"role": "user", "content": SAID}], "stream": False}
    reply = await ask(gateway.url, PLAYGROUND, body)
    *told, (last, summary) = events_of(reply)
    assert {name for name, _ in told} == {"message"}
    assert (text_of(told), told[-1], last) == ("Hello there", ("message", None), "summary")
    assert {name: provider.last.json[name] for name in ("stream", "temperature", "max_tokens")} == {
        "stream": True,
        "temperature": 0.5,
        "max_tokens": 9,
    }
    record = await recorded(gateway, reply)
    assert (record["key_id"], record["model"], record["pattern"], record["http_status"]) == ("playground", "chat", "streaming", 200)
    assert summary["request_id"] == reply.headers["x-request-id"] == record["id"]
    assert (summary["deployment"], summary["status"], summary["reason"]) == (DEPLOYMENT, "success", None)
    assert (summary["usage"]["input"], summary["usage"]["output"]) == (record["input_tokens"], record["output_tokens"])
    assert summary["cost_usd"] == record["cost_usd"] > 0
    assert summary["duration_s"] * 1000 == pytest.approx(record["duration_ms"], abs=0.01)
    assert summary["ttft_s"] * 1000 == pytest.approx(record["ttft_ms"], abs=0.01)
    assert summary["attempts"] == record["attempts"]
    entry = (await audited(gateway))[0]
    assert (entry["target"], entry["request_id"], entry["outcome"]) == ("chat", summary["request_id"], "allowed")
    assert SAID not in str(entry)


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "model"),
        (b'{"model":', 400, None),
        (chat("none"), 404, "model"),
        (chat(max_tokens=0), 400, "max_tokens"),
        (chat(temperature="hot"), 400, "temperature"),
        (chat() | {"messages": []}, 400, "messages"),
        (chat(metadata={"session_id": "not an id!"}), 400, "metadata.session_id"),
        (b'{"model": "chat", "messages": [%b]}' % (b"[" * 100_000 + b"]" * 100_000), 400, None),
    ],
)
async def test_what_is_wrong_with_the_request_is_refused_and_costs_nothing(
    gateway: Gateway, provider: ScriptedProvider, body: Any, status: int, param: str | None
) -> None:
    before = await audited(gateway)
    reply = await ask(gateway.url, PLAYGROUND, body)
    assert (reply.status, reply.error["param"]) == (status, param)
    assert provider.heard == []
    assert await audited(gateway) == before


@pytest.mark.parametrize(
    ("script", "text", "code"),
    [
        (replies.whole(b"{}", status=500), "", "provider_error"),
        (replies.whole(samples.error_body("No such voice", "no_voice"), status=400), "", "no_voice"),
        (replies.stream(samples.text_frames(["Hello", " there"])[:2], then=replies.cut), "Hello", "provider_connection_cut"),
    ],
    ids=["before the answer", "in the provider's own words", "in the middle of it"],
)
async def test_what_fails_later_is_an_event_and_is_summed_up_too(
    gateway: Gateway, provider: ScriptedProvider, script: Script, text: str, code: str
) -> None:
    provider.reply(script)
    reply = await ask(gateway.url, PLAYGROUND, chat())
    *told, (failed, failure), (last, summary) = events_of(reply)
    assert (text_of(told), failed, last) == (text, "error", "summary")
    assert failure["error"]["code"] == code
    record = await recorded(gateway, reply)
    assert (summary["status"], summary["reason"]) == (record["status"], record["reason"]) == ("error", record["error_code"])
    assert [attempt["outcome"] for attempt in summary["attempts"]] == [record["error_code"]]


async def test_who_closes_the_connection_ends_the_call(gateway: Gateway, provider: ScriptedProvider) -> None:
    provider.reply(replies.stream(samples.text_frames(["Hello", " there"])[:2], then=Peer.forever))
    async with connect(gateway.url) as wire:
        await wire.send(request("POST", PLAYGROUND, msgspec.json.encode(chat())))
        request_id = (await wire.head()).headers["x-request-id"]
        while b"Hello" not in await wire.piece():
            pass
        wire.hang_up()
        await eventually(provider.last.hung_up.is_set, "the gateway hangs up on the provider")
    record = await recorded(gateway, request_id)
    assert (record["status"], record["http_status"], record["error_code"]) == ("cancelled", 499, "client_left")
    assert record["output_tokens"] > 0, "what was said is billed"


async def test_only_admins_ask_and_what_limits_any_key_limits_them(launch: Launch, provider: ScriptedProvider) -> None:
    provider.reply(replies.stream(samples.text_frames(["Hello"], usage=True)))
    gateway = launch(auth={"admin_key": ADMIN_KEY}, limits={"requests_per_minute": 1})
    for role in ("user", "auditor"):
        reply = await ask(gateway.url, PLAYGROUND, chat(), headers=shown((await made(gateway, role=role))["key"]))
        assert reply.status == 403, role
    cookie, csrf = await logged_in(gateway)
    assert (await asked(gateway, "POST", PLAYGROUND, chat(), cookie=cookie)).status == 403, "another site's page could send it"
    assert provider.heard == []
    reply = await asked(gateway, "POST", PLAYGROUND, chat(), cookie=cookie, x_csrf_token=csrf)
    assert text_of(events_of(reply)) == "Hello"
    (failed, failure), (_, summary) = events_of(await ask(gateway.url, PLAYGROUND, chat(), headers=shown(ADMIN_KEY)))
    assert (failed, failure["error"]["code"]) == ("error", "rate_limit_exceeded")
    assert (summary["status"], summary["attempts"], summary["cost_usd"]) == ("error", [], None)
    entries = (await administer(gateway, "GET", "audit")).json["data"]
    assert [entry["actor"]["id"] for entry in entries if entry["action"] == "playground.ask"] == ["admin", "admin"]
