"""The demo's sample traffic, over the gateway's own socket like any client's, and what it prints of it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape

from agent_gateway import __version__
from agent_gateway.upstream.transport import Origin, Reply, Transport
from agent_gateway.wire.sse import FrameSplitter, frame_data

MODEL = "gpt-4o-mini"
QUESTIONS = (
    "What does an API gateway for AI agents do?",
    "Where is my order 1042?",
    "Summarize our return policy in two sentences.",
    "How do I reset my password?",
    "Write a haiku about latency.",
    "Which plan fits a team of five?",
)
#: Between two sample requests, on average (s).
PAUSE_S = 1.5
ANSWER_TIMEOUT_S = 30.0

#: A terminal's usual width is 80 columns.
WIDTH = 79

_HEADING = "time      kind    status    answered by        first token    total  tokens"
_COLOURS = {"success": "green", "fallback": "yellow", "degraded": "red", "cached": "cyan"}


@dataclass(slots=True)
class _Sample:
    """One answer as its client saw it. Times in seconds since the request."""

    stream: bool
    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    first_token_s: float | None = None
    total_s: float = 0.0
    tokens: int = 0
    failed: str | None = None


class Show:
    """`begin` is called when the gateway listens; it stops the gateway after `requests_max` requests, where there is such a number."""

    def __init__(self, *, as_json: bool, requests_max: int | None) -> None:
        self._as_json = as_json
        self._requests_max = requests_max
        self._console = Console(highlight=False)
        self._random = random.Random()
        self._task: asyncio.Task[None] | None = None

    def begin(self, host: str, port: int) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(Origin(host, port, tls=False)))

    async def _run(self, origin: Origin) -> None:
        transport = Transport(environ={})
        try:
            self._greet(origin)
            count = 0
            while self._requests_max is None or count < self._requests_max:
                aloud = count == 0 and not self._as_json
                sample = await self._ask(transport, origin, stream=aloud or self._random.random() < 0.7, aloud=aloud)
                count += 1
                self._tell(sample, count)
                if count != self._requests_max:
                    await asyncio.sleep(self._random.expovariate(1 / PAUSE_S))
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            await transport.close()

    # --- asking

    async def _ask(self, transport: Transport, origin: Origin, *, stream: bool, aloud: bool) -> _Sample:
        question = QUESTIONS[0] if aloud else self._random.choice(QUESTIONS)
        asked: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": question}]}
        if stream:
            asked |= {"stream": True, "stream_options": {"include_usage": True}}
        body = msgspec.json.encode(asked)
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {origin.host_header}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        sample = _Sample(stream)
        begun = time.monotonic()
        until = begun + ANSWER_TIMEOUT_S
        try:
            reply = await transport.send(origin, head.encode(), body, connect_until=until, until=until)
            sample.status, sample.headers = reply.status, reply.headers
            if aloud:
                self._console.print(f"\n[bold]{escape(question)}[/]")
            if stream and reply.status == 200:
                await self._read_stream(reply, until, begun, sample, aloud=aloud)
            else:
                sample.tokens = _output_tokens(await reply.read(until, 1 << 20))
        except Exception as error:
            sample.failed = f"{type(error).__name__}: {error}"
        sample.total_s = time.monotonic() - begun
        return sample

    async def _read_stream(self, reply: Reply, until: float, begun: float, sample: _Sample, *, aloud: bool) -> None:
        splitter = FrameSplitter()
        column = 0
        while data := await reply.next(until):
            for frame in splitter.split(splitter.feed(data)):
                text = _text(frame)
                sample.tokens = _output_tokens(frame_data(frame) or b"") or sample.tokens
                if text and sample.first_token_s is None:
                    sample.first_token_s = time.monotonic() - begun
                if text and aloud:
                    if text[0] == " " and column + len(text) > WIDTH:
                        text = f"\n{text[1:]}"
                    column = len(text) - text.rfind("\n") - 1 if "\n" in text else column + len(text)
                    self._console.print(escape(text), end="", style="cyan", soft_wrap=True)
        if aloud:
            self._console.print("\n")

    # --- telling

    def _greet(self, origin: Origin) -> None:
        if self._as_json:
            return
        url = f"http://{origin.host_header}"
        curl = (
            f"curl -N {url}/v1/chat/completions \\\n"
            f"  -H 'content-type: application/json' -d '{{\"model\": \"{MODEL}\",\n"
            '  "stream": true, "messages": [{"role": "user", "content": "Hello!"}]}\''
        )
        show = self._console.print
        show(f"[bold green]agent-gateway {__version__}[/] at [bold]{url}[/]  (Ctrl-C stops it)", soft_wrap=True)
        show(f"Figures for Prometheus: {url}/metrics\n", soft_wrap=True)
        show("Two simulated providers: [bold]shaky[/] fails now and then, [bold]sim[/] then stands in for it.")
        show(f"Ask the model [bold]{MODEL}[/] something:\n")
        show(escape(curl), soft_wrap=True)

    def _tell(self, sample: _Sample, count: int) -> None:
        status = _text_of(sample.headers, b"x-gateway-status") or ("error" if sample.failed or sample.status != 200 else "")
        deployment = _text_of(sample.headers, b"x-gateway-model")
        if self._as_json:
            told = {
                "request": _text_of(sample.headers, b"x-request-id"),
                "stream": sample.stream,
                "http_status": sample.status,
                "status": status,
                "deployment": deployment,
                "first_token_s": sample.first_token_s,
                "total_s": sample.total_s,
                "output_tokens": sample.tokens,
                "failed": sample.failed,
            }
            print(msgspec.json.encode(told).decode(), flush=True)
            return
        if count == 1:
            self._console.print(f"Sample traffic:\n[dim]{_HEADING}[/]")
        begins = f"{'stream' if sample.stream else 'whole':6}  [{_COLOURS.get(status, 'red')}]{status:8}[/]"
        first = "" if sample.first_token_s is None else f"{sample.first_token_s * 1000:.0f} ms"
        answered = deployment or str(sample.status)
        ends = f"{answered:17}  {first:>11}  {sample.total_s:5.2f} s  {sample.tokens:6d}"
        if sample.failed:
            ends = escape(sample.failed[: WIDTH - 28])
        self._console.print(f"[dim]{time.strftime('%H:%M:%S')}[/]  {begins}  {ends}", soft_wrap=True)


def _text_of(headers: dict[bytes, bytes], name: bytes) -> str:
    return headers.get(name, b"").decode("latin-1")


class _Usage(msgspec.Struct):
    completion_tokens: int = 0


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None


class _Reply(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None


def _output_tokens(body: bytes) -> int:
    try:
        usage = msgspec.json.decode(body, type=_Reply).usage
    except msgspec.MsgspecError:
        return 0
    return usage.completion_tokens if usage else 0


def _text(frame: bytes) -> str:
    data = frame_data(frame)
    if data is None or data == b"[DONE]":
        return ""
    try:
        choices = msgspec.json.decode(data, type=_Reply).choices
    except msgspec.MsgspecError:
        return ""
    return "".join([choice.delta.content or "" for choice in choices if choice.delta])
