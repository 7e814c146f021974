"""Bodies and SSE frames are the provider's, byte for byte, but for the model's name and the usage nobody asked for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.kit import replies, samples
from tests.kit.client import CHAT, ask, chat, chat_request, connect
from tests.kit.gateway import Gateway
from tests.kit.provider import Peer, ScriptedProvider
from tests.kit.replies import Framing

WORDS = [
    "I am ",
    '"gpt-4o-mini-2024-07-18"',
    ' "model":"gpt-4o-mini-2024-07-18" ',
    "你好 \\n\n\r\t\u2028",
    '"usage":null}',
    "data: [DONE]",
]
ASKED: dict[str, Any] = {"stream_options": {"include_usage": True}}


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a_whole_body(gateway: Gateway, provider: ScriptedProvider, framing: Framing) -> None:
    provider.reply(replies.whole(samples.COMPLETION, framing=framing))
    reply = await ask(gateway.url, CHAT, chat())
    assert (reply.status, reply.complete) == (200, True)
    assert reply.body == samples.renamed(samples.COMPLETION, "chat")
    assert reply.headers["content-type"] == "application/json"


async def test_a_model_deeper_down_is_not_the_answers_model(gateway: Gateway, provider: ScriptedProvider) -> None:
    choice = b'{"index":0,"message":{"role":"assistant","content":"hi","model":"b"},"finish_reason":"stop"}'
    body = b'{"x":{"model":"a"},"choices":[%b] ,\t"model" : "c"}' % choice
    provider.reply(replies.whole(body))
    assert (await ask(gateway.url, CHAT, chat())).body == body.replace(b'"c"', b'"chat"')


@pytest.mark.parametrize("framing", ["chunked", "close"])
@pytest.mark.parametrize("more", [ASKED, {}], ids=["usage asked", "usage not asked"])
async def test_a_stream(gateway: Gateway, provider: ScriptedProvider, framing: Framing, more: dict[str, Any]) -> None:
    sent = samples.text_frames(WORDS, usage=True)
    provider.reply(replies.stream(sent, framing=framing))
    reply = await ask(gateway.url, CHAT, chat(stream=True, **more))
    expected = sent if more else [frame for frame in sent if frame != samples.usage_frame()]
    assert reply.complete
    assert reply.body == samples.renamed(b"".join(expected), "chat")
    assert reply.headers["content-type"].startswith("text/event-stream")


async def test_null_usage_that_only_the_gateway_asked_for_is_taken_out(gateway: Gateway, provider: ScriptedProvider) -> None:
    provider.reply(replies.stream(samples.text_frames(WORDS, usage=True, null_usage=True)))
    reply = await ask(gateway.url, CHAT, chat(stream=True))
    assert reply.body == samples.renamed(b"".join(samples.text_frames(WORDS)), "chat")


async def test_null_usage_that_the_client_asked_for_is_left(gateway: Gateway, provider: ScriptedProvider) -> None:
    sent = b"".join(samples.text_frames(WORDS, usage=True, null_usage=True))
    provider.reply(replies.stream([sent]))
    reply = await ask(gateway.url, CHAT, chat(stream=True, **ASKED))
    assert reply.body == samples.renamed(sent, "chat")


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("size", [1, 7, 64, 1500])
async def test_a_stream_in_whatever_pieces_it_comes(
    gateway: Gateway, provider: ScriptedProvider, size: int, newline: bytes
) -> None:
    sent = b"".join([b": hello\n\n", *samples.text_frames(WORDS)]).replace(b"\n", newline)
    head = replies.head(200, {"content-type": "text/event-stream", "content-length": str(len(sent))})
    provider.reply(replies.raw(head + sent, sizes=size, end="hang"))
    reply = await ask(gateway.url, CHAT, chat(stream=True))
    expected = samples.renamed(sent.replace(newline, b"\n"), "chat").replace(b"\n", newline)
    assert reply.body == expected


async def test_frames_with_other_fields(gateway: Gateway, provider: ScriptedProvider) -> None:
    """Comments, names and ids before the data; spaces left out after the colon."""
    frames = samples.text_frames(["a", "b", "c", "d"], usage=True)
    befores = [b"event: chunk\n", b": hi\n", b"id: 1\nretry: 10\n", b"", b"", b"event: x\n", b"event: usage\n", b""]
    sent = [before + frame for before, frame in zip(befores, frames, strict=True)]
    sent[3] = sent[3].replace(b"data: ", b"data:")
    provider.reply(replies.stream(sent))
    reply = await ask(gateway.url, CHAT, chat(stream=True))
    assert reply.body == samples.renamed(b"".join(frame for frame in sent if b'"usage"' not in frame), "chat")


async def test_tool_calls(gateway: Gateway, provider: ScriptedProvider) -> None:
    sent = samples.tool_call_frames()
    provider.reply(replies.stream(sent))
    reply = await ask(gateway.url, CHAT, chat(stream=True))
    assert reply.body == samples.renamed(b"".join(sent), "chat")


async def test_several_choices_and_pretty_printed_frames(gateway: Gateway, provider: ScriptedProvider) -> None:
    sent = b"".join(
        b'data: { "id": "x", "choices": [ {"index": %d, "delta": {"content": "%b"}, "finish_reason": %b} ], "model": "%b" }\n\n'
        % row
        for row in [
            (0, b"a", b"null", samples.PROVIDER_MODEL.encode()),
            (1, b"b", b"null", samples.PROVIDER_MODEL.encode()),
            (0, b"", b'"stop"', samples.PROVIDER_MODEL.encode()),
            (1, b"", b'"length"', samples.PROVIDER_MODEL.encode()),
        ]
    )
    sent += samples.DONE
    provider.reply(replies.stream([sent]))
    assert (await ask(gateway.url, CHAT, chat(stream=True))).body == samples.renamed(sent, "chat")


async def test_a_large_body(gateway: Gateway, provider: ScriptedProvider) -> None:
    body = samples.COMPLETION.replace(b"I am", b"I am" * 500_000)
    provider.reply(replies.whole(body))
    assert (await ask(gateway.url, CHAT, chat())).body == samples.renamed(body, "chat")


async def test_the_request_reaches_the_provider_unchanged_but_for_the_model(gateway: Gateway, provider: ScriptedProvider) -> None:
    message = b'{"role":"user","content":"\xe4\xbd\xa0 \\u4f60"}'
    body = b'{"model":"chat","messages":[%b],"n":1.0,"big":12345678901234567890,"e":1e400}' % message
    provider.reply(replies.whole(samples.COMPLETION))
    assert (await ask(gateway.url, CHAT, body)).status == 200
    assert provider.last.body == body.replace(b'"chat"', f'"{samples.PROVIDER_MODEL}"'.encode())


async def test_a_token_goes_on_when_it_comes(gateway: Gateway, provider: ScriptedProvider) -> None:
    """Not when the next one does, and not at the end."""
    frames = samples.text_frames(["one", "two"])
    said = asyncio.Event()

    async def go_on(peer: Peer) -> None:
        await said.wait()
        await peer.send(replies.chunk(b"".join(frames[2:])) + replies.LAST_CHUNK)

    provider.reply(replies.stream(frames[:2], then=go_on))
    async with connect(gateway.url) as wire:
        await wire.send(chat_request(stream=True))
        assert (await wire.head()).status == 200
        assert b"one" in await wire.piece()
        said.set()
        rest = await wire.pieces()
    assert rest == samples.renamed(b"".join(frames[2:]), "chat")
