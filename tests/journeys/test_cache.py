"""The exact cache over both edges, in every protocol: what is given again, to whom, what it costs, and what never is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import httpx2
import pytest

from tests.kit import replies, samples
from tests.kit.caching import CACHED, NO_STORE, new_chat, new_number, numbered, results, twice
from tests.kit.chains import deployment, gateway_says, recorded, running
from tests.kit.client import CHAT, ask, chat, chat_request, connect
from tests.kit.configuration import PROVIDER_KEY, configuration
from tests.kit.eventually import PATIENCE_S, eventually
from tests.kit.gateway import EdgeName, Gateway
from tests.kit.provider import Heard, Script, ScriptedProvider
from tests.kit.recordings import recording
from tests.kit.sdks import SDKS, Ask, OpenAIResponses, Sdk
from tests.kit.websocket import connect as open_socket
from tests.kit.websocket import text_of as text_of_frames

EMBEDDINGS, COMPLETIONS, RESPONSES, MESSAGES = "/v1/embeddings", "/v1/completions", "/v1/responses", "/v1/messages"
MAIL = "ann.smith@example.com"
USAGE = {"include_usage": True}

either_way = pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])


@pytest.fixture(scope="module")
def gateway(edge: EdgeName, provider_port: int, closed_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    address = f"http://127.0.0.1:{provider_port}"
    providers = {
        "scripted": {"kind": "openai", "base_url": f"{address}/v1", "api_key": PROVIDER_KEY},
        "anthropic": {"kind": "anthropic", "base_url": address, "api_key": PROVIDER_KEY},
        "gemini": {"kind": "gemini", "base_url": address, "api_key": PROVIDER_KEY},
        "closed": {"kind": "openai", "base_url": f"http://127.0.0.1:{closed_port}/v1", "api_key": PROVIDER_KEY},
    }
    guards = {"input": [{"kind": "pii"}], "output": [{"kind": "deny", "words": ["project zeta"], "action": "block"}]}
    models = {
        "claude": {"deployments": [deployment("claude", "anthropic")]},
        "flash": {"deployments": [deployment("flash", "gemini")]},
        "uncached": {"deployments": [deployment("chat")], "cache": {"exact": {"enabled": False}}},
        "falling": {"deployments": [deployment("x", "closed")], "fallbacks": ["chat"], "retries": {"max_attempts": 2}},
        "excused": {"deployments": [deployment("x", "closed")], "fallback": {"reply": "Later, please."}},
        "twice": {"deployments": [deployment("twice")], "retries": {"max_attempts": 2, "budget": 1}},
        "guarded": {"deployments": [deployment("chat")], "guards": guards},
    }
    config = configuration(provider_port, closed_port, providers=providers, models=models, cache=CACHED)
    with running(tmp_path_factory.mktemp("cache"), edge, config) as gateway:
        yield gateway


# --- every protocol ---------------------------------------------------------------------------------------------------

GEMINI = "/v1beta/models/flash:"
SAID = {"messages": [{"role": "user", "content": "Hi"}]}
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
TEXT = b'data: {"id":"cmpl-1","object":"text_completion","choices":[{"index":0,"text":"%b","finish_reason":%b}],"model":"m"}\n\n'
TEXTS = [TEXT % (b"Hel", b"null"), TEXT % (b"lo", b'"stop"'), samples.DONE]
#: What is asked where, and how its provider answers.
ASKED: dict[str, tuple[str, dict[str, Any], str | Script]] = {
    "chat": (CHAT, {"model": "chat", **SAID}, "openai/chat"),
    "chat, stream": (CHAT, {"model": "chat", **SAID, "stream": True}, "openai/chat_stream"),
    "chat, stream with usage": (CHAT, {"model": "chat", **SAID, "stream": True, "stream_options": USAGE}, "openai/chat_stream"),
    "completions": (COMPLETIONS, {"model": "chat", "prompt": "Hi"}, "openai/completions"),
    "completions, stream": (COMPLETIONS, {"model": "chat", "prompt": "Hi", "stream": True}, replies.stream(TEXTS)),
    "embeddings": (EMBEDDINGS, {"model": "chat", "input": "Hi"}, "openai/embeddings"),
    "responses": (RESPONSES, {"model": "chat", "input": "Hi"}, "openai/chat"),
    "responses, stream": (RESPONSES, {"model": "chat", "input": "Hi", "stream": True}, "openai/chat_stream"),
    "messages": (MESSAGES, {"model": "claude", "max_tokens": 99, **SAID}, "anthropic/messages"),
    "messages, stream": (MESSAGES, {"model": "claude", "max_tokens": 99, **SAID, "stream": True}, "anthropic/messages_stream"),
    "messages of another": (MESSAGES, {"model": "flash", "max_tokens": 99, **SAID, "stream": True}, "gemini/generate_stream"),
    "gemini": (f"{GEMINI}generateContent", CONTENTS, "gemini/generate"),
    "gemini, stream": (f"{GEMINI}streamGenerateContent?alt=sse", CONTENTS, "gemini/generate_stream"),
    "gemini, array": (f"{GEMINI}streamGenerateContent", CONTENTS, "gemini/generate_stream"),
}


@pytest.mark.parametrize("name", ASKED)
async def test_the_same_bytes_come_again_and_the_record_tells_of_them(gateway: Gateway, provider: ScriptedProvider, name: str) -> None:
    target, body, reply = ASKED[name]
    provider.reply(recording(reply).script() if isinstance(reply, str) else reply)
    first, again = await twice(gateway, body, target)
    assert (first.status, again.status, first.complete, again.complete) == (200, 200, True, True)
    assert len(provider.heard) == 1
    told = again.body
    if target == RESPONSES:  # each is a thing of its own
        ids = [one.headers["x-request-id"].replace("req_", "resp_").encode() for one in (first, again)]
        assert ids[1] in told
        told = told.replace(ids[1], ids[0])
    assert told == first.body
    assert gateway_says(again) == ("cached", None, "0")
    assert again.headers["content-type"] == first.headers["content-type"]
    assert again.headers["x-gateway-model"] == first.headers["x-gateway-model"]
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    was, now = [await recorded(gateway, one) for one in (first, again)]
    assert (now["status"], now["http_status"], now["attempts_count"], now["cost_usd"]) == ("cached", 200, 0, 0)
    same = ("deployment", "dialect", "stream", "finish_reason", "input_tokens", "output_tokens", "answer", "request", "model")
    assert {name: now[name] for name in same} == {name: was[name] for name in same}
    assert was["answer"] is not None or name == "embeddings"
    assert (now["ttft_ms"] is None) == (was["ttft_ms"] is None)
    if not was["stream"]:
        assert again.headers["x-gateway-cost-usd"] == "0.00000000"


class Kept(OpenAIResponses):
    """What says `store: false` is not kept here either."""

    name: ClassVar[str] = "openai responses, kept"
    store = True


@either_way
@pytest.mark.parametrize("sdk", [Kept if sdk is OpenAIResponses else sdk for sdk in SDKS], ids=lambda sdk: sdk.name)
async def test_every_sdk_reads_it_as_it_read_the_first(gateway: Gateway, provider: ScriptedProvider, sdk: type[Sdk], stream: bool) -> None:
    provider.reply_by(numbered())
    question = f"Question {new_number()}"
    told = []
    for _ in range(2):
        async with sdk(gateway.url, "chat", "sk-client") as client:
            client.user(question)
            told.append(await client.answer(Ask(stream=stream)))
    assert told[0] == told[1]
    assert told[0].text
    assert len(provider.heard) == 1


async def test_what_was_compressed_for_one_is_plain_for_another(gateway: Gateway, provider: ScriptedProvider) -> None:
    provider.reply(replies.whole(samples.COMPLETION.replace(b"I am", b"I am " * 500)))
    body = new_chat()
    packed = await ask(gateway.url, CHAT, body, headers={"accept-encoding": "gzip"})
    plain = await ask(gateway.url, CHAT, body)
    assert (packed.headers["content-encoding"], gateway_says(plain)[0]) == ("gzip", "cached")
    assert "content-encoding" not in plain.headers
    assert plain.json["choices"][0]["message"]["content"].startswith("I am I am")


async def test_a_socket_gets_it_and_so_does_a_stream_that_can_be_taken_up_again(gateway: Gateway, provider: ScriptedProvider) -> None:
    provider.reply_by(numbered())
    body = new_chat(stream=True)
    first = await ask(gateway.url, CHAT, body)
    async with open_socket(gateway.url) as socket:
        frames = await socket.answer(await socket.ask(body))
    assert text_of_frames(frames) == "answer0"
    async with open_socket(gateway.url, NO_STORE) as socket:
        fresh = await socket.answer(await socket.ask(body))
    assert text_of_frames(fresh) == "answer1"
    resumable = await ask(gateway.url, CHAT, body, headers={"x-gateway-resumable": "true"})
    assert gateway_says(resumable)[0] == "cached"
    events = [frame for frame in resumable.frames if b"data: " in frame]
    assert len(events) == len(first.frames)
    request_id = resumable.headers["x-request-id"]
    rest = await ask(gateway.url, f"/v1/streams/{request_id}", headers={"last-event-id": "2"})
    assert rest.body == b"".join(events[2:])
    assert len(provider.heard) == 2


# --- many at once -----------------------------------------------------------------------------------------------------


@either_way
async def test_of_a_hundred_at_once_one_goes_to_the_provider(gateway: Gateway, provider: ScriptedProvider, stream: bool) -> None:
    go_on = asyncio.Event()
    answer = replies.stream(samples.text_frames(["Hel", "lo"])) if stream else replies.whole(samples.COMPLETION)
    provider.reply(replies.after(go_on, answer))
    before, body = await results(gateway), new_chat(stream=stream)
    asking = [asyncio.create_task(ask(gateway.url, CHAT, body)) for _ in range(100)]
    await under_way(gateway, 100)
    await eventually(lambda: provider.heard, "one to be asked")
    held_from = time.monotonic()
    await asyncio.sleep(0.1)
    held_ms = (time.monotonic() - held_from) * 1000
    go_on.set()
    told = await asyncio.gather(*asking)
    assert {reply.body for reply in told} == {told[0].body}
    assert sorted(str(gateway_says(reply)[0]) for reply in told) == ["cached"] * 99 + ["success"]
    assert len(provider.heard) == 1
    after = await results(gateway)
    assert {name: after[name] - before[name] for name in after} == {"hit": 0, "joined": 99, "miss": 1, "skipped": 0}
    waited = await recorded(gateway, next(reply for reply in told if gateway_says(reply)[0] == "cached"))
    assert waited["overhead_ms"] <= waited["duration_ms"] - held_ms + 1, "what it waited for is not the gateway's own"


async def under_way(gateway: Gateway, count: int, model: str = "chat") -> None:
    """So many requests are at the gateway."""
    line = f'agent_gateway_in_flight{{model="{model}"}} {count:.1f}'.encode()
    until = time.monotonic() + PATIENCE_S
    while line not in (await ask(gateway.url, "/metrics")).body:
        assert time.monotonic() < until, f"there were never {count}"
        await asyncio.sleep(0.02)


@either_way
async def test_when_the_first_client_leaves_another_takes_its_place(gateway: Gateway, provider: ScriptedProvider, stream: bool) -> None:
    go_on = asyncio.Event()
    answer = replies.stream(samples.text_frames(["Hel", "lo"])) if stream else replies.whole(samples.COMPLETION)
    provider.reply_in_turn(replies.hang)
    provider.reply(replies.after(go_on, answer))
    body = new_chat(stream=stream)
    async with connect(gateway.url) as wire:
        await wire.send(chat_request(**{name: value for name, value in body.items() if name not in ("model", "messages")}))
        await eventually(lambda: provider.heard, "the first to be asked")
        asking = [asyncio.create_task(ask(gateway.url, CHAT, body)) for _ in range(20)]
        await under_way(gateway, 21)
        wire.hang_up()
        await eventually(lambda: len(provider.heard) == 2, "the next one to go")
    go_on.set()
    told = await asyncio.gather(*asking)
    assert {(reply.status, reply.body) for reply in told} == {(200, told[0].body)}
    assert len(provider.heard) == 2


async def test_when_the_first_fails_its_client_alone_is_told(gateway: Gateway, provider: ScriptedProvider) -> None:
    fail, go_on = asyncio.Event(), asyncio.Event()
    provider.reply_in_turn(replies.after(fail, replies.whole(b"{}", status=500)))
    provider.reply(replies.after(go_on, replies.whole(samples.COMPLETION)))
    body = new_chat()
    asking = [asyncio.create_task(ask(gateway.url, CHAT, body)) for _ in range(20)]
    await under_way(gateway, 20)
    fail.set()
    await eventually(lambda: len(provider.heard) == 2, "the next one to go")
    go_on.set()
    statuses = [reply.status for reply in await asyncio.gather(*asking)]
    assert sorted(statuses) == [200] * 19 + [502]
    assert len(provider.heard) == 2


async def test_each_waits_as_long_as_it_wants(gateway: Gateway, provider: ScriptedProvider) -> None:
    go_on = asyncio.Event()
    provider.reply(replies.after(go_on, replies.whole(samples.COMPLETION)))
    body = new_chat()
    first = asyncio.create_task(ask(gateway.url, CHAT, body))
    await eventually(lambda: provider.heard, "the first to be asked")
    hurried = await ask(gateway.url, CHAT, body, headers={"x-gateway-timeout-s": "0.3"})
    assert (hurried.status, hurried.error["code"]) == (504, "provider_timeout")
    go_on.set()
    assert (await first).status == 200


# --- what is never kept -----------------------------------------------------------------------------------------------

SSE_HEAD = replies.head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
FRAMES = samples.text_frames(["Hel", "lo"], usage=True)
ENDED_BY = {reason: samples.COMPLETION.replace(b'"stop"', b'"%b"' % reason.encode()) for reason in ("length", "content_filter")}
BAD: dict[str, tuple[Script, dict[str, Any]]] = {
    "refused": (replies.whole(samples.error_body("no", None), status=400), {}),
    "failed": (replies.whole(b"{}", status=500), {}),
    "busy": (replies.whole(b"{}", status=429, headers={"retry-after": "0"}), {}),
    "garbage": (replies.whole(b"{"), {}),
    "too long": (replies.whole(ENDED_BY["length"]), {}),
    "filtered": (replies.whole(ENDED_BY["content_filter"]), {}),
    "too long, stream": (replies.stream([frame.replace(b'"stop"', b'"length"') for frame in FRAMES]), {"stream": True}),
    "cut": (replies.raw(SSE_HEAD + b"".join(map(replies.chunk, FRAMES[:3])), end="cut"), {"stream": True}),
    "stopped": (replies.raw(SSE_HEAD + b"".join(map(replies.chunk, FRAMES[:3])) + replies.LAST_CHUNK), {"stream": True}),
    "error in stream": (replies.stream([*FRAMES[:3], samples.sse({"error": {"message": "x"}})]), {"stream": True}),
    "second choice": (
        replies.whole(
            samples.COMPLETION.replace(
                b'"choices": [', b'"choices": [{"index":1,"message":{"role":"assistant","content":"x"},"finish_reason":"length"},'
            )
        ),
        {"n": 2},
    ),
    "fallback": (replies.whole(samples.COMPLETION), {"model": "falling"}),
    "fixed reply": (replies.whole(samples.COMPLETION), {"model": "excused"}),
    "another model's section": (replies.whole(samples.COMPLETION), {"model": "uncached"}),
    "store: false": (replies.whole(samples.COMPLETION), {"store": False}),
    "guarded": (replies.whole(samples.COMPLETION.replace(b"I am", b"Of project zeta: I am")), {"model": "guarded"}),
    "guarded, stream": (replies.stream(samples.text_frames(["Of ", "project ", "zeta"])), {"model": "guarded", "stream": True}),
}


@pytest.mark.parametrize("name", BAD)
async def test_never_again(gateway: Gateway, provider: ScriptedProvider, name: str) -> None:
    script, asked = BAD[name]
    provider.reply(script)
    body = new_chat(**asked)
    said = [await ask(gateway.url, CHAT, body) for _ in range(3)]
    assert all(gateway_says(reply)[0] != "cached" for reply in said)
    assert len(provider.heard) == (0 if name == "fixed reply" else 3)


async def test_what_was_asked_twice_for_has_cost_what_its_answer_cost(gateway: Gateway, provider: ScriptedProvider) -> None:
    """The failure before it is nobody else's."""
    provider.reply_in_turn(replies.whole(b"{}", status=500))
    provider.reply(replies.whole(samples.COMPLETION))
    first, again = await twice(gateway, new_chat(model="twice"))
    assert (gateway_says(first)[::2], gateway_says(again)) == (("success", "2"), ("cached", None, "0"))


