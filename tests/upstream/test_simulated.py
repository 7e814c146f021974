"""The in-process provider: the bytes of the HTTP simulator, the errors of a real provider, and no wait past its deadline."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent_gateway.core.call import Call
from agent_gateway.core.errors import (
    ConnectionCut,
    ProviderError,
    ProviderFault,
    ProviderKeyRefused,
    ProviderModelMissing,
    ProviderRateLimited,
    ProviderRefusedRequest,
)
from agent_gateway.core.exchange import Attempt
from agent_gateway.core.route import Deployment
from agent_gateway.simulator.simulator import Simulator
from agent_gateway.upstream.base import PROVIDERS, Answer
from agent_gateway.upstream.outgoing import outgoing
from agent_gateway.upstream.providers.simulated import SimulatedProvider
from agent_gateway.upstream.transport import ReadTimeout
from tests.simulator.stage import STEADY, Time, body_of, chat, events_of

FOREVER = 1_000_000.0


class Stage:
    """One provider on a clock of its own."""

    def __init__(self) -> None:
        self.time = Time()
        self.provider = SimulatedProvider(STEADY, None, self.time.clock, self.time.sleep)
        self.attempt = Attempt("sim/small", self.time.now)

    async def send(
        self, model: str = "small", until: float = FOREVER, *, stream: bool = False, wants_usage: bool = True
    ) -> Answer:
        options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": wants_usage}} if stream else {}
        call = Call("openai_chat", "public", chat(model="public", **options), stream=stream, wants_usage=wants_usage)
        deployment = Deployment(f"sim/{model}", "sim", model)
        dialect = self.provider.speaks(call, deployment)
        return await self.provider.send(
            call,
            deployment,
            self.attempt,
            dialect=dialect,
            body=outgoing(call, dialect, deployment),
            connect_until=FOREVER,
            until=until,
        )


def expected(stream: bool) -> bytes:
    options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    return body_of(Simulator(STEADY, Time().clock).reply("openai_chat", chat(model="small", **options)))


async def all_of(answer: Answer) -> bytes:
    data = b""
    while part := await answer.next(FOREVER):
        data += part
    return data


def test_it_is_in_the_seat() -> None:
    assert PROVIDERS.load("simulated") is SimulatedProvider
    assert msgspec.convert({"kind": "simulated", "ttft_ms": 5}, SimulatedProvider.Settings).ttft_ms == 5


async def test_it_is_steered_by_deployment() -> None:
    stage = Stage()
    stage.provider = SimulatedProvider(
        STEADY, None, stage.time.clock, stage.time.sleep, steering=lambda deployment: "fail-401" if deployment.model == "locked" else ""
    )
    assert await all_of(await stage.send()) == expected(stream=False)
    with pytest.raises(ProviderKeyRefused):
        await stage.send("locked")


async def test_a_unary_answer_is_the_simulators() -> None:
    stage = Stage()
    answer = await stage.send()
    assert await answer.read(FOREVER) == expected(stream=False)
    assert stage.time.now == pytest.approx(1000 + 0.1 + 19 * 0.01)


async def test_a_stream_is_the_simulators() -> None:
    stage = Stage()
    answer = await stage.send(stream=True)
    assert stage.time.now == pytest.approx(1000.1)
    assert await all_of(answer) == expected(stream=True)
    assert await answer.next(FOREVER) == b""


async def test_the_attempt_is_told_what_happened_when() -> None:
    stage = Stage()
    await stage.send(stream=True)
    assert stage.attempt.connected == 1000
    assert stage.attempt.first_byte == pytest.approx(1000.1)
    assert stage.attempt.provider_status == 200


async def test_usage_is_asked_for_as_of_any_provider() -> None:
    events = events_of(await all_of(await Stage().send(stream=True, wants_usage=False)))
    assert events[-2]["usage"]["completion_tokens"] == 20
    assert {event["model"] for event in events[:-1]} == {"small"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, ProviderRefusedRequest),
        (401, ProviderKeyRefused),
        (403, ProviderKeyRefused),
        (404, ProviderModelMissing),
        (408, ProviderFault),
        (409, ProviderFault),
        (413, ProviderRefusedRequest),
        (422, ProviderRefusedRequest),
        (429, ProviderRateLimited),
        (500, ProviderFault),
        (503, ProviderFault),
        (529, ProviderFault),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_status_becomes_its_class_of_error(status: int, kind: type[ProviderError], stream: bool) -> None:
    stage = Stage()
    with pytest.raises(ProviderError) as caught:
        await stage.send(f"small:fail-{status}", stream=stream)
    error = caught.value
    assert type(error) is kind
    assert error.provider_status == stage.attempt.provider_status == status
    assert error.retry_after_s == (1 if status == 429 else None)
    assert ("simulated" in error.message) is isinstance(error, ProviderRefusedRequest), "of a refusal the client learns the reason"
    if isinstance(error, ProviderRefusedRequest):
        assert (error.content_type, set(msgspec.json.decode(error.body))) == ("application/json", {"error"})


@pytest.mark.parametrize("stream", [False, True])
async def test_a_hang_lasts_until_the_deadline(stream: bool) -> None:
    stage = Stage()
    with pytest.raises(ReadTimeout):
        await stage.send("small:hang", until=1030, stream=stream)
    assert stage.time.now == 1030


async def test_silence_in_the_stream_lasts_until_the_deadline() -> None:
    stage = Stage()
    answer = await stage.send("small:hang-3", stream=True)
    assert len(events_of(await answer.next(FOREVER) + await answer.next(FOREVER))) == 3
    for until in (1050.0, 1060.0):
        with pytest.raises(ReadTimeout):
            await answer.next(until)
        assert stage.time.now == until


async def test_a_deadline_between_tokens_may_be_followed_by_another_wait() -> None:
    stage = Stage()
    answer = await stage.send(stream=True)
    first = await answer.next(FOREVER)
    with pytest.raises(ReadTimeout):
        await answer.next(stage.time.now + 0.005)
    assert first + await all_of(answer) == expected(stream=True)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_cut_is_a_lost_connection(stream: bool) -> None:
    answer = await Stage().send("small:cut-3", stream=stream)
    with pytest.raises(ConnectionCut):
        await (all_of(answer) if stream else answer.read(FOREVER))


async def test_closing_is_idempotent_and_ends_the_answer() -> None:
    stage = Stage()
    answer = await stage.send(stream=True)
    answer.close()
    answer.close()
    assert await answer.next(FOREVER) == b""
    await stage.provider.close()
