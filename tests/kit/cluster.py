"""Two gateways on one Redis and one PostgreSQL under load, and one of them killed and started again: what limits, sessions, batches and
streams make of it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from openai import AsyncOpenAI

from tests.kit import replies, samples
from tests.kit.batches import asked, chats, jsonl, read_jsonl
from tests.kit.client import CHAT, Reply, ask, chat_request, connect, request
from tests.kit.gateway import Gateway
from tests.kit.load import Load
from tests.kit.provider import Heard, Peer, Script, ScriptedProvider

#: An answer takes so long (s), and so many tokens.
ANSWER_S = 0.05
TOKENS = 40
#: A stream says so many words, so far apart (s).
WORDS, WORD_S = 20, 0.25
_ANSWER = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Well."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": TOKENS // 2, "completion_tokens": TOKENS // 2, "total_tokens": TOKENS},
}
_FRAMES = samples.text_frames([f"word{number} " for number in range(WORDS)], usage=True)
_Limits = Mapping[str, Mapping[str, int]]


class Upstream:
    """The provider, which knows best what was let in."""

    def __init__(self, provider: ScriptedProvider) -> None:
        #: When it was asked, by model (monotonic s).
        self.asked: defaultdict[str, list[float]] = defaultdict(list)
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        provider.reply_by(self._script)

    def _script(self, heard: Heard) -> Script:
        model = heard.json["model"]
        self.asked[model].append(time.monotonic())
        if heard.json.get("stream"):
            return replies.stream(_FRAMES, gap_s=WORD_S)
        answer = replies.later(ANSWER_S, replies.whole(msgspec.json.encode(_ANSWER)))

        async def counted(peer: Peer) -> None:
            self.running[model] += 1
            self.most[model] = max(self.most[model], self.running[model])
            try:
                await answer(peer)
            finally:
                self.running[model] -= 1

        return counted

    def rate_over(self, model: str, allowed: float, but: int = 0) -> float:
        """What was let in, `but` so many, as a share of what a minute's allowance lets in over that time."""
        times = self.asked[model]
        return (len(times) - but) / (allowed * (1 + (times[-1] - times[0]) / 60))


def configuration(provider: ScriptedProvider, database: str, redis: str, limits: _Limits, workers: int = 1) -> dict[str, Any]:
    """With a model for each of the `limits`, and two that have none."""

    def model(name: str, **more: Any) -> dict[str, Any]:
        return {"deployments": [{"provider": "scripted", "model": name, "price": {"input": 1, "output": 1}}], **more}

    models = {name: model(name) for name in ("open", "batched")}
    models |= {name: model(name, limits=each) for name, each in limits.items()}
    return {
        "server": {"workers": workers, "drain_timeout_s": 10},
        "state": {"database": database, "redis": redis},
        "fallback": {"reply": None},
        "retries": {"max_attempts": 1},
        "providers": {"scripted": {"kind": "openai", "base_url": provider.base_url, "api_key": "x"}},
        "models": models,
    }


@asynccontextmanager
async def cluster(folder: Path, config: dict[str, Any], count: int = 2) -> AsyncIterator[list[Gateway]]:
    gateways = []
    for number in range(count):
        (folder / f"gateway-{number}").mkdir()
        gateways.append(Gateway(folder / f"gateway-{number}", config, "fast lane"))
    try:
        await asyncio.gather(*(asyncio.to_thread(gateway.start) for gateway in gateways))
        yield gateways
    finally:
        for gateway in gateways:
            gateway.close()


@asynccontextmanager
async def pressure(gateways: Sequence[Gateway], rates: Mapping[str, float]) -> AsyncIterator[dict[str, list[Load]]]:
    """On each model so many requests a second at each gateway."""
    async with AsyncExitStack() as stack:
        loads: defaultdict[str, list[Load]] = defaultdict(list)
        for model, rate in rates.items():
            for gateway in gateways:
                load = Load(gateway.url, chat_request(model, max_tokens=TOKENS // 2), clients=16, rate=rate)
                loads[model].append(await stack.enter_async_context(load.running()))
        yield loads


# --- sessions ---------------------------------------------------------------------------------------------------------


@dataclass
class Talk:
    """One session, whose turns go to whichever gateway answers, from one to the next."""

    name: str
    told: list[str] = field(default_factory=list)
    #: Turns whose answer never came.
    lost: list[str] = field(default_factory=list)

    async def go_on(self, gateways: Sequence[Gateway], ended: asyncio.Event) -> None:
        turn = 0
        while not ended.is_set():
            turn += 1
            text = f"turn {turn}"
            try:
                gateway = gateways[turn % len(gateways)]
                reply = await ask(gateway.url, CHAT, asked(text, "open"), headers={"x-session-id": self.name})
            except (OSError, EOFError):
                self.lost.append(text)
                await asyncio.sleep(0.1)
                continue
            assert reply.status == 200, reply.body
            self.told.append(text)
            await asyncio.sleep(0.05)

    async def check(self, gateway: Gateway) -> None:
        """Each turn that was answered is there, once and in order; of the others nobody knows."""
        reply = await ask(gateway.url, f"/v1/sessions/{self.name}")
        said = [turn["body"]["content"] for turn in reply.json["turns"] if turn["body"]["role"] == "user"]
        assert [text for text in said if text not in self.lost] == self.told


# --- streams ----------------------------------------------------------------------------------------------------------


@dataclass
class Listener:
    """A resumable stream that is begun at one gateway, and read on at another where that one dies."""

    here: Gateway
    there: Gateway
    words: int = 0
    outcome: str = ""

    async def listen(self) -> None:
        body = asked("Tell me.", "open", stream=True)
        async with connect(self.here.url) as wire:
            await wire.send(request("POST", CHAT, msgspec.json.encode(body), {"x-gateway-resumable": "true"}))
            head = await wire.head()
            seen, taken_over = b"", False
            try:
                while piece := await wire.piece():
                    seen += piece
            except (OSError, EOFError):
                taken_over = True
        last = seen.count(b"\nid: ")
        if taken_over:
            seen += (await self._resumed(head.headers["x-request-id"], last)).body
        self.words = seen.count(b'"content":"word')
        if b"[DONE]" in seen:
            self.outcome = "whole"
        else:
            self.outcome = "taken over" if taken_over and b"stream_lost" in seen else "lost"

    async def _resumed(self, request_id: str, last: int) -> Reply:
        return await ask(self.there.url, f"/v1/streams/{request_id}", headers={"last-event-id": str(last)})


# --- batches ----------------------------------------------------------------------------------------------------------


async def submit(gateway: Gateway, items: int) -> str:
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="x") as client:
        file = await client.files.create(file=("requests.jsonl", jsonl(chats(items, "batched"))), purpose="batch")
        return (await client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")).id


async def results(gateway: Gateway, batch_id: str, within_s: float) -> list[Any]:
    """The output's lines, when it has ended."""
    until = time.monotonic() + within_s
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="x") as client:
        while (batch := await client.batches.retrieve(batch_id)).status not in ("completed", "failed", "expired"):
            assert time.monotonic() < until, batch
            await asyncio.sleep(0.2)
        assert batch.output_file_id is not None, batch
        return read_jsonl((await client.files.content(batch.output_file_id)).content)