# --- whose it is ------------------------------------------------------------------------------------------------------


async def test_no_store_goes_by_it_both_ways(gateway: Gateway, provider: ScriptedProvider) -> None:
    provider.reply_by(numbered())
    body = new_chat()
    fresh = [await ask(gateway.url, CHAT, body, headers=NO_STORE) for _ in range(2)]
    assert [gateway_says(reply)[0] for reply in fresh] == ["success"] * 2
    kept = await ask(gateway.url, CHAT, body)
    assert gateway_says(kept)[0] == "success", "nothing was kept of them"
    assert (await ask(gateway.url, CHAT, body, headers={"x-gateway-cache": "No-Store "})).body != kept.body
    assert (await ask(gateway.url, CHAT, body)).body == kept.body
    wrong = await ask(gateway.url, CHAT, body, headers={"x-gateway-cache": "no-cache"})
    assert (wrong.status, wrong.error["param"]) == (400, "x-gateway-cache")
    assert "'no-cache' is not known; send no-store" in wrong.error["message"]


HOSTILE = {
    "host": "localhost:1",
    "x-forwarded-host": "evil.example",
    "x-forwarded-for": "10.0.0.1",
    "x-original-url": "/v1/models",
    "x-http-method-override": "GET",
    "x-request-id": "poison",
    "accept": "text/html",
    "cookie": "a=b",
    "cache-control": "max-age=0",
    "x-user-agent": "evil",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}


