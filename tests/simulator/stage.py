"""What the simulator's tests share: a clock that sleeping moves on, and requests and replies in short."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import msgspec

from agent_gateway.core.clock import Clock
from agent_gateway.simulator.player import Player
from agent_gateway.simulator.settings import SimulatorSettings
from agent_gateway.simulator.simulator import Reply, Simulator
from agent_gateway.wire.sse import FrameSplitter, frame_data

#: No chance in it: 100 ms, then a token every 10 ms, 20 tokens.
STEADY = SimulatorSettings(ttft_ms=100, tokens_per_s=100, output_tokens=20, output_spread=0, jitter=0)
FUNCTION = {
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
}


@dataclass(slots=True)
class Time:
    """Stands still but for sleepers, who move it on at once."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    @property
    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.now, wall=lambda: 1_700_000_000.0)

    async def sleep(self, seconds: float) -> None:
        assert 0 < seconds < float("inf"), seconds
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


def tool(name: str = "get_weather", **parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {**FUNCTION, "name": name, **({"parameters": parameters} if parameters else {})}}


def chat(question: str = "How do I return a parcel?", model: str = "gpt-4o-mini", **fields: Any) -> bytes:
    return msgspec.json.encode({"model": model, "messages": [{"role": "user", "content": question}], **fields})


def reply_to(body: bytes, settings: SimulatorSettings = STEADY, steering: str = "") -> Reply:
    return Simulator(settings, Time().clock).reply("openai_chat", body, steering)


def body_of(reply: Reply) -> bytes:
    return b"".join([frame.data for frame in reply.frames])


def answer_to(body: bytes, settings: SimulatorSettings = STEADY) -> Any:
    reply = reply_to(body, settings)
    assert reply.status == 200, body_of(reply)
    return msgspec.json.decode(body_of(reply))


def said_to(body: bytes, settings: SimulatorSettings = STEADY) -> str:
    content = answer_to(body, settings)["choices"][0]["message"]["content"]
    assert isinstance(content, str)
    return content


def events_of(stream: bytes) -> list[Any]:
    """The frames' JSON, and `[DONE]` as it is."""
    carried = [frame_data(frame) or b"" for frame in FrameSplitter.split(stream)]
    return [data.decode() if data == b"[DONE]" else msgspec.json.decode(data) for data in carried]


def stream_of(body: bytes, settings: SimulatorSettings = STEADY, steering: str = "") -> list[Any]:
    return events_of(body_of(reply_to(body, settings, steering)))


async def perform(reply: Reply, time: Time) -> list[tuple[float, bytes]]:
    """What came when, in seconds since the beginning."""
    start = time.now
    player = Player(reply, time.clock, time.sleep)
    await player.open()
    came = []
    while data := await player.next():
        came.append((round(time.now - start, 6), data))
    return came
