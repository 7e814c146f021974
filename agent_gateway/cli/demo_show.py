"""What the demo prints: where to look, the first answer word by word, then a line for each."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from rich.console import Console
from rich.markup import escape

from agent_gateway import __version__
from agent_gateway.cli.demo_clients import QUESTIONS, Asked
from agent_gateway.cli.serving import DASHBOARD
from agent_gateway.core.call import Dialect
from agent_gateway.wire.sse import FrameSplitter, frame_data

#: A terminal's usual width is 80 columns.
WIDTH = 79

_HEADING = "time      protocol    kind    status    answered by          first      all"
_COLOURS = {"success": "green", "fallback": "yellow", "degraded": "red", "cached": "cyan"}
_PROTOCOLS: dict[Dialect, str] = {
    "openai_chat": "chat",
    "openai_responses": "responses",
    "openai_embeddings": "embeddings",
    "anthropic": "messages",
    "gemini": "gemini",
}


@dataclass(slots=True)
class Sample:
    """One answer as its client saw it. Times in seconds since the request."""

    asked: Asked
    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    first_token_s: float | None = None
    total_s: float = 0.0
    failed: str | None = None

    def header(self, name: bytes) -> str:
        return self.headers.get(name, b"").decode("latin-1")


class Show:
    def __init__(self, config_file: Path, *, as_json: bool) -> None:
        self._config_file = config_file
        self._as_json = as_json
        self._console = Console(highlight=False)
        self._splitter = FrameSplitter()
        self._column = 0
        #: Answers that were there before the first was told to its end; None: it was.
        self._waiting: list[Sample] | None = None if as_json else []

    def greet(self, url: str) -> None:
        dashboard = f"{url}{DASHBOARD}"
        if self._as_json:
            told = {"dashboard": dashboard, "url": url, "config": str(self._config_file), "version": __version__}
            print(msgspec.json.encode(told).decode(), flush=True)
            return
        curl = (
            f"curl -N {url}/v1/chat/completions \\\n"
            '  -H \'content-type: application/json\' -d \'{"model": "gpt-4o-mini",\n'
            '  "stream": true, "messages": [{"role": "user", "content": "Hello!"}]}\''
        )
        show = self._console.print
        show(f"dashboard  [bold green]{dashboard}[/]  (Ctrl-C ends the demo)", soft_wrap=True)
        show(f"gateway    [bold]{url}[/]  agent-gateway {__version__}; figures: /metrics", soft_wrap=True)
        show(f"runs on    {escape(str(self._config_file))}\n", soft_wrap=True)
        show("Its providers are simulated: [bold]west[/] fails now and then, and [bold]shaky[/] is down for")
        show("45 s every six minutes, so that others stand in. Ask the gateway yourself:\n")
        show(escape(curl), soft_wrap=True)
        show(f"\n[bold]{escape(QUESTIONS[0])}[/]")

    def take(self, data: bytes) -> None:
        """Of the first answer, a stream of chat."""
        if self._as_json:
            return
        for frame in self._splitter.split(self._splitter.feed(data)):
            text = _text(frame)
            if text[:1] == " " and self._column + len(text) > WIDTH:
                text = f"\n{text[1:]}"
            self._column = len(text) - text.rfind("\n") - 1 if "\n" in text else self._column + len(text)
            self._console.print(escape(text), end="", style="cyan", soft_wrap=True)

    def tell(self, sample: Sample, *, is_first: bool = False) -> None:
        if self._waiting is None:
            self._print(sample)
        elif not is_first:
            self._waiting.append(sample)
        else:
            self._console.print(f"\n\nSample traffic, beside a batch:\n[dim]{_HEADING}[/]")
            waiting, self._waiting = self._waiting, None
            for each in (*waiting, sample):
                self._print(each)

    def _print(self, sample: Sample) -> None:
        status = sample.header(b"x-gateway-status") or ("error" if sample.failed or sample.status != 200 else "")
        deployment = sample.header(b"x-gateway-model")
        asked = sample.asked
        if self._as_json:
            told = {
                "request": sample.header(b"x-request-id"),
                "dialect": asked.dialect,
                "stream": asked.stream,
                "http_status": sample.status,
                "status": status,
                "deployment": deployment,
                "first_token_s": sample.first_token_s,
                "total_s": sample.total_s,
                "failed": sample.failed,
            }
            print(msgspec.json.encode(told).decode(), flush=True)
            return
        begins = f"{_PROTOCOLS[asked.dialect]:10}  {'stream' if asked.stream else 'whole':6}  [{_COLOURS.get(status, 'red')}]{status:8}[/]"
        first = "" if sample.first_token_s is None else f"{sample.first_token_s * 1000:.0f} ms"
        ends = f"{deployment or sample.status or '':19}  {first:>7}  {sample.total_s:5.2f} s"
        if sample.failed:
            ends = escape(sample.failed[: WIDTH - 40])
        self._console.print(f"[dim]{time.strftime('%H:%M:%S')}[/]  {begins}  {ends}", soft_wrap=True)


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None


class _Reply(msgspec.Struct):
    choices: list[_Choice] = []


def _text(frame: bytes) -> str:
    data = frame_data(frame)
    if data is None or data == b"[DONE]":
        return ""
    try:
        choices = msgspec.json.decode(data, type=_Reply).choices
    except msgspec.MsgspecError:
        return ""
    return "".join([choice.delta.content or "" for choice in choices if choice.delta])