async def test_headers_poison_nothing(gateway: Gateway, provider: ScriptedProvider) -> None:
    """What no answer depends on makes no other one, and nothing of who asked first is in what the next one gets."""
    provider.reply_by(numbered())
    body = new_chat()
    first = await ask(gateway.url, CHAT, body, headers=HOSTILE)
    again = await ask(gateway.url, CHAT, body)
    assert (again.body, gateway_says(again)[0]) == (first.body, "cached")
    head = repr(again.headers)
    assert not [value for value in HOSTILE.values() if value in head]
    assert (await recorded(gateway, again))["client_request_id"] is None


async def test_headers_that_go_on_make_another(gateway: Gateway, provider: ScriptedProvider) -> None:
    provider.reply_by(numbered())
    body = new_chat()
    told = [
        (await ask(gateway.url, CHAT, body, headers=headers)).body
        for headers in ({}, {"openai-beta": "a"}, {"openai-beta": "b"}, {"anthropic-beta": "a"}, {"anthropic-version": "2023-06-01"})
    ]
    assert len(set(told)) == len(told) == len(provider.heard)


async def test_a_users_answers_are_his_own(gateway: Gateway, provider: ScriptedProvider) -> None:
    """However a user is named; and no name can be put together so that it is another's."""
    provider.reply_by(numbered())
    body = new_chat()
    names: list[tuple[dict[str, Any], dict[str, str]]] = [
        ({}, {}),
        ({}, {"x-user-id": "ann"}),
        ({}, {"x-user-id": "bob"}),
        ({"user": "ann"}, {}),
        ({"user": "bob"}, {}),
        ({"user": "ann"}, {"x-user-id": "bob"}),
        ({}, {"x-user-id": "ann,bob"}),
        ({"user": "ann\u0000bob"}, {}),
        ({"user": ""}, {}),
    ]
    told = [(await ask(gateway.url, CHAT, body | more, headers=headers)).body for more, headers in names]
    assert len(set(told)) == len(names)
    for (more, headers), before in zip(names, told, strict=True):
        reply = await ask(gateway.url, CHAT, body | more, headers=headers)
        assert (reply.body, gateway_says(reply)[0]) == (before, "cached")


