"""An hour of traffic as the gateway records it: its real code, over simulated providers, in virtual time, with incidents in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, suppress
from random import Random
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from agent_gateway.app import Gateway
from agent_gateway.control.load import compile_mapping
from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.clock import Clock, new_request_id
from agent_gateway.core.errors import GatewayError
from agent_gateway.core.exchange import Attempt, Exchange
from agent_gateway.core.route import Deployment
from agent_gateway.pipeline import Runtime, run
from agent_gateway.protocols.base import codec_of
from agent_gateway.record.metrics import Metrics
from agent_gateway.record.recorder import Recorder
from agent_gateway.record.row import Record
from agent_gateway.rehearsal.virtual_time import run_virtually
from agent_gateway.simulator.settings import SimulatorSettings
from agent_gateway.upstream.base import Answer, Provider
from agent_gateway.upstream.providers.simulated import SimulatedProvider

BEGINS = 1_760_000_000.0
HOUR_S = 3600.0
_USUAL = {
    "east": SimulatorSettings(ttft_ms=400, tokens_per_s=40, output_tokens=24, output_spread=0.8, jitter=0.4, error_rate=0.01),
    "west": SimulatorSettings(ttft_ms=700, tokens_per_s=25, output_tokens=24, output_spread=0.8, jitter=0.4, error_rate=0.01),
    "cheap": SimulatorSettings(ttft_ms=250, tokens_per_s=80, output_tokens=24, output_spread=0.8, jitter=0.4, error_rate=0.01),
}
#: Deployments' ways, by provider: usually, during its incident, and when that is (s since the hour began).
WAYS: dict[str, tuple[SimulatorSettings, SimulatorSettings, tuple[float, float]]] = {
    "east": (_USUAL["east"], replace(_USUAL["east"], error_rate=0.9, cut_rate=0.1), (1200.0, 1800.0)),
    "west": (_USUAL["west"], replace(_USUAL["west"], ttft_ms=2800, tokens_per_s=12), (2400.0, 2700.0)),
    "cheap": (_USUAL["cheap"], replace(_USUAL["cheap"], rate_limit_rate=0.3), (3000.0, 3060.0)),
}
CHAT = [
    {"provider": "east", "model": "large", "weight": 2, "price": {"input": 2.5, "output": 10}},
    {"provider": "west", "model": "large", "weight": 1, "price": {"input": 2, "output": 8}},
]
SMALL = {"deployments": [{"provider": "cheap", "model": "small", "price": {"input": 0.15, "output": 0.6}}]}
RECORDED: dict[str, Any] = {
    "providers": {name: {"kind": "simulated"} for name in WAYS},
    "models": {"chat": {"deployments": CHAT, "strategy": "weighted", "fallbacks": ["small"]}, "small": SMALL},
}


def changed(**chat: Any) -> dict[str, Any]:
    """The recorded configuration with another policy for `chat`."""
    return {**RECORDED, "models": {**RECORDED["models"], "chat": {**RECORDED["models"]["chat"], **chat}}}


class Troubled:
    """A simulated provider that has an incident."""

    Settings: ClassVar[type[msgspec.Struct]] = SimulatorSettings

    def __init__(self, name: str, clock: Clock, seed: int) -> None:
        usual, troubled, self._incident = WAYS[name]
        self._clock = clock
        self._usual, self._troubled = (SimulatedProvider(replace(settings, seed=seed), None, clock) for settings in (usual, troubled))

    def speaks(self, call: Call, deployment: Deployment) -> Dialect:
        return call.dialect

    def takes_several(self, dialect: Dialect) -> bool:
        return self._usual.takes_several(dialect)

    async def send(
        self, call: Call, deployment: Deployment, attempt: Attempt, *, dialect: Dialect, body: bytes, connect_until: float, until: float
    ) -> Answer:
        begins, ends = self._incident
        now = self._usual if not begins <= self._clock.wall() - BEGINS < ends else self._troubled
        return await now.send(call, deployment, attempt, dialect=dialect, body=body, connect_until=connect_until, until=until)

    def redact(self, text: str) -> str:
        return text

    async def close(self) -> None:
        """Holds nothing."""


class Kept:
    """A sink that keeps the rows."""

    name = "kept"
    adopted = 0
    dropped = 0

    def __init__(self) -> None:
        self.rows: list[Record] = []

    @property
    def written(self) -> int:
        return len(self.rows)

    def start(self) -> None: ...

    def keep(self, retention_days: float) -> None: ...

    def write(self, records: Sequence[Record]) -> None:
        self.rows += records

    async def erase(self, user: str) -> int:
        return 0

    async def close(self, timeout_s: float) -> None: ...


def calls(seed: int, per_s: float) -> list[tuple[float, Call]]:
    """When they come (s since the hour began), and what: streams and whole answers, of two models, of very different lengths."""
    chance = Random(seed)
    codec = codec_of("openai_chat")
    at = 0.0
    made: list[tuple[float, Call]] = []
    while (at := at + chance.expovariate(per_s)) < HOUR_S:
        text = "so " * int(min(20 * chance.lognormvariate(2, 1), 4000))
        body = {
            "model": chance.choices(["chat", "small"], [3, 1])[0],
            "stream": chance.random() < 0.6,
            "messages": [{"role": "user", "content": f"{len(made)} {text}"}],
        }
        made.append((at, codec.read_call(msgspec.json.encode(body), {}, "/v1/chat/completions")))
    return made


def hour(raw: Mapping[str, Any], seed: int = 1, per_s: float = 1.0) -> list[Record]:
    """What the gateway records of it under this configuration, oldest first. The traffic of a seed is the same under any."""
    configuration = compile_mapping(dict(raw))

    async def main(clock: Clock) -> list[Record]:
        kept = Kept()
        recorder = Recorder(Metrics(), [kept], clock)
        providers: dict[str, Provider] = {name: Troubled(name, clock, seed + number) for number, name in enumerate(WAYS)}
        gateway = Gateway.rehearsal(configuration, clock, recorder=recorder, providers=providers, random=Random(seed))
        await recorder.start()
        tasks = []
        for at, call in calls(seed, per_s):
            await asyncio.sleep(at - clock.monotonic())
            tasks.append(asyncio.create_task(_ask(call, gateway.live.runtime)))
        await asyncio.wait(tasks)
        await recorder.close(10)
        return sorted(kept.rows, key=lambda record: record.started_ms)

    return run_virtually(main, wall=BEGINS)


async def each(records: Sequence[Record]) -> AsyncIterator[Sequence[Record]]:
    """As they are read."""
    yield records


async def _ask(call: Call, runtime: Runtime) -> None:
    clock = runtime.clock
    exchange = Exchange(id=new_request_id(clock.wall()), call=call, started=clock.monotonic(), started_wall=clock.wall())
    with suppress(GatewayError):
        async with aclosing(run(exchange, runtime)) as events:
            async for _ in events:
                pass
