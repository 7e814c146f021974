"""What open streams and requests cost the gateway as there are more of them: memory and CPU of each, and the time it adds.

    python benchmarks/scaling.py [--streams 1 100 1000 4000 8000] [--workers 1 2] [--state sqlite redis postgres both] [--seconds 30]
                                 [--tokens 40]

As many clients as `--streams` says have a stream open all the time, at one token a second; each ends after `--tokens`, and its client asks
for the next. The provider answers at once, so a stream's time to first token is what gateway, provider and load generator add between
them. Memory is the proportional set size of all the gateway's processes, less what they had before the first stream, a stream; the text
of the answers is in it. CPU of Redis and PostgreSQL is told by itself. Exits 1 where a stream fails, or 8,000 streams of one worker miss a
goal.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import product, starmap
from pathlib import Path
from typing import Any

import uvloop
from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).parent.parent))

from agent_gateway.bench.client import Client
from agent_gateway.bench.load import Load
from agent_gateway.bench.run import Run
from agent_gateway.bench.tally import Figures
from agent_gateway.cli.calm import calm_collector
from agent_gateway.core.open_files import raise_open_files
from agent_gateway.upstream.transport import Transport
from tests.kit.gateway import Gateway
from tests.kit.ports import free_port
from tests.kit.servers import Postgres, Redis, Server, own

#: A stream: its tokens, one a second.
TOKENS = 40
TOKEN_EVERY_S = 1.0
WORD = b" telemetry"
FILES = 20_000
#: Nothing is looked at so soon after they are all open, or so soon before the end (s).
MARGIN_S = 2.0
#: Requests of one token, for what a request costs: clients at the most, and for how long (s). Records are written by so much later (s).
REQUESTERS, REQUESTS_S, RECORDS_BEHIND_S = 50, 4.0, 1.5
STATES: dict[str, tuple[type[Server], ...]] = {"sqlite": (), "redis": (Redis,), "postgres": (Postgres,), "both": (Redis, Postgres)}
GOAL_STREAMS, GOAL_STREAM_BYTES, GOAL_FIRST_TOKEN_S = 8_000, 25 * 1024, 0.050

_START = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":'
_FRAME = _START + b'{"content":"' + WORD + b'"},"logprobs":null,"finish_reason":null}]}\n\n'
_END = (
    _START + b'{},"logprobs":null,"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[],'
    b'"usage":{"prompt_tokens":200,"completion_tokens":%d,"total_tokens":%d}}\n\ndata: [DONE]\n\n' % (TOKENS, TOKENS + 200)
)
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_TOKENS = re.compile(rb'"max_tokens":(\d+)')
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


# --- the provider -----------------------------------------------------------------------------------------------------


class Streamer(asyncio.Protocol):
    """Answers every POST with a stream, the first token of it at once."""

    def __init__(self) -> None:
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._left = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n") + 4
        length = _LENGTH.search(self._buffer[:head_end]) if head_end > 3 else None
        if length is None or len(self._buffer) < head_end + int(length[1]):
            return
        tokens = _TOKENS.search(self._buffer)
        assert tokens is not None
        self._left = int(tokens[1])
        self._buffer = self._buffer[head_end + int(length[1]) :]
        self._send(_HEAD)

    def _send(self, before: bytes = b"") -> None:
        if self._transport is None:
            return
        self._left -= 1
        if self._left:
            self._transport.write(before + chunk(_FRAME))
            asyncio.get_running_loop().call_later(TOKEN_EVERY_S, self._send)
        else:
            self._transport.write(before + chunk(_FRAME) + chunk(_END) + b"0\r\n\r\n")


async def provide(port: int) -> None:
    raise_open_files(FILES)
    calm_collector()
    server = await asyncio.get_running_loop().create_server(Streamer, "127.0.0.1", port, backlog=4096)
    print("ready", flush=True)
    await server.serve_forever()


@contextmanager
def provider() -> Iterator[str]:
    port = free_port()
    with subprocess.Popen([sys.executable, __file__, "--provide", str(port)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n", "the provider did not start"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


# --- the gateway, from outside ----------------------------------------------------------------------------------------


def processes(roots: Sequence[int]) -> list[int]:
    """They and all that they have started."""
    found, parents = [*roots], {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            continue
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found


def told_of(roots: Sequence[int], name: str) -> Iterator[str]:
    for process in processes(roots):
        with suppress(OSError):  # it has just ended
            yield Path(f"/proc/{process}/{name}").read_text()


def memory_bytes(roots: Sequence[int]) -> int:
    """Proportional set size."""
    lines = [line for text in told_of(roots, "smaps_rollup") for line in text.splitlines()]
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def cpu_s(roots: Sequence[int]) -> float:
    """With what those that have ended took."""
    stats = [text.rpartition(")")[2].split() for text in told_of(roots, "stat")]
    return sum(sum(map(int, stat[11:15])) for stat in stats) / os.sysconf("SC_CLK_TCK")


# --- one measurement --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    streams: int
    workers: int = 1
    state: str = "sqlite"
    #: Of a stream, so how many seconds it is open.
    tokens: int = TOKENS


@dataclass(frozen=True)
class Cost:
    """CPU of a request that is answered with one token, and of a token of a stream that is open (s)."""

    request_s: float
    token_s: float


@dataclass(frozen=True)
class Measured:
    case: Case
    gateway: Cost
    #: Redis and PostgreSQL together.
    stores: Cost
    stream_bytes: float
    figures: Figures

    @property
    def goals_met(self) -> bool:
        first_token = self.figures.first_token
        if first_token is None or self.figures.failed:
            return False
        if self.case.streams < GOAL_STREAMS or self.case.workers > 1:
            return True
        return self.stream_bytes < GOAL_STREAM_BYTES + self.case.tokens * len(WORD) and first_token["p99"] < GOAL_FIRST_TOKEN_S

    def row(self) -> str:
        told = self.figures.first_token
        times = f"{'':17}" if told is None else f"{told['p50'] * 1e3:8.1f} {told['p99'] * 1e3:8.1f}"
        memory = f"{self.stream_bytes / 1024:8.1f}" if self.case.streams >= 100 else f"{'':8}"
        costs = " ".join(f"{seconds * 1e6:8.0f}" for cost in (self.gateway, self.stores) for seconds in (cost.request_s, cost.token_s))
        case = f"{self.case.streams:7} {self.case.workers:7} {self.case.state:>8}"
        return f"{case} {costs} {memory} {times} {self.figures.failed:6} {os.getloadavg()[0]:6.1f}"


HEADINGS = """\
                        gateway, CPU µs  stores, CPU µs   a stream time to first
