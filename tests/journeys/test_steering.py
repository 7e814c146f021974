"""What steers a request before and while it is answered: hedges, the client's own deadline, parameters per deployment, breakers, the
degradation controller, and streams that are fetched whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from agent_gateway.core.settings import FIXED_REPLY
from tests.kit import chains, replies, samples
from tests.kit.chains import PATIENT, Scripts, backup_of, chain, configuration, deployment, gateway_says, outcomes, recorded, text_of
from tests.kit.chains import at_provider as at
from tests.kit.client import CHAT, Reply, ask, chat
from tests.kit.eventually import PATIENCE_S
from tests.kit.gateway import EdgeName, Gateway
from tests.kit.provider import Peer, Script

#: The noise of a busy machine (s); with it a request ends before `chains.TOTAL_S`.
NOISE_S = 5.0
#: Answers that a quantile is made of.
WARM = 20
#: Requests before the controller judges.
JUDGED = 50
FRAMES = samples.text_frames(["Hel", "lo"], usage=True)
GOOD = {False: replies.whole(samples.COMPLETION), True: replies.stream(FRAMES)}
TEXT = {False: samples.TEXT, True: "Hello"}
FAILS = replies.whole(b"{}", status=500)
streaming = pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])

LONG = {"override": {"max_tokens": 2048}}
SHORT = {"default": {"temperature": 0.3, "seed": 7}, "override": {"max_tokens": 1024}}
PATIENT_BREAKER = {"consecutive_failures": 1_000_000, "min_requests": 1_000_000}


async def _headers_only(peer: Peer) -> None:
    await peer.send(replies.head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"}))
    await peer.forever()


#: How a call is slow.
SLOW: dict[str, Script] = {"silent": replies.hang, "headers": _headers_only}


def _models() -> dict[str, Any]:
    models: dict[str, Any] = {}
    for stream in ("unary", "stream"):
        for slow in SLOW:
            name = f"hedged-{stream}-{slow}"
            models[name] = {
                "strategy": "priority",
                "deployments": [deployment(name), deployment(f"{name}-beside")],
                "hedging": {"enabled": True, "after": "p95", "max_share": 1},
                "timeouts": PATIENT,  # one slow answer among the first must not make the hedge later than the timeout
            }
        models |= chain(f"hurried-{stream}") | chain(f"hurried-bare-{stream}", fallback={"reply": None})
        models |= chain(f"tuned-{stream}", own=LONG, others=SHORT)
        models |= chain(f"steered-{stream}", breaker=PATIENT_BREAKER) | chain(f"broken-{stream}")
    for case in ("up", "fallback", "down"):
        models |= chain(f"fetched-{case}", streaming={"enabled": False})
    return models


@pytest.fixture(scope="module")
def running(edge: EdgeName, provider_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    config = configuration({"scripted": f"http://127.0.0.1:{provider_port}/v1"}, _models())
    with chains.running(tmp_path_factory.mktemp("steering"), edge, config) as gateway:
        yield gateway


async def _ask(gateway: Gateway, model: str, *, stream: bool, headers: dict[str, str] | None = None, **more: Any) -> Reply:
    return await ask(gateway.url, CHAT, chat(model, stream=stream, **more), headers=headers)


def _name(kind: str, *, stream: bool) -> str:
    return f"{kind}-{'stream' if stream else 'unary'}"


# --- hedging ----------------------------------------------------------------------------------------------------------


@streaming
@pytest.mark.parametrize("slow", list(SLOW))
async def test_a_slow_call_is_overtaken_and_billed(running: Gateway, scripts: Scripts, stream: bool, slow: str) -> None:
    model = f"{_name('hedged', stream=stream)}-{slow}"
    beside = f"{model}-beside"
    scripts.play(GOOD[stream], model, beside)
    for _ in range(WARM):
        assert (await _ask(running, model, stream=stream)).status == 200
    scripts.play(SLOW[slow], model)
    reply = await _ask(running, model, stream=stream)
    assert (reply.status, *gateway_says(reply)) == (200, "success", None, "2")
    assert reply.headers["x-gateway-model"] == f"scripted/{at(beside)}"
    assert text_of(reply, stream=stream) == TEXT[stream]
    loser = scripts.heard(model)[-1]
    await asyncio.wait_for(loser.hung_up.wait(), PATIENCE_S)
    record = await recorded(running, reply)
    assert outcomes(record) == ["lost_race", "success"]
    lost, won = record["attempts"]
    assert lost["usage"]["estimated"]
    assert lost["usage"]["input"] > 0
    assert lost["cost_usd"] > 0
    assert record["cost_usd"] == pytest.approx(lost["cost_usd"] + won["cost_usd"])


# --- the client's deadline --------------------------------------------------------------------------------------------


@streaming
async def test_the_last_word_comes_within_the_clients_time(running: Gateway, scripts: Scripts, stream: bool) -> None:
    hurried, bare = _name("hurried", stream=stream), _name("hurried-bare", stream=stream)
    scripts.play(replies.hang, *(name for model in (hurried, bare) for name in (model, backup_of(model))))
    await asyncio.gather(
        *(_degraded_within(running, hurried, timeout_s, stream=stream) for timeout_s in (0.3, 0.8, 1.5)),
        _refused_within(running, bare, 0.8, stream=stream),
    )
    assert min(len(scripts.heard(bare)), len(scripts.heard(backup_of(bare)))) >= 1


async def _degraded_within(gateway: Gateway, model: str, timeout_s: float, *, stream: bool) -> None:
    reply = await _ask(gateway, model, stream=stream, headers={"x-gateway-timeout-s": str(timeout_s)})
    assert (reply.status, *gateway_says(reply)[:2]) == (200, "degraded", "provider_timeout")
    assert text_of(reply, stream=stream) == FIXED_REPLY
    record = await recorded(gateway, reply)
    assert record["duration_ms"] < (timeout_s + NOISE_S) * 1000
    assert set(outcomes(record)) == {"provider_timeout"}


async def _refused_within(gateway: Gateway, model: str, timeout_s: float, *, stream: bool) -> None:
    reply = await _ask(gateway, model, stream=stream, headers={"x-gateway-timeout-s": str(timeout_s)})
    assert (reply.status, reply.error["code"]) == (504, "provider_timeout")
    assert (await recorded(gateway, reply))["duration_ms"] < (timeout_s + NOISE_S) * 1000


# --- parameters -------------------------------------------------------------------------------------------------------


@streaming
async def test_a_fallback_has_parameters_of_its_own(running: Gateway, scripts: Scripts, stream: bool) -> None:
    model = _name("tuned", stream=stream)
    scripts.play(FAILS, model)
    scripts.play(GOOD[stream], backup_of(model))
    reply = await _ask(running, model, stream=stream, max_completion_tokens=4000, seed=1)
    assert gateway_says(reply)[0] == "fallback"
    (first,), (second,) = scripts.heard(model), scripts.heard(backup_of(model))
    asked = {"messages": [{"role": "user", "content": "Who are you?"}], "seed": 1}
    if stream:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    assert first.json == asked | {"model": at(model), "max_tokens": 2048}
    assert second.json == asked | {"model": at(backup_of(model)), "max_tokens": 1024, "temperature": 0.3}


# --- breaker and controller -------------------------------------------------------------------------------------------


async def _route(gateway: Gateway, model: str) -> dict[str, Any]:
    routes: list[dict[str, Any]] = (await ask(gateway.url, "/admin/v1/routes")).json["data"]
    return next(route for route in routes if route["name"] == model)


async def _gauge(gateway: Gateway, name: str, label: str, value: str) -> float:
    lines = (await ask(gateway.url, "/metrics")).content.decode().splitlines()
    (line,) = [line for line in lines if line.startswith(f'agent_gateway_{name}{{{label}="{value}"}}')]
    return float(line.rpartition(" ")[2])


@streaming
async def test_one_that_always_fails_is_left_alone(running: Gateway, scripts: Scripts, stream: bool) -> None:
    model = _name("broken", stream=stream)
    scripts.play(FAILS, model)
    scripts.play(GOOD[stream], backup_of(model))
    said = [gateway_says(await _ask(running, model, stream=stream)) for _ in range(7)]
    assert said == [("fallback", "provider_error", "2")] * 5 + [("fallback", "unavailable", "1")] * 2
    assert len(scripts.heard(model)) == 5
    (shown,) = (await _route(running, model))["deployments"]
    assert (shown["breaker"], shown["available"]) == ("open", False)
    assert await _gauge(running, "breaker_state", "deployment", f"scripted/{at(model)}") == 2
    assert await _gauge(running, "breaker_state", "deployment", f"scripted/{at(backup_of(model))}") == 0


@streaming
async def test_a_model_that_falls_back_too_often_is_spared(running: Gateway, scripts: Scripts, stream: bool) -> None:
    model = _name("steered", stream=stream)
    scripts.play(FAILS, model)
    scripts.play(GOOD[stream], backup_of(model))
    assert (await _route(running, model))["controller"]["state"] == "normal"
    for _ in range(JUDGED):
        assert gateway_says(await _ask(running, model, stream=stream)) == ("fallback", "provider_error", "2")
    shown = (await _route(running, model))["controller"]
    assert (shown["state"], shown["alert_rate"], shown["trigger_rate"]) == ("tripped", 0.05, 0.1)
    assert shown["primary_share"] < 0.1
    assert await _gauge(running, "degradation_state", "model", model) == 2
    assert await _gauge(running, "degradation_state", "model", backup_of(model)) == 0
    said = [gateway_says(await _ask(running, model, stream=stream)) for _ in range(JUDGED)]
    assert set(said) <= {("fallback", "controller", "1"), ("fallback", "provider_error", "2")}
    # What still goes to the primary are probes: one in twenty by chance.
    assert said.count(("fallback", "controller", "1")) > JUDGED / 2


# --- streams that are fetched whole -----------------------------------------------------------------------------------


async def test_an_answer_fetched_whole_comes_as_one_event(running: Gateway, scripts: Scripts) -> None:
    scripts.play(GOOD[False], "fetched-up")
    reply = await _ask(running, "fetched-up", stream=True)
    assert (reply.status, *gateway_says(reply)) == (200, "success", None, "1")
    assert reply.headers["content-type"].startswith("text/event-stream")
    content, last = reply.frames
    assert last == samples.DONE
    said = samples.read_frame(content)
    assert (said["object"], said["model"]) == ("chat.completion.chunk", "fetched-up")
    assert said["choices"][0]["delta"]["content"] == samples.TEXT
    (asked,) = scripts.heard("fetched-up")
    assert not {"stream", "stream_options"} & set(asked.json)


async def test_half_an_answer_fetched_whole_is_seen_by_nobody(running: Gateway, scripts: Scripts) -> None:
    head = replies.head(200, {"content-type": "application/json", "content-length": str(len(samples.COMPLETION))})
    scripts.play(replies.raw(head + samples.COMPLETION[:300], end="cut"), "fetched-fallback")
    scripts.play(GOOD[True], backup_of("fetched-fallback"))
    reply = await _ask(running, "fetched-fallback", stream=True)
    assert (reply.status, *gateway_says(reply)) == (200, "fallback", "provider_connection_cut", "2")
    assert text_of(reply, stream=True) == TEXT[True]


async def test_the_fixed_reply_is_streamed_to_who_streams(running: Gateway, scripts: Scripts) -> None:
    scripts.play(FAILS, "fetched-down", backup_of("fetched-down"))
    reply = await _ask(running, "fetched-down", stream=True)
    assert (reply.status, *gateway_says(reply)) == (200, "degraded", "provider_error", "3")
    assert text_of(reply, stream=True) == FIXED_REPLY
