"""Embeddings and completions that come together are one call upstream, over both edges, and no client can tell."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest
from openai import AsyncOpenAI, BadRequestError

from agent_gateway.protocols.base import codec_of
from agent_gateway.simulator import embeddings
from agent_gateway.simulator.embeddings import vector
from agent_gateway.simulator.settings import SimulatorSettings
from agent_gateway.simulator.simulator import Simulator
from tests.kit import replies, samples
from tests.kit.client import Wire, ask, connect, request
from tests.kit.eventually import PATIENCE_S, eventually
from tests.kit.gateway import Gateway
from tests.kit.provider import Heard, Script, ScriptedProvider

CALLERS = 1000
CALLS_MAX = 40
MODEL = "gathering"
DIMENSIONS = 16
#: What a provider takes for an answer, so that others can gather meanwhile (s).
TOOK_S = 0.25

Callers = Callable[[int], Awaitable[list[Wire]]]

_simulator = Simulator(SimulatorSettings(ttft_ms=0, tokens_per_s=0))


def answer(heard: Heard) -> Script:
    """As the simulated model would; inputs that are bad make the whole call bad."""
    if heard.target.endswith("/completions"):
        return replies.later(
            TOOK_S, replies.whole(b"".join(frame.data for frame in _simulator.reply("openai_completions", heard.body).frames))
        )
    if "bad" in heard.json["input"]:
        return replies.later(TOOK_S, replies.whole(samples.error_body("'bad' is no text.", "invalid_value"), 400))
    call = codec_of("openai_embeddings").read_call(heard.body, {}, "")
    return replies.later(TOOK_S, replies.whole(embeddings.answer(call)[0]))


def held(*events: asyncio.Event) -> Callable[[Heard], Script]:
    """The first calls are answered when they are told to be; what comes before, gathers behind them."""
    waiting = iter(events)

    def choose(heard: Heard) -> Script:
        event = next(waiting, None)
        return answer(heard) if event is None else replies.after(event, answer(heard))

    return choose


async def under_way(gateway: Gateway, count: int) -> None:
    """So many requests are in, and no more."""
    sign = f'agent_gateway_in_flight{{model="{MODEL}"}} {count}.0\n'.encode()
    until = time.monotonic() + PATIENCE_S
    while sign not in (told := (await ask(gateway.url, "/metrics")).content):
        assert time.monotonic() < until, told
        await asyncio.sleep(0.01)


@pytest.fixture
async def callers(gateway: Gateway) -> AsyncIterator[Callers]:
    """Connected, so that they can all ask at one moment."""
    async with AsyncExitStack() as stack:

        async def connected(count: int) -> list[Wire]:
            return [await stack.enter_async_context(connect(gateway.url)) for _ in range(count)]

        yield connected


async def embedded(wire: Wire, text: str) -> tuple[dict[str, str], Any]:
    body = msgspec.json.encode({"model": MODEL, "input": text, "dimensions": DIMENSIONS})
    await wire.send(request("POST", "/v1/embeddings", body))
    reply = await wire.reply()
    assert reply.status == 200, reply.body
    return reply.headers, reply.json


async def test_a_thousand_embeddings_are_few_calls_with_the_same_vectors(
    gateway: Gateway, provider: ScriptedProvider, callers: Callers
) -> None:
    provider.reply_by(answer)
    texts = [f"text number {number}" for number in range(CALLERS)]
    told = await asyncio.gather(*map(embedded, await callers(CALLERS), texts))
    assert 1 < len(provider.heard) <= CALLS_MAX
    for text, (_, body) in zip(texts, told, strict=True):
        assert [item["index"] for item in body["data"]] == [0]
        assert body["data"][0]["embedding"] == pytest.approx(vector(text, DIMENSIONS))
        assert body["model"] == MODEL
    # What the provider counted is what the clients were told, and what the records say.
    counted = [embeddings.answer(codec_of("openai_embeddings").read_call(heard.body, {}, ""))[0] for heard in provider.heard]
    tokens = sum(msgspec.json.decode(body)["usage"]["prompt_tokens"] for body in counted)
    assert sum(body["usage"]["prompt_tokens"] for _, body in told) == tokens
    ids = {headers["x-request-id"] for headers, _ in told}
    assert len(ids) == CALLERS
    await eventually(lambda: ids <= {record["id"] for record in gateway.records}, "a record of each")
    records = [record for record in gateway.records if record["id"] in ids]
    assert sum(record["input_tokens"] for record in records) == tokens
    assert sum(record["cost_usd"] for record in records) == pytest.approx(tokens * 0.15 / 1e6)
    attempts = [msgspec.json.decode(record["attempts"])[0] for record in records]
    assert sum(1 / attempt.get("shared_by", 1) for attempt in attempts) == pytest.approx(len(provider.heard))


async def test_a_bad_input_fails_alone(client: AsyncOpenAI, provider: ScriptedProvider) -> None:
    provider.reply_by(answer)
    texts = ["first", *[f"good {number}" for number in range(5)], "bad", "good 6"]
    told = await asyncio.gather(
        *[client.embeddings.create(model=MODEL, input=text, dimensions=DIMENSIONS) for text in texts], return_exceptions=True
    )
    assert [text for text, answer in zip(texts, told, strict=True) if isinstance(answer, BaseException)] == ["bad"]
    error = told[texts.index("bad")]
    assert isinstance(error, BadRequestError)
    assert (error.code, error.message) == ("invalid_value", "Error code: 400 - 'bad' is no text.")
    assert len(provider.heard) < len(texts) + 3


async def test_a_caller_that_hangs_up_takes_nothing_from_the_others(gateway: Gateway, provider: ScriptedProvider, callers: Callers) -> None:
    all_in, has_left = asyncio.Event(), asyncio.Event()
    provider.reply_by(held(all_in, has_left))
    leaver, *others = await callers(4)
    first = asyncio.create_task(embedded(others[0], "first"))
    await eventually(lambda: len(provider.heard) == 1, "the first call")
    leaving = asyncio.create_task(embedded(leaver, "leaver"))
    staying = [asyncio.create_task(embedded(wire, text)) for wire, text in zip(others[1:], ("a", "b"), strict=True)]
    await under_way(gateway, 4)
    all_in.set()
    await eventually(lambda: len(provider.heard) == 2, "the one that the others share")
    leaving.cancel()
    leaver.hang_up()
    await first
    await under_way(gateway, 2)
    has_left.set()
    told = [await first, *[await task for task in staying]]
    assert [body["data"][0]["embedding"] for _, body in told] == [pytest.approx(vector(text, DIMENSIONS)) for text in ("first", "a", "b")]
    assert len(provider.heard) == 2


async def test_completions_too(gateway: Gateway, client: AsyncOpenAI, provider: ScriptedProvider) -> None:
    all_in = asyncio.Event()
    provider.reply_by(held(all_in))
    prompts = ["Once upon a time", "In the beginning", "Call me", "It was the best of times"]
    asked = asyncio.gather(*[client.completions.create(model=MODEL, prompt=prompt, max_tokens=12) for prompt in prompts])
    await under_way(gateway, len(prompts))
    all_in.set()
    told = await asked
    assert len(provider.heard) == 2
    alone = [await client.completions.create(model=MODEL, prompt=prompt, max_tokens=12) for prompt in prompts]
    assert [one.choices[0].text for one in told] == [one.choices[0].text for one in alone]
    assert len({one.id for one in told}) == len(prompts)
    assert sum(one.usage.total_tokens for one in told if one.usage) == sum(one.usage.total_tokens for one in alone if one.usage)
