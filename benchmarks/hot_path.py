"""CPU of one request through everything but the sockets: µs a unary request, µs a streamed chunk, passed through and translated.

    python benchmarks/hot_path.py [--rounds 5] [--only unary] [--limits] [--monitoring minimal,full] [--profile]

Both ends are transports that hold the bytes: what the client would have received is counted, the provider answers from a can. The
figure is the process's CPU time, best of the rounds, so it holds on a noisy machine; the kernel's part is not in it.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import uvloop
from uvicorn.config import Config
from uvicorn.server import ServerState

from agent_gateway.admission.keys import create_key
from agent_gateway.app import Gateway
from agent_gateway.cli.calm import calm_collector, let_generators_go
from agent_gateway.control.load import load
from agent_gateway.core.settings import Monitoring, MonitoringMode
from agent_gateway.edge.fast_lane import FastLane
from agent_gateway.stores.base import open_store
from agent_gateway.upstream.connection import Connection
from agent_gateway.upstream.dialer import Dialer

CHUNKS = 64
CONCURRENCY = 32
ANSWER = msgspec.json.encode(
    {
        "id": "chatcmpl-abc123",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "gpt-4o-mini",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 50}, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 19, "completion_tokens": 50, "total_tokens": 69},
    }
)
UNARY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)
FRAME = (
    b'data: {"id":"chatcmpl-abc123","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o-mini",'
    b'"choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}]}\n\n'
)
#: OpenAI pads its frames, so that nobody sees by their lengths how long the words are: a frame for each chunk of a stream.
PADDED = [FRAME.replace(b"}]}", b'}],"obfuscation":"%b"}' % (b"aZ09" * 4)[: 1 + number % 16]) for number in range(CHUNKS)]
LAST = (
    b'data: {"id":"chatcmpl-abc123","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o-mini",'
    b'"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"chatcmpl-abc123","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o-mini",'
    b'"choices":[],"usage":{"prompt_tokens":19,"completion_tokens":64,"total_tokens":83}}\n\ndata: [DONE]\n\n'
)
PADDED_PLEASE = b"Padded, please. "
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
#: That are never reached.
LIMITS = """
    limits: {requests_per_minute: 100000000, tokens_per_minute: 100000000000}
limits: {requests_per_minute: 100000000, tokens_per_minute: 100000000000, max_parallel: 100000, budget: {usd: 1000000}}
"""


class Wire:
    """A transport to nowhere."""

    def __init__(self, on_write: Callable[[bytes], None]) -> None:
        self.write = on_write

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def close(self) -> None: ...

    abort = pause_reading = resume_reading = close


class Provider:
    """Answers each request from the can, a chunk a turn of the loop; padded where the conversation wants it so."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.connection: Connection | None = None

    def asked(self, data: bytes) -> None:
        if b'"stream":true' in data:
            frames = PADDED if PADDED_PLEASE in data else [FRAME] * CHUNKS
            self._loop.call_soon(self._send, STREAM_HEAD + chunk(frames[0]), frames, 1)
        else:
            self._loop.call_soon(self._send, UNARY, [], 1)

    def _send(self, data: bytes, frames: Sequence[bytes], following: int) -> None:
        assert self.connection is not None
        self.connection.data_received(data)
        if following < len(frames):
            self._loop.call_soon(self._send, chunk(frames[following]), frames, following + 1)
        elif following == len(frames):
            self._loop.call_soon(self._send, chunk(LAST) + b"0\r\n\r\n", frames, following + 1)


def answer_from_a_can(loop: asyncio.AbstractEventLoop) -> None:
    """Every connection to a provider from here on is to one of these."""

    async def dial(self: Dialer, until: float) -> Connection:
        provider = Provider(loop)
        connection = Connection(loop, 65536)
        connection.connection_made(Wire(provider.asked))  # type: ignore[arg-type]
        provider.connection = connection
        return connection

    Dialer.dial = dial  # type: ignore[method-assign]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Client:
    """Sends the next request when an answer has ended."""

    def __init__(self, lane: FastLane, request: bytes, end: bytes, done: Callable[[], bool]) -> None:
        self._lane, self._request, self._end, self._done = lane, request, end, done
        self._loop = asyncio.get_running_loop()
        lane.connection_made(Wire(self.received))  # type: ignore[arg-type]

    def send(self) -> None:
        self._lane.data_received(self._request)

    def received(self, data: bytes) -> None:
        if data.endswith(self._end) and not self._done():
            self._loop.call_soon(self.send)


