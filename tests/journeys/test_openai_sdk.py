"""The official OpenAI SDK against the gateway: what an application sees, whole, streamed and refused."""

from __future__ import annotations

import asyncio

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.kit import replies, samples
from tests.kit.configuration import PROVIDER_KEY
from tests.kit.gateway import Gateway
from tests.kit.provider import Heard, Peer, Script, ScriptedProvider

ASKED: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Who are you?"}]


async def test_a_whole_answer(client: AsyncOpenAI, provider: ScriptedProvider) -> None:
    provider.reply(replies.whole(samples.COMPLETION))
    answer = await client.chat.completions.create(model="chat", messages=ASKED)
    assert answer.model == "chat"
    assert answer.choices[0].message.content == samples.TEXT
    assert answer.usage is not None
    assert answer.usage.total_tokens == 29
    assert provider.last.json == {"model": samples.PROVIDER_MODEL, "messages": ASKED}
    assert provider.last.target == "/v1/chat/completions"


async def test_a_streamed_answer(client: AsyncOpenAI, provider: ScriptedProvider) -> None:
    provider.reply(replies.stream(samples.text_frames(["Hel", "lo", "!"], usage=True)))
    stream = await client.chat.completions.create(model="chat", messages=ASKED, stream=True)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello!"
    assert {chunk.model for chunk in chunks} == {"chat"}
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_usage_that_was_asked_for_comes_through(client: AsyncOpenAI, provider: ScriptedProvider) -> None:
    provider.reply(replies.stream(samples.text_frames(["Hello"], usage=True, null_usage=True)))
    stream = await client.chat.completions.create(
        model="chat", messages=ASKED, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert provider.last.json["stream_options"] == {"include_usage": True}
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens == 19


async def test_usage_that_was_not_asked_for_is_counted_and_kept_from_the_client(
    client: AsyncOpenAI, provider: ScriptedProvider
) -> None:
    provider.reply(replies.stream(samples.text_frames(["Hello"], usage=True, null_usage=True)))
    stream = await client.chat.completions.create(model="chat", messages=ASKED, stream=True)
    chunks = [chunk async for chunk in stream]
    assert provider.last.json["stream_options"] == {"include_usage": True}
    assert all(chunk.choices for chunk in chunks)
    assert all("usage" not in chunk.model_fields_set for chunk in chunks)


async def test_other_stream_options_are_kept(client: AsyncOpenAI, provider: ScriptedProvider) -> None:
    provider.reply(replies.stream(samples.text_frames(["Hello"], usage=True)))
    stream = await client.chat.completions.create(
        model="chat", messages=ASKED, stream=True, stream_options={"include_obfuscation": False}
    )
    assert [chunk async for chunk in stream]
    assert provider.last.json["stream_options"] == {"include_obfuscation": False, "include_usage": True}


async def test_tool_calls_in_pieces(client: AsyncOpenAI, provider: ScriptedProvider) -> None:
    provider.reply(replies.stream(samples.tool_call_frames()))
    stream = await client.chat.completions.create(model="chat", messages=ASKED, stream=True)
    name, arguments, finish = "", "", None
    async for chunk in stream:
        finish = chunk.choices[0].finish_reason
        for call in chunk.choices[0].delta.tool_calls or ():
            assert call.function is not None
            name += call.function.name or ""
            arguments += call.function.arguments or ""
    assert (name, arguments, finish) == ("get_weather", '{"city":"Paris"}', "tool_calls")


async def test_unknown_fields_pass_both_ways(client: AsyncOpenAI, provider: ScriptedProvider) -> None:
    provider.reply(replies.whole(samples.COMPLETION))
    extra = {"x_new": {"deep": [1, 2.50, None]}, "top_k": 40}
    answer = await client.chat.completions.create(model="chat", messages=ASKED, extra_body=extra)
    assert provider.last.json == {"model": samples.PROVIDER_MODEL, "messages": ASKED, **extra}
    assert answer.model_extra == {"x_unknown": {"model": samples.PROVIDER_MODEL, "n": 1.5}}


async def test_defaults_fill_what_is_missing_and_overrides_win(client: AsyncOpenAI, provider: ScriptedProvider) -> None:
    provider.reply(replies.whole(samples.COMPLETION))
    await client.chat.completions.create(model="tuned", messages=ASKED, temperature=0.9, max_tokens=4096)
    sent = provider.last.json
    assert (sent["temperature"], sent["seed"], sent["max_tokens"]) == (0.9, 7, 64)


async def test_only_the_gateways_own_key_and_allowed_headers_reach_the_provider(
    client: AsyncOpenAI, provider: ScriptedProvider
) -> None:
    provider.reply(replies.whole(samples.COMPLETION))
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await client.chat.completions.create(
        model="chat", messages=ASKED, extra_headers={"traceparent": trace, "openai-beta": "x=v1", "cookie": "c=1", "x-own": "1"}
    )
    headers = provider.last.headers
    assert headers["authorization"] == f"Bearer {PROVIDER_KEY}"
    assert headers["accept-encoding"] == "identity"
    assert (headers["traceparent"], headers["openai-beta"]) == (trace, "x=v1")
    assert not {"cookie", "x-own", "x-stainless-lang"} & headers.keys()


async def test_response_headers(client: AsyncOpenAI, provider: ScriptedProvider, gateway: Gateway) -> None:
    provider.reply(replies.whole(samples.COMPLETION))
    raw = await client.chat.completions.with_raw_response.create(
        model="chat", messages=ASKED, extra_headers={"x-request-id": "mine"}
    )
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.headers["x-gateway-status"] == "success"
    assert raw.headers["x-gateway-model"] == f"scripted/{samples.PROVIDER_MODEL}"
    assert raw.headers["x-gateway-attempts"] == "1"
    assert float(raw.headers["x-gateway-cost-usd"]) == pytest.approx((19 * 0.15 + 10 * 0.60) / 1e6)
    assert 0 <= float(raw.headers["x-gateway-overhead-ms"]) < 5000


async def test_models(client: AsyncOpenAI) -> None:
    listed = [model async for model in client.models.list()]
    assert {"chat", "impatient", "heartbeat", "tuned", "down"} <= {model.id for model in listed}
    assert {model.object for model in listed} == {"model"}


async def test_two_hundred_at_once(client: AsyncOpenAI, provider: ScriptedProvider) -> None:
    """None waits for another: the provider answers only when it has all of them."""
    everyone = asyncio.Event()

    def choose(heard: Heard) -> Script:
        if len(provider.heard) == 200:
            everyone.set()
        return replies.after(everyone, replies.stream(samples.text_frames(["Hello"], usage=True)))

    provider.reply_by(choose)

    async def one() -> str:
        stream = await client.chat.completions.create(model="chat", messages=ASKED, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert await asyncio.gather(*(one() for _ in range(200))) == ["Hello"] * 200


async def test_a_connection_is_used_again(client: AsyncOpenAI, provider: ScriptedProvider) -> None:
    provider.reply(replies.whole(samples.COMPLETION))
    for _ in range(5):
        await client.chat.completions.create(model="chat", messages=ASKED)
    assert provider.connections == 1


@pytest.mark.parametrize(
    ("status", "seen"),
    [(400, openai.BadRequestError), (404, openai.NotFoundError), (422, openai.UnprocessableEntityError)],
)
async def test_a_request_the_provider_refuses_is_told_in_its_own_words(
    client: AsyncOpenAI, provider: ScriptedProvider, status: int, seen: type[openai.APIStatusError]
) -> None:
    body = samples.error_body("'messages' must contain the word 'json'.", None, param="messages")
    provider.reply(replies.whole(body, status=status))
    with pytest.raises(seen) as caught:
        await client.chat.completions.create(model="chat", messages=ASKED)
    assert caught.value.response.content == body
    assert len(provider.heard) == 1


async def test_the_providers_rate_limit_is_told_with_its_wait(client: AsyncOpenAI, provider: ScriptedProvider) -> None:
    body = samples.error_body("Rate limit reached for org-secret", "rate_limit_exceeded", "tokens")
    provider.reply(replies.whole(body, status=429, headers={"retry-after": "7"}))
    with pytest.raises(openai.RateLimitError) as caught:
        await client.chat.completions.create(model="limited-as-well", messages=ASKED)
    assert caught.value.response.headers["retry-after"] == "7"
    assert "org-secret" not in caught.value.response.text


async def test_a_refused_provider_key_is_the_operators_not_the_clients(client: AsyncOpenAI, provider: ScriptedProvider) -> None:
    provider.reply(replies.whole(samples.error_body(f"Incorrect API key: {PROVIDER_KEY}", "invalid_api_key"), status=401))
    with pytest.raises(openai.InternalServerError) as caught:
        await client.chat.completions.create(model="chat", messages=ASKED)
    assert caught.value.status_code == 502
    assert caught.value.code == "provider_key_refused"
    assert PROVIDER_KEY not in caught.value.response.text


async def test_an_unknown_model(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="no-such-model") as caught:
        await client.chat.completions.create(model="no-such-model", messages=ASKED)
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError, match="no-such-model") as caught:
        await client.models.retrieve("no-such-model")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


async def test_a_failure_inside_a_stream_is_raised_by_the_sdk(client: AsyncOpenAI, provider: ScriptedProvider) -> None:
    heard = asyncio.Event()
    error = samples.sse({"error": {"message": "overloaded", "type": "server_error"}})

    async def fail(peer: Peer) -> None:
        await heard.wait()
        await peer.send(replies.chunk(error) + replies.LAST_CHUNK)

    provider.reply(replies.stream(samples.text_frames(["Hel"])[:2], then=fail))
    stream = await client.chat.completions.create(model="chat", messages=ASKED, stream=True)
    said: list[str] = []

    async def listen() -> None:
        async for chunk in stream:
            said.append(chunk.choices[0].delta.content or "")
            heard.set()

    with pytest.raises(openai.APIError):
        await listen()
    assert "".join(said) == "Hel"