async def test_members_that_stand_twice_are_what_the_provider_takes_them_for(gateway: Gateway, provider: ScriptedProvider) -> None:
    """Two readers of such a body may differ, so that one's answer must not become the other's."""
    provider.reply_by(numbered())
    plain = b'{"model":"chat","messages":[{"role":"user","content":"A%d"}]}' % new_number()
    doubled = plain.replace(b'"messages"', b'"messages":[{"role":"user","content":"B"}],"messages"')
    spaced = plain.replace(b'","', b'", "')
    told = {(await ask(gateway.url, CHAT, body)).body for body in (plain, doubled, spaced)}
    assert len(told) == 3


async def test_a_user_who_is_erased_is_gone_from_it(gateway: Gateway, provider: ScriptedProvider) -> None:
    provider.reply_by(numbered())
    bodies = [new_chat(user=user) for user in ("erased", "erased", "kept")]
    for body in bodies:
        assert gateway_says((await twice(gateway, body))[1])[0] == "cached"
    erased = (await ask(gateway.url, "/admin/v1/users/erased", method="DELETE")).json
    assert erased["cached_answers"] == 2
    assert [gateway_says(await ask(gateway.url, CHAT, body))[0] for body in bodies] == ["success", "success", "cached"]


# --- with sessions, responses and guards ------------------------------------------------------------------------------


