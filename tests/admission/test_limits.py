"""Limits of a key: exact to the request, given back to the last token, and forgotten only when that changes nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.admission import limits
from agent_gateway.admission.limits import Allowance, Bucket, Limiter, Share
from agent_gateway.core.call import Call
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import RateLimited
from agent_gateway.stores.base import Key

CALL = Call("openai_chat", "chat", b"x" * 400, max_output_tokens=100)  # 100 tokens in, 100 out


class Time:
    def __init__(self) -> None:
        self.now = 1000.0
        self.clock = Clock(monotonic=lambda: self.now, wall=lambda: self.now)


def reserve(limiter: Limiter, allowance: Allowance, key: str = "k") -> Share:
    share = limiter.reserve(Key(key, key), allowance, CALL)
    assert share is not None
    return share


def admitted(limiter: Limiter, allowance: Allowance, times: int, key: str = "k") -> int:
    done = 0
    for _ in range(times):
        try:
            reserve(limiter, allowance, key).release()
        except RateLimited:
            continue
        done += 1
    return done


def test_the_burst_is_the_minutes_allowance_and_no_request_more() -> None:
    time = Time()
    limiter = Limiter(time.clock)
    allowance = Allowance(requests_per_minute=60)
    assert admitted(limiter, allowance, 500) == 60
    time.now += 0.999
    assert admitted(limiter, allowance, 5) == 0
    time.now += 0.002
    assert admitted(limiter, allowance, 5) == 1
    time.now += 60
    assert admitted(limiter, allowance, 500) == 60


def test_a_refused_request_costs_nothing() -> None:
    time = Time()
    limiter = Limiter(time.clock)
    allowance = Allowance(requests_per_minute=10, tokens_per_minute=1000)
    assert admitted(limiter, allowance, 100) == 5  # 200 tokens each
    with pytest.raises(RateLimited) as refused:
        reserve(limiter, allowance)
    assert refused.value.param == "tokens"
    assert refused.value.retry_after_s == pytest.approx(12)
    time.now += 12
    assert admitted(limiter, allowance, 100) == 1


def test_what_was_estimated_is_settled_to_what_was_used_once() -> None:
    time = Time()
    limiter = Limiter(time.clock)
    allowance = Allowance(tokens_per_minute=1000)
    reservation = reserve(limiter, allowance)
    reservation.settle(50)
    reservation.settle(900)
    assert "x-ratelimit-remaining-tokens: 950" in reservation.lines("openai_chat")
    greedy = reserve(limiter, allowance)
    greedy.settle(1950)  # a thousand more than there was
    with pytest.raises(RateLimited) as refused:
        reserve(limiter, allowance)
    assert refused.value.retry_after_s == pytest.approx(60 + 12)


def test_more_than_a_minutes_tokens_wait_for_the_whole_allowance() -> None:
    time = Time()
    limiter = Limiter(time.clock)
    allowance = Allowance(tokens_per_minute=150)
    reserve(limiter, allowance).release()
    with pytest.raises(RateLimited) as refused:
        reserve(limiter, allowance)
    time.now += refused.value.retry_after_s or 0
    reserve(limiter, allowance)


def test_so_many_at_once() -> None:
    limiter = Limiter(Time().clock)
    allowance = Allowance(max_parallel=2)
    first = reserve(limiter, allowance)
    reserve(limiter, allowance)
    with pytest.raises(RateLimited, match="2 requests of this key at once"):
        reserve(limiter, allowance)
    reserve(limiter, allowance, "other")
    first.release()
    first.release()
    reserve(limiter, allowance)
    with pytest.raises(RateLimited):
        reserve(limiter, allowance)


def test_another_allowance_holds_at_once_and_running_requests_stay_counted() -> None:
    limiter = Limiter(Time().clock)
    reserve(limiter, Allowance(requests_per_minute=1))
    reserve(limiter, Allowance(requests_per_minute=2, max_parallel=2))
    with pytest.raises(RateLimited) as refused:
        reserve(limiter, Allowance(requests_per_minute=2, max_parallel=2))
    assert refused.value.param == "parallel"


def test_accounts_are_forgotten_only_when_they_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ACCOUNTS_MAX", 3)
    time = Time()
    limiter = Limiter(time.clock)
    allowance = Allowance(requests_per_minute=1)
    for key in ("a", "b", "c"):
        assert admitted(limiter, allowance, 2, key) == 1
    assert admitted(limiter, allowance, 2, "d") == 1
    assert admitted(limiter, allowance, 2, "a") == 0
    time.now += 61
    assert admitted(limiter, allowance, 2, "e") == 1
    assert len(limiter._accounts) == 1


def test_a_keys_own_limits_go_before_those_of_every_key() -> None:
    limiter = Limiter(Time().clock)
    everybody = Allowance(requests_per_minute=1, max_parallel=5)
    generous = Key("k", "k", requests_per_minute=3)
    for _ in range(3):
        limiter.reserve(generous, everybody, CALL)
    with pytest.raises(RateLimited, match="3 requests a minute"):
        limiter.reserve(generous, everybody, CALL)
    assert limiter.reserve(None, Allowance(), CALL) is None


def test_headers_are_those_of_the_clients_protocol() -> None:
    limiter = Limiter(Time().clock)
    share = limiter.reserve(None, Allowance(requests_per_minute=10, tokens_per_minute=1000), CALL)
    assert share is not None
    assert share.lines("openai_chat").splitlines() == [
        "x-ratelimit-limit-requests: 10",
        "x-ratelimit-remaining-requests: 9",
        "x-ratelimit-reset-requests: 6000ms",
        "x-ratelimit-limit-tokens: 1000",
        "x-ratelimit-remaining-tokens: 800",
        "x-ratelimit-reset-tokens: 12000ms",
    ]
    assert "anthropic-ratelimit-requests-reset: 1970-01-01T00:16:46Z" in share.lines("anthropic").splitlines()


@given(st.integers(1, 100), st.lists(st.tuples(st.floats(0, 30), st.integers(1, 50)), max_size=60))
def test_never_more_than_the_burst_and_what_time_brings(per_minute: int, asked: list[tuple[float, int]]) -> None:
    bucket = Bucket("requests", per_minute)
    now, taken = 0.0, 0
    for wait_s, amount in asked:
        now += wait_s
        if bucket.wait_s(amount, now) <= 0 and amount <= per_minute:
            bucket.take(amount, now)
            taken += amount
        assert taken <= per_minute * (1 + now / limits.MINUTE_S) + 1e-6
        assert 0 <= bucket.remaining(now) <= per_minute
