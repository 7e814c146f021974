"""What a record costs: CPU of a request from `submit` to its row on disk, with 400 bytes asked and 300 answered.

python benchmarks/recorder.py [--requests N] [--rate R] [--stream]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import tempfile
import time
from pathlib import Path

import uvloop

from agent_gateway.core.call import Call
from agent_gateway.core.clock import new_request_id
from agent_gateway.core.exchange import Attempt, Exchange
from agent_gateway.core.pricing import Price
from agent_gateway.core.settings import Monitoring, MonitoringMode
from agent_gateway.core.usage import Usage
from agent_gateway.record.metrics import Metrics
from agent_gateway.record.recorder import Recorder
from agent_gateway.record.row import make_record
from agent_gateway.record.sinks.database import DatabaseSink
from agent_gateway.stores.base import Key

PROMPT = "Hello, who are you and what can you do for me today? Please answer in a few sentences. "
ANSWER = "I am a model. " * 12
REQUEST = f'{{"model":"chat","messages":[{{"role":"user","content":"{PROMPT * 3}"}}],"temperature":0.7,"max_tokens":64}}'.encode()
WHOLE = (
    '{"id":"chatcmpl-abc123","object":"chat.completion","created":1700000000,"model":"chat","choices":[{"index":0,"message":'
    f'{{"role":"assistant","content":"{ANSWER}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":19,"completion_tokens":42}}}}'
).encode()
FRAME = (
    b'data: {"id":"chatcmpl-abc123","object":"chat.completion.chunk","created":1700000000,"model":"chat",'
    b'"choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}]}\n\n'
)
PRICE = Price(input=0.15, output=0.6)
DEPLOYMENT = "local/gpt-4o-mini"
KEY = Key("k7f3a9c21d04", "bench")


def exchange(stream: bool) -> Exchange:
    now, wall = time.monotonic(), time.time()
    usage = Usage(input=19, output=42)
    attempt = Attempt(DEPLOYMENT, now + 0.0001, now + 0.0002, now + 0.001, now + 0.001, now + 0.002, "success", 200)
    attempt.usage, attempt.cost_usd, attempt.price = usage, PRICE.cost_usd(usage), PRICE
    made = Exchange(new_request_id(wall), Call("openai_chat", "chat", REQUEST, stream), now, wall, key=KEY)
    made.attempts.append(attempt)
    sent = [FRAME] * 64 if stream else [WHOLE]
    made.answer += sent
    made.answer_bytes = sum(map(len, sent))
    made.deployment, made.usage, made.finish_reason, made.status = attempt.deployment, usage, "stop", "success"
    made.http_status, made.first_token, made.ended = 200, now + 0.001, now + 0.0021
    return made


async def whole_way(path: Path | None, requests: int, rate: float, stream: bool, mode: MonitoringMode) -> tuple[float, int]:
    """CPU seconds of the process beyond making the exchanges; and rows written."""
    sink = DatabaseSink(path)
    recorder = Recorder(Metrics(), [sink])
    recorder.configure(Monitoring(mode=mode), ["chat"], [DEPLOYMENT])
    await recorder.start()
    made = [exchange(stream) for _ in range(requests)]
    gc.collect()
    gc.freeze()  # what is made in advance here would not be there in a gateway
    per_tick = max(int(rate / 1000), 1)
    idle = time.process_time()
    for _ in range(200):
        await asyncio.sleep(0.001)
    tick_s = (time.process_time() - idle) / 200
    start, begun = time.process_time(), time.perf_counter()
    ticks = 0
    for place in range(0, requests, per_tick):
        for item in made[place : place + per_tick]:
            recorder.begin(item)
            recorder.submit(item)
        ticks += 1
        await asyncio.sleep(max(begun + ticks / 1000 - time.perf_counter(), 0))
    await recorder.close(60)
    return time.process_time() - start - ticks * tick_s, sink.written


def parts(stream: bool) -> None:
    count = 5000
    items = [exchange(stream) for _ in range(count)]
    recorder = Recorder(Metrics())
    recorder.configure(Monitoring(), ["chat"], [DEPLOYMENT])
    start = time.process_time()
    for item in items:
        recorder.begin(item)
        recorder.submit(item)
    submitted = time.process_time()
    recorder.fold()
    folded = time.process_time()
    for item in items:
        make_record(item, "full")
    rows = time.process_time()
    steps = {"begin + submit": submitted - start, "cost and metrics": folded - submitted, "row": rows - folded}
    print("  " + " · ".join(f"{name} {seconds / count * 1e6:.2f} µs" for name, seconds in steps.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=30_000)
    parser.add_argument("--rate", type=float, default=10_000, help="requests per second")
    parser.add_argument("--stream", action="store_true", help="answers of 64 chunks")
    arguments = parser.parse_args()
    parts(arguments.stream)
    modes: tuple[MonitoringMode, ...] = ("full", "minimal", "off")
    for mode in modes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "bench.records.db"
            cpu_s, written = uvloop.run(whole_way(path, arguments.requests, arguments.rate, arguments.stream, mode))
            size = path.stat().st_size / max(written, 1) if path.exists() else 0
        print(f"  {mode:8} {cpu_s / arguments.requests * 1e6:6.2f} µs of CPU a request · {written} rows · {size:.0f} bytes a row")


if __name__ == "__main__":
    main()