@either_way
async def test_a_session_keeps_the_turn_and_its_history_counts(gateway: Gateway, provider: ScriptedProvider, stream: bool) -> None:
    provider.reply_by(numbered())
    word = f"Word {new_number()}"
    turns, statuses = {}, []
    async with httpx2.AsyncClient(timeout=15) as client:
        for session in (f"one-{stream}", f"two-{stream}"):
            for text in (word, f"And {word}?"):
                asked = {"model": "chat", "messages": [{"role": "user", "content": text}], "stream": stream}
                reply = await client.post(f"{gateway.url}{CHAT}", json=asked, headers={"x-session-id": session})
                statuses.append((reply.status_code, reply.headers["x-gateway-status"]))
            turns[session] = [turn["body"] for turn in (await client.get(f"{gateway.url}/v1/sessions/{session}")).json()["turns"]]
        assert statuses == [(200, "success")] * 2 + [(200, "cached")] * 2
        one, two = turns.values()
        assert len(one) == 4
        assert one == two
        assert len(provider.heard) == 2
        asked = {"model": "chat", "messages": [{"role": "user", "content": f"And {word}?"}], "stream": stream}
        alone = await client.post(f"{gateway.url}{CHAT}", json=asked)
        assert alone.headers["x-gateway-status"] == "success", "the same words, and nothing before them"


