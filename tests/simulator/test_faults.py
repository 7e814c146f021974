"""Faults: named by key or model, drawn by rates, and what each does to a reply."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.simulator.faults import (
    Cut,
    Empty,
    ErrorInStream,
    Fail,
    Fault,
    Garbage,
    Hang,
    Slow,
    drawn_fault,
    steered_fault,
    steered_model,
)
from agent_gateway.simulator.settings import RATES, SimulatorSettings
from agent_gateway.simulator.simulator import Simulator
from tests.simulator.stage import STEADY, Time, answer_to, body_of, chat, events_of, reply_to, said_to, stream_of

NAMES: list[tuple[str, Fault]] = [
    ("fail-400", Fail(400)),
    ("fail-599", Fail(599)),
    ("hang", Hang()),
    ("hang-0", Hang(0)),
    ("cut-12", Cut(12)),
    ("slow-250", Slow(250)),
    ("empty", Empty()),
    ("garbage", Garbage()),
    ("error-in-stream", ErrorInStream(3)),
    ("error-in-stream-0", ErrorInStream(0)),
]


@pytest.mark.parametrize(("name", "fault"), NAMES)
def test_names(name: str, fault: Fault) -> None:
    assert steered_fault(name) == fault
    assert steered_model(f"llama3:8b:{name}") == ("llama3:8b", fault)
    assert steered_model(name) == (name, fault)


@pytest.mark.parametrize(
    "name", ["", "sk-1", "fail", "fail-200", "fail-600", "cut", "slow-", "empty-1", "garbage-2", "hangs", "Hang", "x hang"]
)
def test_what_names_no_fault(name: str) -> None:
    assert steered_fault(name) is None
    assert steered_model(f"m:{name}") == (f"m:{name}", None)


@given(st.text(max_size=30))
def test_any_key_is_just_a_key_or_a_fault(text: str) -> None:
    assert steered_fault(text) is None or text.partition("-")[0] in {"fail", "hang", "cut", "slow", "empty", "garbage", "error"}


def test_rates_are_shares() -> None:
    settings = SimulatorSettings(error_rate=0.1, rate_limit_rate=0.2, hang_rate=0.05, cut_rate=0.15, slow_rate=0.1, slow_ms=7)
    chance = random.Random(3)
    drawn = Counter(type(drawn_fault(settings, chance)).__name__ for _ in range(20_000))
    assert drawn["Hang"] / 20_000 == pytest.approx(0.05, abs=0.01)
    assert drawn["Cut"] / 20_000 == pytest.approx(0.15, abs=0.015)
    assert drawn["Slow"] / 20_000 == pytest.approx(0.1, abs=0.015)
    assert drawn["Fail"] / 20_000 == pytest.approx(0.3, abs=0.02)


def test_rates_over_one_together_are_refused() -> None:
    with pytest.raises(ValueError, match=r"add up to 1\.2; together they can be at most 1"):
        SimulatorSettings(error_rate=0.6, slow_rate=0.6)


@pytest.mark.parametrize("rate", RATES)
def test_a_rate_of_one_is_every_time(rate: str) -> None:
    settings = msgspec.convert({rate: 1}, SimulatorSettings)
    chance = random.Random(1)
    assert None not in [drawn_fault(settings, chance) for _ in range(200)]


def test_the_seed_fixes_the_faults_and_another_changes_them() -> None:
    def statuses(seed: int) -> list[int]:
        simulator = Simulator(SimulatorSettings(error_rate=0.5, seed=seed), Time().clock)
        return [simulator.reply("openai_chat", chat()).status for _ in range(40)]

    assert statuses(1) == statuses(1)
    assert statuses(1) != statuses(2)
    assert {200, 500, 503, 529} == set(statuses(1))


def test_it_is_out_at_the_end_of_each_of_so_many_seconds() -> None:
    time = Time()
    simulator = Simulator(SimulatorSettings(outage_every_s=300, outage_s=45), time.clock)
    statuses = []
    for _ in range(40):
        statuses.append(simulator.reply("openai_chat", chat()).status)
        time.now += 15
    assert statuses == ([200] * 17 + [503] * 3) * 2


def test_an_outage_that_is_longer_than_its_time_is_refused() -> None:
    with pytest.raises(ValueError, match="outage_s is 45; it cannot be longer than outage_every_s, 30"):
        SimulatorSettings(outage_every_s=30, outage_s=45)
    with pytest.raises(ValueError, match="outage_s is 45; it cannot be longer than outage_every_s, 0"):
        SimulatorSettings(outage_s=45)


def test_the_key_overrules_the_model_and_the_model_the_rates() -> None:
    always = SimulatorSettings(rate_limit_rate=1)
    assert reply_to(chat(), always).status == 429
    assert reply_to(chat(model="m:fail-503"), always).status == 503
    assert reply_to(chat(model="m:fail-503"), always, steering="fail-401").status == 401


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 529])
def test_a_failure_has_its_status_and_an_error_body(status: int) -> None:
    reply = reply_to(chat(), steering=f"fail-{status}")
    error = msgspec.json.decode(body_of(reply))["error"]
    assert reply.status == status
    assert {"message", "type", "param", "code"} == set(error)
    assert error["message"].endswith("(simulated).")
    assert dict(reply.headers).get("retry-after") == ("1" if status == 429 else None)


def test_the_model_keeps_its_name_and_its_words() -> None:
    assert answer_to(chat(model="m:slow-100"))["model"] == "m:slow-100"
    assert said_to(chat(model="m:slow-100")) == said_to(chat(model="m"))


def test_slow_adds_to_the_first_token() -> None:
    assert reply_to(chat(stream=True)).opens_at_s == pytest.approx(0.1)
    assert reply_to(chat(stream=True), steering="slow-2000").opens_at_s == pytest.approx(2.1)
    assert reply_to(chat(), steering="slow-2000").opens_at_s == pytest.approx(2.1 + 19 * 0.01)


def test_empty_says_nothing_and_ends_well() -> None:
    answer = answer_to(chat(model="m:empty"))
    assert answer["choices"][0]["message"]["content"] == ""
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == 0
    events = stream_of(chat(stream=True), steering="empty")
    assert [event["choices"][0]["delta"].get("content") or "" for event in events[:-1]] == ["", ""]
    assert events[-2]["choices"][0]["finish_reason"] == "stop"
    assert events[-1] == "[DONE]"


@pytest.mark.parametrize("stream", [False, True])
def test_garbage_is_no_json_under_a_good_status(stream: bool) -> None:
    reply = reply_to(chat(stream=stream), steering="garbage")
    assert reply.status == 200
    assert dict(reply.headers)["content-type"].startswith("text/event-stream" if stream else "application/json")
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        events_of(body_of(reply)) if stream else msgspec.json.decode(body_of(reply))


@pytest.mark.parametrize("after", [0, 1, 4])
def test_an_error_in_the_stream_comes_after_that_many_frames(after: int) -> None:
    whole = stream_of(chat(stream=True))
    events = stream_of(chat(stream=True), steering=f"error-in-stream-{after}")
    assert events[:-1] == whole[:after]
    assert events[-1]["error"]["type"] == "server_error"


def test_an_error_in_a_unary_answer_is_an_error_body_under_200() -> None:
    reply = reply_to(chat(), steering="error-in-stream")
    assert (reply.status, set(msgspec.json.decode(body_of(reply)))) == (200, {"error"})


@pytest.mark.parametrize(("name", "ending"), [("cut", "cut"), ("hang", "silence")])
def test_a_stream_stops_after_that_many_frames(name: str, ending: str) -> None:
    reply = reply_to(chat(stream=True), steering=f"{name}-5")
    assert reply.ending == ending
    assert len(events_of(body_of(reply))) == 5


@pytest.mark.parametrize(("name", "ending"), [("cut-5", "cut"), ("hang-5", "silence")])
def test_a_unary_body_stops_half_way(name: str, ending: str) -> None:
    reply = reply_to(chat(), steering=name)
    assert reply.body_bytes == len(body_of(reply_to(chat(), steering="")))
    assert (reply.ending, len(body_of(reply))) == (ending, reply.body_bytes // 2)


def test_chance_cuts_inside_the_answer() -> None:
    simulator = Simulator(msgspec.structs.replace(STEADY, cut_rate=1), Time().clock)
    lengths = [len(events_of(body_of(simulator.reply("openai_chat", chat(stream=True))))) for _ in range(60)]
    assert max(lengths) <= len(stream_of(chat(stream=True))) - 2
    assert len(set(lengths)) > 10


@pytest.mark.parametrize(
    ("field", "value"), [("ttft_ms", -1), ("error_rate", 1.5), ("output_tokens", 0), ("unknown", 1), ("kind", "openai")]
)
def test_settings_out_of_range_are_refused(field: str, value: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({field: value}, SimulatorSettings)
