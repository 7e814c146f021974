"""What it costs to translate: µs a chunk for every pair of protocols, a stream of one relayed as one of the other; µs a request.

    python benchmarks/translation.py [--rounds 7] [--only openai_chat,anthropic]

CPU time of the process, best of the rounds. The provider's stream is what its codec writes, a read each chunk. A chunk of a translated
stream may cost 30 µs over sockets; `hot_path.py` has all of it but those.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import cast

from rich.console import Console
from rich.table import Table

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.conversation import Conversation, Text, Thinking, Tool, ToolResult, ToolUse, Turn
from agent_gateway.core.delta import (
    ArgumentsDelta,
    Delta,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallStarted,
    Used,
)
from agent_gateway.core.route import Deployment
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.base import AnswerHead, Codec, codec_of
from agent_gateway.protocols.relay import TranslatingRelay

#: Those that a conversation is translated between.
DIALECTS: tuple[Dialect, ...] = ("openai_chat", "openai_responses", "anthropic", "gemini")
CHUNKS = 64
#: Streams, and requests, of one round.
REPEATS = 50
HEAD = AnswerHead("abc123", 1_700_000_000, "the-model")
DEPLOYMENT = Deployment("provider/the-model", "provider", "the-model")

#: What is said in as many chunks, but for Gemini's tool calls, which come in one.
SAID: dict[str, list[Delta]] = {
    "text": [TextDelta(" token")] * CHUNKS,
    "arguments": [
        ToolCallStarted(0, "call_1", "look"),
        ArgumentsDelta(0, '{"at":['),
        *[ArgumentsDelta(0, '"a",')] * (CHUNKS - 3),
        ArgumentsDelta(0, '"a"]}'),
    ],
    "thoughts": [*[ReasoningDelta(" so")] * (CHUNKS - 1), TextDelta("Yes.")],
}
ASKED = Conversation(
    model="the-model",
    turns=(
        Turn("system", (Text("You are a helpful assistant. " * 20),)),
        Turn("user", (Text("What is the weather in Rome and in Oslo?"),)),
        Turn(
            "assistant",
            (Text("Let me look."), ToolUse("call_1", "weather", '{"city":"Rome"}'), ToolUse("call_2", "weather", "{}")),
        ),
        Turn("user", (ToolResult("call_1", (Text("Sunny."),), "weather"), ToolResult("call_2", (Text("Rain."),), "weather"))),
        Turn("assistant", (Text("Sunny in Rome, rain in Oslo. " * 10),)),
        Turn("user", (Text("And tomorrow? " * 20),)),
    ),
    tools=tuple(
        [
            Tool(name, "Looks it up.", {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})
            for name in ("weather", "forecast", "map")
        ]
    ),
    stream=True,
    max_output_tokens=512,
    temperature=0.5,
    thinking=Thinking("low"),
)


def call_of(dialect: Dialect) -> Call:
    return Call(dialect, "the-model", b"{}", stream=True, wants_usage=True)


def written(codec: Codec, said: list[Delta]) -> list[bytes]:
    """A provider's stream, a read each."""
    writer = codec.stream_writer(HEAD, call_of(codec.dialect))
    deltas = [Started("abc123", "the-model", 1_700_000_000), *said, Finished("stop"), Used(Usage(input=19, output=CHUNKS))]
    return [frames for frames in [*[writer.write([delta]) for delta in deltas], writer.end()] if frames]


def translate(provider: Codec, client: Codec, chunks: list[bytes]) -> None:
    relay = TranslatingRelay(provider.stream_reader(), client.stream_writer(HEAD, call_of(client.dialect)))
    for chunk in chunks:
        relay.feed(chunk)
    relay.finish()


def best_us(run: Callable[[], object], rounds: int) -> float:
    """CPU of one run in microseconds."""
    times = []
    for _ in range(rounds):
        begun = time.process_time()
        for _ in range(REPEATS):
            run()
        times.append(time.process_time() - begun)
    return min(times) / REPEATS * 1e6


def table(title: str, codecs: list[Codec], cell: Callable[[Codec, Codec], float]) -> Table:
    """A row a provider's protocol, a column a client's."""
    shown = Table(title=title, title_justify="left")
    shown.add_column("provider \\ client")
    for codec in codecs:
        shown.add_column(codec.dialect, justify="right")
    for provider in codecs:
        cells = ["–" if provider is client else f"{cell(provider, client):.1f}" for client in codecs]
        shown.add_row(provider.dialect, *cells)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default=",".join(DIALECTS), help="protocols, separated by commas")
    arguments = parser.parse_args()
    codecs = [codec_of(cast("Dialect", name)) for name in arguments.only.split(",")]
    console = Console()
    for name, said in SAID.items():

        def a_chunk(provider: Codec, client: Codec, said: list[Delta] = said) -> float:
            chunks = written(provider, said)
            return best_us(lambda: translate(provider, client, chunks), arguments.rounds) / CHUNKS

        console.print(table(f"µs a chunk of {name}", codecs, a_chunk))

    def a_request(provider: Codec, client: Codec) -> float:
        call = client.read_call(client.write_request(ASKED, DEPLOYMENT), {}, _path(client.dialect))
        return best_us(lambda: provider.write_request(client.read_conversation(call), DEPLOYMENT), arguments.rounds)

    console.print(table("µs a request (six turns, three tools)", codecs, a_request))


def _path(dialect: Dialect) -> str:
    """Where Gemini's model and method stand; the others do not look at it."""
    return "/v1beta/models/the-model:streamGenerateContent" if dialect == "gemini" else ""


if __name__ == "__main__":
    main()