@either_way
async def test_a_response_is_kept_under_its_own_id(gateway: Gateway, provider: ScriptedProvider, stream: bool) -> None:
    provider.reply_by(numbered())
    asked = {"model": "chat", "input": f"Input {new_number()}", "stream": stream}
    first, again = await twice(gateway, asked, RESPONSES)
    assert gateway_says(again)[0] == "cached"
    ids = [reply.headers["x-request-id"].replace("req_", "resp_") for reply in (first, again)]
    kept = [await ask(gateway.url, f"{RESPONSES}/{response_id}") for response_id in ids]
    assert [reply.json["id"] for reply in kept] == ids
    assert kept[0].json["output"] == kept[1].json["output"]
    assert (await ask(gateway.url, f"{RESPONSES}/{ids[0]}", method="DELETE")).status == 200
    going_on = {"model": "chat", "input": "And?", "previous_response_id": ids[1]}
    follow = await ask(gateway.url, RESPONSES, going_on)
    assert (follow.status, gateway_says(follow)[0]) == (200, "success")
    assert len(provider.last.json["messages"]) == 3


@either_way
async def test_guards_look_at_what_is_given_again(gateway: Gateway, provider: ScriptedProvider, stream: bool) -> None:
    def echo(heard: Heard) -> Script:
        said = f"Noted: {heard.json['messages'][-1]['content'].split()[-1]}"
        if heard.json.get("stream"):
            return replies.stream(samples.text_frames([said[:9], said[9:]], usage=True))
        return replies.whole(samples.COMPLETION.replace(b"I am", said.encode(), 1))

    provider.reply_by(echo)
    messages = [{"role": "user", "content": f"{new_number()}: I am {MAIL}"}]
    body = chat("guarded", stream=stream) | {"messages": messages}
    first, again = await twice(gateway, body)
    assert (again.status, gateway_says(again)[0]) == (200, "cached")
    assert MAIL in again.body.decode()
    assert len(provider.heard) == 1
    assert again.headers["x-gateway-guard"] == "masked=pii"
    record = await recorded(gateway, again)
    assert MAIL.encode() not in record["answer"] + record["request"]
    assert b"<EMAIL_" in record["answer"]
    assert first.status == 200


# --- batches ----------------------------------------------------------------------------------------------------------


async def test_items_of_one_call_are_answered_by_it(gateway: Gateway, provider: ScriptedProvider) -> None:
    provider.reply_by(numbered())
    body = new_chat()
    asked = {"requests": [{"custom_id": name, "body": body} for name in "abc"]}
    told = (await ask(gateway.url, "/v1/batch", asked)).json
    assert len({result["body"]["choices"][0]["message"]["content"] for result in told["results"]}) == 1
    assert len(provider.heard) == 1
    record = await recorded(gateway, (await ask(gateway.url, CHAT, body)))
    assert record["status"] == "cached", "and so is whoever asks alone"
    by_it = (await ask(gateway.url, "/v1/batch", asked, headers=NO_STORE)).json
    assert by_it["summary"]["completed"] == 3
    assert len(provider.heard) == 4
    assert by_it["summary"]["cost_usd"] == pytest.approx(3 * told["summary"]["cost_usd"])
