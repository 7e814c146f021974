"""Conversations that the gateway remembers, with every official SDK, over every kind of provider, through crashes and stores that fail."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import msgspec
import pytest

from tests.journeys.conftest import Launch
from tests.kit import replies, samples
from tests.kit.chains import recorded
from tests.kit.crossing import KINDS
from tests.kit.eventually import eventually
from tests.kit.gateway import Gateway
from tests.kit.provider import ScriptedProvider
from tests.kit.sdks import SDKS, Ask, OpenAIResponses, Sdk
from tests.kit.websocket import asking, connect

CHAT = "/v1/chat/completions"
TOOL = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False},
    "strict": True,
}
ANSWER = {"role": "assistant", "content": samples.TEXT}
#: Not enough for a lease to end.
AT_ONCE_S = 5.0

either_way = pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


async def ask(gateway: Gateway, *messages: Any, session: str = "s", model: str = "chat", **more: Any) -> httpx2.Response:
    headers = {"x-session-id": session, **more.pop("headers", {})}
    async with httpx2.AsyncClient(timeout=15) as client:
        return await client.post(f"{gateway.url}{CHAT}", json={"model": model, "messages": messages, **more}, headers=headers)


def shown(gateway: Gateway, session: str = "s", **headers: str) -> Any:
    answer = httpx2.get(f"{gateway.url}/v1/sessions/{session}", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def bodies(gateway: Gateway, session: str = "s", **headers: str) -> list[Any]:
    return [turn["body"] for turn in shown(gateway, session, **headers)["turns"]]


def heard(provider: ScriptedProvider) -> Any:
    return provider.heard[-1].json["messages"]


# --- every SDK, every kind of provider --------------------------------------------------------------------------------


@pytest.fixture(params=SDKS, ids=lambda sdk: sdk.name)
def sdk(request: pytest.FixtureRequest) -> type[Sdk]:
    chosen: type[Sdk] = request.param
    return chosen


@pytest.fixture(params=KINDS)
async def remembered(request: pytest.FixtureRequest, sdk: type[Sdk], crossing: Gateway) -> AsyncIterator[Sdk]:
    session = request.node.name.replace("[", ":").replace("]", "").replace(" ", "-")
    async with sdk(crossing.url, request.param, "sk-client", {"x-session-id": session}) as chat:
        if isinstance(chat, OpenAIResponses):
            chat.store = True
        yield chat
    assert httpx2.delete(f"{crossing.url}/v1/sessions/{session}").status_code == 200


def kept(chat: Sdk, gateway: Gateway) -> list[Any]:
    return bodies(gateway, chat.headers["x-session-id"])


@either_way
async def test_a_client_that_sends_only_what_is_new(remembered: Sdk, crossing: Gateway, stream: bool) -> None:
    """The simulator refuses results of tools that nobody called, and thoughts that are not as it signed them."""
    ask = Ask(stream=stream, tools=(TOOL,), think=True)
    inputs = []
    for turn in range(3):
        remembered.history = []
        remembered.user(f"Turn {turn}: call get_weather.")
        called = await remembered.answer(ask)
        assert called.calls
        remembered.history = []
        remembered.results(called, [{"degrees": 21}] * len(called.calls))
        told = await remembered.answer(ask)
        assert told.text
        inputs.append(told.usage[0])
    assert inputs == sorted(set(inputs))


@either_way
async def test_a_client_that_sends_its_history_along(remembered: Sdk, crossing: Gateway, stream: bool) -> None:
    ask = Ask(stream=stream, tools=(TOOL,), think=True)
    counts = []
    for turn in range(3):
        remembered.user(f"Turn {turn}: call get_weather.")
        called = await remembered.answer(ask)
        remembered.results(called, [{"degrees": 21}] * len(called.calls))
        await remembered.answer(ask)
        counts.append(len(kept(remembered, crossing)))
    assert counts == [counts[0], 2 * counts[0], 3 * counts[0]]  # nothing is doubled, nothing lost


def test_a_session_goes_on_in_another_protocol(crossing: Gateway) -> None:
    headers = {"x-session-id": "across"}
    asked = [
        ("/v1/messages", {"model": "openai", "max_tokens": 99, "messages": [user("one")]}),
        (CHAT, {"model": "gemini", "messages": [user("two")]}),
        ("/v1beta/models/anthropic:generateContent", {"contents": [{"role": "user", "parts": [{"text": "three"}]}]}),
        ("/v1/responses", {"model": "anthropic", "input": "four"}),
    ]
    for path, body in asked:
        assert httpx2.post(f"{crossing.url}{path}", json=body, headers=headers, timeout=20).status_code == 200
    told = shown(crossing, "across")
    assert [turn["dialect"] for turn in told["turns"]] == [
        name for name in ("anthropic", "openai_chat", "gemini", "openai_responses") for _ in range(2)
    ]
    assert httpx2.delete(f"{crossing.url}/v1/sessions/across").json() == {"id": "across", "object": "session", "deleted": True}


# --- what is sent and kept --------------------------------------------------------------------------------------------


@either_way
async def test_what_was_said_goes_in_front_byte_for_byte(gateway: Gateway, provider: ScriptedProvider, stream: bool) -> None:
    session = f"bytes-{gateway.edge}-{stream}".replace(" ", "-")
    provider.reply(replies.stream(samples.text_frames(["it ", "is"])) if stream else replies.whole(samples.COMPLETION))
    replied = [await ask(gateway, user(f"{turn}"), session=session, stream=stream) for turn in range(3)]
    assert {(said.status_code, said.headers["x-session-id"]) for said in replied} == {(200, session)}
    answer = {"role": "assistant", "content": "it is"} if stream else ANSWER
    assert heard(provider) == [user("0"), answer, user("1"), answer, user("2")]
    first, second = (each.body.partition(b'"messages":')[2].partition(b"]")[0] for each in provider.heard[-2:])
    assert second.startswith(first)
    record = await recorded(gateway, replied[-1].headers["x-request-id"])
    assert msgspec.json.decode(record["request"])["messages"] == heard(provider)  # what was sent, not what was asked


async def test_the_session_may_stand_in_the_body_which_the_provider_does_not_see(gateway: Gateway, provider: ScriptedProvider) -> None:
    provider.reply(replies.whole(samples.COMPLETION))
    async with httpx2.AsyncClient() as client:
        for more in ({}, {"trace": "t"}):
            body = {"model": "chat", "messages": [user("hi")], "user": "ann", "metadata": {"session_id": f"b-{gateway.port}", **more}}
            said = await client.post(f"{gateway.url}{CHAT}", json=body)
            assert said.headers["x-session-id"] == f"b-{gateway.port}"
            assert provider.heard[-1].json.get("metadata") == (more or None)
    assert len(bodies(gateway, f"b-{gateway.port}", **{"x-user-id": "ann"})) == 4


async def test_a_socket_remembers_too(gateway: Gateway, provider: ScriptedProvider) -> None:
    provider.reply(replies.whole(samples.COMPLETION))
    session = f"socket-{gateway.port}"
    async with connect(gateway.url) as socket:
        for turn in range(2):
            await socket.answer(await socket.ask(asking(f"{turn}", metadata={"session_id": session})))
    assert len(bodies(gateway, session)) == 4


@pytest.mark.parametrize(("name", "value"), [("x-session-id", "a/b"), ("x-session-id", "a" * 129), ("x-user-id", "u" * 201)])
async def test_names_are_bounded(gateway: Gateway, name: str, value: str) -> None:
    refused = await ask(gateway, user("hi"), headers={name: value})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == name


# --- answers that are not kept ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep_partial", [False, True])
async def test_a_cut_answer_leaves_the_session_as_it_was_unless_asked_to(
    launch: Launch, provider: ScriptedProvider, keep_partial: bool
) -> None:
    gateway = launch(sessions={"keep_partial": keep_partial}, streaming={"recovery": "error"})
    provider.reply(replies.stream(samples.text_frames(["half ", "an"])[:-2], then=replies.cut))
    cut = await ask(gateway, user("one"), stream=True)
    assert "[DONE]" not in cut.text
    provider.reply(replies.whole(samples.COMPLETION, 500))
    assert (await ask(gateway, user("two"))).status_code == 502
    provider.reply(replies.whole(samples.COMPLETION))
    await ask(gateway, user("three"))
    partial = [user("one"), {"role": "assistant", "content": "half an"}] if keep_partial else []
    assert heard(provider) == [*partial, user("three")]
    assert [turn["partial"] for turn in shown(gateway)["turns"]] == [False, True, False, False][0 if keep_partial else 2 :]


async def test_a_client_that_leaves_leaves_the_session_as_it_was_and_free(gateway: Gateway, provider: ScriptedProvider) -> None:
    session = f"left-{gateway.port}"
    provider.reply(replies.stream(samples.text_frames(["half "])[:2], then=replies.hang))
    with contextlib.suppress(httpx2.HTTPError):
        async with httpx2.AsyncClient(timeout=0.3) as client:
            body = {"model": "chat", "messages": [user("one")], "stream": True}
            await client.post(f"{gateway.url}{CHAT}", json=body, headers={"x-session-id": session})
    provider.reply(replies.whole(samples.COMPLETION))
    async with asyncio.timeout(AT_ONCE_S):
        await ask(gateway, user("two"), session=session)
    assert heard(provider) == [user("two")]


async def test_the_fixed_reply_is_never_kept(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch(fallback={"reply": "Sorry."}, sessions={"keep_partial": True})
    provider.reply(replies.whole(b"{}", 500))
    for stream in (False, True):
        assert (await ask(gateway, user("one"), stream=stream)).headers["x-gateway-status"] == "degraded"
    provider.reply(replies.whole(samples.COMPLETION))
    await ask(gateway, user("two"))
    assert heard(provider) == [user("two")]
    assert bodies(gateway) == [user("two"), ANSWER]


async def test_minimal_monitoring_and_store_false_keep_nothing(launch: Launch, provider: ScriptedProvider) -> None:
    provider.reply(replies.whole(samples.COMPLETION))
    gateway = launch(monitoring={"mode": "minimal"})
    for _ in range(2):
        assert (await ask(gateway, user("one"))).status_code == 200
    assert heard(provider) == [user("one")]
    assert httpx2.get(f"{gateway.url}/v1/sessions").json() == {"data": [], "next": None}


# --- whose it is ------------------------------------------------------------------------------------------------------


async def test_a_session_does_not_exist_for_others(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch(auth={"admin_key": "admin-key-of-the-test"})
    provider.reply(replies.whole(samples.COMPLETION))
    made = [gateway.command("keys", "create", name, "--json") for name in ("ann", "bob")]
    ann, bob = ({"authorization": f"Bearer {msgspec.json.decode(one.stdout)['key']}"} for one in made)
    await ask(gateway, user("ann's"), headers=ann)
    await ask(gateway, user("ann's other"), headers=ann, session="other")
    await ask(gateway, user("bob's"), headers=bob)
    assert heard(provider) == [user("bob's")]
    assert bodies(gateway, **ann)[0] == user("ann's")
    await ask(gateway, user("carol's"), headers={**ann, "x-user-id": "carol"}, session="carols")
    async with httpx2.AsyncClient(base_url=gateway.url) as client:
        for method in ("GET", "DELETE"):
            for headers in (bob, {**ann, "x-user-id": "carol"}):
                gone = await client.request(method, "/v1/sessions/other", headers=headers)
                assert (gone.status_code, gone.json()["error"]["code"]) == (404, "not_found")
            assert (await client.request(method, "/v1/sessions/other")).status_code == 401
        page = (await client.get("/v1/sessions?limit=1", headers=ann)).json()
        rest = (await client.get("/v1/sessions", params={"limit": 1, "cursor": page["next"]}, headers=ann)).json()
        assert [page["data"][0]["id"], rest["data"][0]["id"]] == ["other", "s"]
        assert (await client.get("/v1/sessions?limit=0", headers=ann)).status_code == 400
        admin = {"authorization": "Bearer admin-key-of-the-test"}
        assert len((await client.get("/admin/v1/sessions", headers=admin)).json()["data"]) == 4
        assert (await client.get("/admin/v1/sessions", headers=ann)).status_code == 403
        assert (await client.delete("/v1/sessions/s", headers=ann)).status_code == 200
        assert (await client.get("/v1/sessions/s", headers=ann)).status_code == 404
        assert (await client.get("/v1/sessions/s", headers=bob)).status_code == 200


# --- at once, and what fails ------------------------------------------------------------------------------------------


async def test_turns_at_once_take_turns(gateway: Gateway, provider: ScriptedProvider) -> None:
    session = f"turns-{gateway.port}"
    provider.reply(replies.later(0.01, replies.whole(samples.COMPLETION)))
    answers = await asyncio.gather(*[ask(gateway, user(f"{n}"), session=session) for n in range(20)])
    assert {answer.status_code for answer in answers} == {200}
    said = bodies(gateway, session)
    assert sorted(message["content"] for message in said[::2]) == sorted(f"{n}" for n in range(20))
    assert said[1::2] == [ANSWER] * 20
    assert sorted(len(each.json["messages"]) for each in provider.heard) == list(range(1, 41, 2))


async def test_a_turn_that_waits_too_long_is_told_of_the_other(gateway: Gateway, provider: ScriptedProvider) -> None:
    session = f"waits-{gateway.port}"
    released = asyncio.Event()
    provider.reply(replies.after(released, replies.whole(samples.COMPLETION)))
    first = asyncio.create_task(ask(gateway, user("one"), session=session))
    await eventually(lambda: provider.heard, "the first turn")
    late = await ask(gateway, user("two"), session=session, headers={"x-gateway-timeout-s": "0.3"})
    assert (late.status_code, late.json()["error"]["code"]) == (409, "conflict")
    released.set()
    assert (await first).status_code == 200


@pytest.mark.parametrize("on_store_down", ["fail", "forget"])
async def test_a_store_that_stops_in_mid_traffic(launch: Launch, provider: ScriptedProvider, on_store_down: str) -> None:
    gateway = launch(sessions={"on_store_down": on_store_down})
    provider.reply(replies.whole(samples.COMPLETION))
    await ask(gateway, user("one"))
    database = gateway.folder / "agent-gateway.db"
    aside = gateway.folder / "aside"
    files = list(gateway.folder.glob("agent-gateway.db*"))
    aside.mkdir()
    for path in files:
        path.rename(aside / path.name)
    database.mkdir()  # nothing can be opened there
    async with asyncio.timeout(5):
        down = await ask(gateway, user("two"))
        assert (await ask(gateway, user("no session"), session="", model="chat")).status_code == 200
    if on_store_down == "fail":
        assert (down.status_code, down.json()["error"]["code"]) == (503, "store_down")
    else:
        assert down.status_code == 200
        assert "agent_gateway_sessions_forgotten_total 1.0" in httpx2.get(f"{gateway.url}/metrics").text
    database.rmdir()
    for path in files:
        (aside / path.name).rename(path)
    assert (await ask(gateway, user("three"))).status_code == 200
    assert heard(provider) == [user("one"), ANSWER, user("three")]


# --- what is too long -------------------------------------------------------------------------------------------------


async def test_a_summary_is_written_by_the_configured_model_and_recorded(launch: Launch, provider: ScriptedProvider) -> None:
    sessions = {"compaction": "summary", "summary_model": "patient", "max_messages": 8}
    gateway = launch(sessions=sessions)
    provider.reply(replies.whole(samples.COMPLETION))
    ann = {"x-user-id": "ann"}
    for turn in range(4):
        await ask(gateway, user(f"{turn}"), headers=ann)
    summary = await eventually(lambda: shown(gateway, **ann)["summary"], "a summary")
    assert summary["body"]["content"].endswith(samples.TEXT)
    records = await eventually(lambda: [one for one in gateway.records if one["model"] == "patient"], "the record of the summary")
    assert [(record["key_id"], record["user_id"]) for record in records] == [("gateway", "ann")]
    await ask(gateway, user("last"), headers=ann)
    assert heard(provider)[0] == summary["body"]
    assert heard(provider)[-1] == user("last")
    assert shown(gateway, **ann)["turn_count"] == 10
