"""What a call meets is drawn from what others met around that time."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from agent_gateway.core.usage import Usage
from agent_gateway.rehearsal.behaviour import Act, Behaviour
from agent_gateway.rehearsal.traffic import Done

_USAGE = Usage(input=100, output=100)


def done(at: float, outcome: str = "success", **given: object) -> Done:
    usual = {
        "request": int(at),
        "deployment": "p/m",
        "stream": True,
        "connected_s": 0.01,
        "first_token_s": 0.5 if outcome == "success" else None,
        "ended_s": 2.5 if outcome == "success" else 0.1,
        "provider_status": 200 if outcome == "success" else 503,
        "input_tokens": 100,
        "output_tokens": 100,
    }
    return Done(at=at, outcome=outcome, **{**usual, **given})  # type: ignore[arg-type]


def act(behaviour: Behaviour, at: float, *, usage: Usage = _USAGE, stream: bool = True, request: int = -1, seed: int = 0) -> Act:
    return behaviour.act("p/m", at, usage, Random(seed), stream=stream, request=request)


def failing(behaviour: Behaviour, at: float) -> float:
    """The share of calls at that time."""
    outcomes = Counter(act(behaviour, at, seed=seed).outcome for seed in range(200))
    return outcomes["provider_error"] / 200


def test_an_outage_that_was_hardly_tried_lasts_as_long_as_it_did() -> None:
    before, after = [done(at) for at in range(100)], [done(at) for at in range(400, 500)]
    behaviour = Behaviour([*before, *[done(at, "provider_error") for at in (100, 101, 102, 103, 104, 160, 280)], *after])
    assert failing(behaviour, 50) == 0
    assert failing(behaviour, 130) == 1
    assert failing(behaviour, 220) == 1
    assert failing(behaviour, 340) == pytest.approx(0.5, abs=0.1)  # between the last that failed and the first that did not
    assert failing(behaviour, 450) == 0


def test_failures_are_as_rare_as_they_were() -> None:
    behaviour = Behaviour([done(at, "provider_error" if at % 20 == 0 else "success") for at in range(1000)])
    shares = [failing(behaviour, at + 0.5) for at in range(100, 200)]
    assert sum(shares) / 100 == pytest.approx(0.05, abs=0.01)


def test_times_are_those_around_that_time_in_proportion_to_size() -> None:
    quick = [done(at, output_tokens=50 + at, ended_s=0.5 + (50 + at) * 0.02) for at in range(100)]
    slow = [done(at, output_tokens=at - 50, first_token_s=1.0, ended_s=1.0 + (at - 50) * 0.04) for at in range(100, 200)]
    behaviour = Behaviour([*quick, *slow])
    early, late = (act(behaviour, at, usage=Usage(input=100, output=100)) for at in (50, 150))
    assert (early.first_token_s, late.first_token_s) == (0.5, 1.0)
    assert late.ended_s - 1.0 == pytest.approx(2 * (early.ended_s - 0.5), rel=0.2)
    long = act(behaviour, 50, usage=Usage(input=100, output=1000))
    assert long.ended_s > 5 * early.ended_s
    assert long.output_tokens == 1000


def test_a_request_never_meets_its_own_record() -> None:
    behaviour = Behaviour([done(at, first_token_s=at, ended_s=at + 1) for at in (1, 2, 3)])
    drawn = {act(behaviour, 2, request=2, seed=seed).first_token_s for seed in range(50)}
    assert drawn == {1, 3}


def test_whole_answers_and_streams_have_their_own_times() -> None:
    wholes = [done(at, stream=False, first_token_s=None, ended_s=9.0) for at in range(10)]
    behaviour = Behaviour([*wholes, *[done(at + 0.5) for at in range(10)]])
    assert act(behaviour, 5, stream=False).ended_s == 9.0
    assert act(behaviour, 5, stream=False).first_token_s is None
    assert act(behaviour, 5).ended_s == pytest.approx(2.5)


def test_calls_that_were_given_up_count_as_slow() -> None:
    """Hedging gives up the slow ones; without them the deployment would seem quicker than it is."""
    answered = [done(at, first_token_s=0.5 if at % 10 else 5.0, ended_s=6.0) for at in range(100)]
    given_up = [done(at + 0.5, "lost_race", first_token_s=None, ended_s=1.0) for at in range(0, 100, 2)]
    behaviour = Behaviour([*answered, *given_up])
    firsts = [act(behaviour, 50.25, seed=seed).first_token_s for seed in range(200)]
    assert sum(first == 5.0 for first in firsts) / 200 > 0.25
    assert failing(behaviour, 50) == 0


def test_a_stream_that_broke_off_breaks_off_after_as_much() -> None:
    cut = done(5, "provider_connection_cut", first_token_s=0.5, ended_s=1.5, output_tokens=40)
    behaviour = Behaviour([cut, done(500)])
    assert act(behaviour, 5.1) == Act("provider_connection_cut", 0.01, 0.5, 1.5, 503, 40)