streams workers    state  request    token  request    token       KB   p50 ms   p99 ms failed   load"""


def measure(case: Case, seconds: float) -> Measured:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        url = stack.enter_context(provider())
        stores = [running(kind, stack) for kind in STATES[case.state]]
        gateway = Gateway(Path(folder), configuration(case, url, stores), "fast lane")
        stack.callback(gateway.close)
        gateway.start()
        return uvloop.run(observe(case, gateway, stores, seconds))


def running(kind: type[Server], stack: ExitStack) -> Server:
    made = own(kind)
    stack.callback(made.remove)
    made.start()
    return made


def configuration(case: Case, url: str, stores: Sequence[Server]) -> dict[str, Any]:
    state = {"database": "sqlite:///agent-gateway.db"}
    state |= {"redis" if isinstance(store, Redis) else "database": store.url() for store in stores}
    return {
        "server": {"workers": case.workers},
        "state": state,
        # Where a busy machine makes first tokens late, that would be taken for the provider's overload.
        "concurrency": {"adaptive": False},
        "limits": {"requests_per_minute": 10_000_000, "max_parallel": 1_000_000},
        "providers": {"far": {"kind": "openai", "base_url": f"{url}/v1", "api_key": "x"}},
        "models": {"m": {"deployments": [{"provider": "far", "model": "m", "price": {"input": 0.15, "output": 0.6}}]}},
    }


async def observe(case: Case, gateway: Gateway, stores: Sequence[Server], seconds: float) -> Measured:
    roots = [gateway.process.pid], [store.process_id for store in stores]
    load = Load(url=gateway.url, model="m", mode="stream", concurrency=min(case.streams, REQUESTERS), output_tokens=1, warm_up_s=0)
    await loaded(replace(load, duration_s=1))  # what is made once is there
    before_s = [cpu_s(each) for each in roots]
    requests = (await loaded(replace(load, duration_s=min(REQUESTS_S, seconds / 4)))).requests
    await asyncio.sleep(RECORDS_BEHIND_S)
    request_s = [(cpu_s(each) - before) / requests for each, before in zip(roots, before_s, strict=True)]
    before_bytes = memory_bytes(roots[0])
    ramp_s = case.tokens * TOKEN_EVERY_S  # so that they go on to end, and to begin, one after the other
    loading = asyncio.ensure_future(
        loaded(replace(load, concurrency=case.streams, output_tokens=case.tokens, ramp_s=ramp_s, duration_s=seconds))
    )
    await asyncio.sleep(ramp_s + MARGIN_S)
    began, before_s = time.monotonic(), [cpu_s(each) for each in roots]
    await asyncio.sleep(seconds - 2 * MARGIN_S)
    tokens = case.streams * (time.monotonic() - began) / TOKEN_EVERY_S
    token_s = [(cpu_s(each) - before) / tokens for each, before in zip(roots, before_s, strict=True)]
    stream_bytes = (memory_bytes(roots[0]) - before_bytes) / case.streams
    ours, theirs = map(Cost, request_s, token_s)
    return Measured(case, ours, theirs, stream_bytes, await loading)


async def loaded(load: Load) -> Figures:
    transport = Transport(max_connections=load.concurrency, environ={})
    try:
        return await Run(load, Client(load, None, transport)).figures()
    finally:
        await transport.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 100, 1000, 4000, 8000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1])
    parser.add_argument("--state", nargs="+", choices=STATES, default=["sqlite"])
    parser.add_argument("--seconds", type=float, default=30, help="how long all of them are open and looked at")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of a stream, one a second")
    parser.add_argument("--provide", type=int, metavar="PORT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.provide is not None:
        uvloop.run(provide(arguments.provide))
        return 0
    raise_open_files(FILES)
    calm_collector()
    print(HEADINGS)
    met = True
    for case in starmap(Case, product(arguments.streams, arguments.workers, arguments.state, [arguments.tokens])):
        measured = measure(case, arguments.seconds)
        print(measured.row(), flush=True)
        met &= measured.goals_met
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