@dataclass(frozen=True)
class Case:
    name: str
    path: str
    stream: bool
    requests: int
    #: Of the protocol: which member holds the conversation, and which bounds the answer.
    says: str = "messages"
    limits: str = "max_tokens"
    padded: bool = False

    @property
    def end(self) -> bytes:
        """What an answer's last write ends with."""
        return b"0\r\n\r\n" if self.stream else b"}"

    @property
    def events(self) -> int:
        return CHUNKS + 2 if self.stream else 1

    def request(self, key: str) -> bytes:
        said = "Who are you? " * 12 + (PADDED_PLEASE.decode() if self.padded else "")
        asked = {"model": "chat-default", self.says: [{"role": "user", "content": said}], self.limits: 256}
        if self.stream:
            asked["stream"] = True
        if self.stream and self.path == CHAT:
            asked["stream_options"] = {"include_usage": True}
        body = msgspec.json.encode(asked)
        head = f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nAuthorization: Bearer {key}\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


CHAT = "/v1/chat/completions"
#: The provider speaks OpenAI chat.
CASES = (
    Case("unary", CHAT, stream=False, requests=1000),
    Case("stream", CHAT, stream=True, requests=100),
    Case("padded", CHAT, stream=True, requests=100, padded=True),
    Case("to anthropic", "/v1/messages", stream=True, requests=100),
    Case("padded to it", "/v1/messages", stream=True, requests=100, padded=True),
    Case("to responses", "/v1/responses", stream=True, requests=100, says="input", limits="max_output_tokens"),
)


async def measure(gateway: Gateway, request: bytes, case: Case) -> float:
    """CPU seconds of the case's requests, `CONCURRENCY` at a time."""
    loop = asyncio.get_running_loop()
    finished = loop.create_future()
    left = case.requests

    def done() -> bool:
        nonlocal left
        left -= 1
        if left == 0:
            finished.set_result(None)
        return left < CONCURRENCY

    state = ServerState()
    config = Config(gateway.app, log_config=None)
    lanes = [
        FastLane(gateway.live, gateway.limits, gateway.app.refusals, config=config, server_state=state, app_state={})
        for _ in range(CONCURRENCY)
    ]
    clients = [Client(lane, request, case.end, done) for lane in lanes]
    begun = time.process_time()
    for client in clients:
        client.send()
    await finished
    await asyncio.sleep(0.2)  # the recorder's part
    spent = time.process_time() - begun
    for lane in lanes:
        lane.connection_lost(None)
    return spent


async def run(gateway: Gateway, key: str, cases: list[Case], rounds: int, modes: list[MonitoringMode], profile: bool) -> None:
    """The modes take turns, round by round: what else the machine does strikes all of them alike."""
    await gateway.app._started()
    for case in cases:
        request = case.request(key)
        await measure(gateway, request, case)
        spent: dict[MonitoringMode, list[float]] = {mode: [] for mode in modes}
        profiler = cProfile.Profile() if profile else None
        if profiler:
            profiler.enable()
        for _ in range(rounds):
            for mode, times in spent.items():
                gateway._recorder.configure(Monitoring(mode=mode), ["chat-default"])
                times.append(await measure(gateway, request, case))
        if profiler:
            profiler.disable()
            pstats.Stats(profiler).sort_stats("tottime").print_stats(45)
        for mode, times in spent.items():
            each_us = min(times) / case.requests * 1e6
            a_chunk = f"   {each_us / case.events:6.2f} µs a chunk" if case.stream else ""
            over = median([mine - first for mine, first in zip(times, spent[modes[0]], strict=True)]) / case.requests * 1e6
            more = f"   {over:+6.2f} µs over {modes[0]} in the median round" if mode != modes[0] else ""
            print(f"{case.name:14}{mode if len(modes) > 1 else '':9}{each_us:8.2f} µs a request{a_chunk}{more}", flush=True)
    await gateway.app._stopped()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--limits", action="store_true", help="with three limits and a budget of the key, and two limits of the model")
    parser.add_argument("--monitoring", default="full", help="what is recorded; several (minimal,full) are compared")
    parser.add_argument("--only", default="", help="names of cases, separated by commas")
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    only = arguments.only.split(",") if arguments.only else [case.name for case in CASES]
    cases = [case for case in CASES if case.name in only]
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        configuration = configuration_in(Path(folder), LIMITS if arguments.limits else "")
        _, key = runner.run(create_key(open_store(configuration.settings.state.database), "benchmark"))

        async def go() -> None:
            answer_from_a_can(asyncio.get_running_loop())
            gateway = Gateway(configuration)
            calm_collector()
            let_generators_go()
            await run(gateway, key, cases, arguments.rounds, arguments.monitoring.split(","), arguments.profile)

        runner.run(go())


def configuration_in(folder: Path, limits: str = "") -> Any:
    path = folder / "gateway.yaml"
    path.write_text(
        f"""
state: {{database: "sqlite:///{folder}/gateway.db"}}
auth: {{admin_key: sk-admin-0123456789}}
providers: {{local: {{kind: openai, base_url: "http://127.0.0.1:9/v1", api_key: x}}}}
models:
  chat-default:
    deployments: [{{provider: local, model: gpt-4o-mini, price: {{input: 0.15, output: 0.60}}}}]
{limits}"""
    )
    return load(path, {})


if __name__ == "__main__":
    main()
