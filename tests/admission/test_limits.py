"""Limits of keys, users, teams and models in one process: exact to the request, and a refused request costs nothing."""

from __future__ import annotations

import pytest

from agent_gateway.admission import accounts
from agent_gateway.core.call import Call
from agent_gateway.core.errors import RateLimited
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.settings import Allowance, Budget, Limits
from agent_gateway.stores.base import Key
from tests.admission.desk import Desk, exchange_of, route_of, spend


async def test_the_burst_is_the_minutes_allowance_and_no_request_more() -> None:
    desk = Desk()
    limits = Limits(requests_per_minute=60)
    assert await desk.let_in(limits, 500) == 60
    desk.time.now += 0.999
    assert await desk.let_in(limits, 5) == 0
    desk.time.now += 0.002
    assert await desk.let_in(limits, 5) == 1
    desk.time.now += 60
    assert await desk.let_in(limits, 500) == 60


async def test_a_refused_request_costs_nothing() -> None:
    desk = Desk()
    limits = Limits(requests_per_minute=10, tokens_per_minute=1000)
    assert await desk.let_in(limits, 100) == 5  # 200 tokens each
    with pytest.raises(RateLimited) as refused:
        await desk.ask(limits)
    assert refused.value.param == "tokens"
    assert refused.value.retry_after_s == pytest.approx(12)
    desk.time.now += 12
    assert await desk.let_in(limits, 100) == 1


async def test_all_accounts_or_none() -> None:
    """The model refuses what the key, its user and its budget would let in: nothing of theirs is used."""
    desk = Desk()
    limits = Limits(requests_per_minute=2, budget=Budget(usd=1), per_user=Allowance(requests_per_minute=2, max_parallel=1))
    narrow = route_of(limits=Allowance(tokens_per_minute=100))
    spend(await desk.ask(limits, user="ann", route=narrow, tokens=100), 100, 0.25)
    for _ in range(20):
        with pytest.raises(RateLimited, match="the model 'chat'"):
            await desk.ask(limits, user="ann", route=narrow, tokens=100)
    spend(await desk.ask(limits, user="ann"), 10, 0.5)
    with pytest.raises(RateLimited) as refused:
        await desk.ask(limits, user="ann")
    assert refused.value.param == "requests"


async def test_what_was_estimated_is_settled_to_what_was_used_once() -> None:
    desk = Desk()
    limits = Limits(tokens_per_minute=1000)
    reservation = await desk.ask(limits)
    reservation.settle(50, 0)
    reservation.settle(900, 0)
    assert "x-ratelimit-remaining-tokens: 950" in reservation.lines("openai_chat")
    (await desk.ask(limits)).settle(1950, 0)  # a thousand more than there was
    with pytest.raises(RateLimited) as refused:
        await desk.ask(limits)
    assert refused.value.retry_after_s == pytest.approx(60 + 12)


async def test_more_than_a_minutes_tokens_wait_for_the_whole_allowance() -> None:
    desk = Desk()
    limits = Limits(tokens_per_minute=150)
    await desk.ask(limits)
    with pytest.raises(RateLimited) as refused:
        await desk.ask(limits)
    desk.time.now += refused.value.retry_after_s or 0
    await desk.ask(limits)


async def test_so_many_at_once() -> None:
    desk = Desk()
    limits = Limits(max_parallel=2)
    first = await desk.ask(limits)
    await desk.ask(limits)
    with pytest.raises(RateLimited, match="2 requests at once") as refused:
        await desk.ask(limits)
    assert refused.value.param == "parallel"
    await desk.ask(limits, "other")
    first.release()
    first.release()
    await desk.ask(limits)
    with pytest.raises(RateLimited):
        await desk.ask(limits)


async def test_another_limit_holds_at_once_and_requests_under_way_stay_counted() -> None:
    desk = Desk()
    await desk.ask(Limits(requests_per_minute=1))
    await desk.ask(Limits(requests_per_minute=2, max_parallel=2))
    with pytest.raises(RateLimited) as refused:
        await desk.ask(Limits(requests_per_minute=2, max_parallel=2))
    assert refused.value.param == "parallel"


async def test_each_user_of_a_key_has_a_share_and_all_together_the_keys() -> None:
    desk = Desk()
    limits = Limits(requests_per_minute=5, per_user=Allowance(requests_per_minute=2))
    assert await desk.let_in(limits, 9, user="ann") == 2
    assert await desk.let_in(limits, 9, user="bob") == 2
    with pytest.raises(RateLimited, match="the user 'bob' of this key is reached: 2 requests a minute"):
        await desk.ask(limits, user="bob")
    assert await desk.let_in(limits, 9) == 1
    assert await desk.let_in(limits, 9, "other", user="ann") == 2


async def test_a_users_name_may_be_long_and_is_not_kept() -> None:
    desk = Desk()
    limits = Limits(per_user=Allowance(requests_per_minute=1))
    assert await desk.let_in(limits, 5, user="x" * 1_000_000 + "\ud800") == 1
    assert await desk.let_in(limits, 5, user="x" * 1_000_000) == 1


async def test_a_model_has_limits_of_its_own_whoever_asks() -> None:
    desk = Desk()
    route = route_of(limits=Allowance(max_parallel=1))
    held = await desk.ask(Limits(), "a", route=route)
    with pytest.raises(RateLimited, match="the model 'chat' is reached: 1 requests at once"):
        await desk.ask(Limits(), "b", route=route)
    held.release()
    await desk.ask(Limits(), "b", route=route)


async def test_a_keys_own_limits_go_before_those_of_every_key() -> None:
    desk = Desk()
    everybody = Limits(requests_per_minute=1, max_parallel=5)
    generous = Key("k", "k", requests_per_minute=3)
    assert await desk.let_in(everybody, 9, generous) == 3
    with pytest.raises(RateLimited, match="3 requests a minute"):
        await desk.ask(everybody, generous)


async def test_where_nothing_is_limited_nothing_is_reserved() -> None:
    exchange = exchange_of()
    assert Desk().limiter.reserve(exchange, route_of(), None, Limits()) is None
    assert exchange.reservation is None


async def test_of_several_limits_the_one_that_lasts_longest_is_told() -> None:
    desk = Desk()
    limits = Limits(requests_per_minute=60, tokens_per_minute=200, max_parallel=1)
    await desk.ask(limits)
    with pytest.raises(RateLimited) as refused:
        await desk.ask(limits)
    assert refused.value.param == "tokens"
    assert refused.value.retry_after_s == pytest.approx(60)
    assert "x-ratelimit-remaining-requests: 59" in refused.value.limit_lines


async def test_headers_are_those_of_the_clients_protocol() -> None:
    desk = Desk()
    reservation = await desk.ask(Limits(requests_per_minute=10, tokens_per_minute=1000), None)
    assert reservation.lines("openai_chat").splitlines() == [
        "x-ratelimit-limit-requests: 10",
        "x-ratelimit-remaining-requests: 9",
        "x-ratelimit-reset-requests: 6000ms",
        "x-ratelimit-limit-tokens: 1000",
        "x-ratelimit-remaining-tokens: 800",
        "x-ratelimit-reset-tokens: 12000ms",
    ]
    assert "anthropic-ratelimit-requests-reset: 2026-03-04T12:00:06Z" in reservation.lines("anthropic").splitlines()


async def test_headers_tell_of_the_tightest_account() -> None:
    desk = Desk()
    limits = Limits(requests_per_minute=10, per_user=Allowance(requests_per_minute=3))
    reservation = await desk.ask(limits, user="ann", route=route_of(limits=Allowance(requests_per_minute=100)))
    assert reservation.lines("openai_chat").startswith("x-ratelimit-limit-requests: 3\r\nx-ratelimit-remaining-requests: 2\r\n")


async def test_accounts_are_forgotten_when_that_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "ACCOUNTS_MAX", 10)
    desk = Desk()
    limits = Limits(requests_per_minute=1)
    for number in range(10):
        assert await desk.let_in(limits, 2, f"k{number}") == 1
    desk.time.now += 61
    assert await desk.let_in(limits, 2, "other") == 1
    assert len(desk.limiter._accounts) == 1


async def test_accounts_are_bounded_and_those_in_use_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "ACCOUNTS_MAX", 10)
    monkeypatch.setattr(accounts, "STANDINGS_MAX", 10)
    desk = Desk()
    limits = Limits(per_user=Allowance(requests_per_minute=5, max_parallel=1))
    await desk.ask(limits, user="under way")
    for number in range(200):
        assert await desk.let_in(limits, 1, user=f"user {number}") == 1
        assert len(desk.limiter._accounts) <= 10
    assert await desk.let_in(limits, 1, user="under way") == 0


async def test_a_standing_follows_a_key_that_was_changed() -> None:
    desk = Desk()
    assert await desk.let_in(Limits(), 3, Key("k", "k", requests_per_minute=1)) == 1
    assert await desk.let_in(Limits(), 9, Key("k", "k", requests_per_minute=4)) == 4
    exchange = Exchange(id="r", call=Call("openai_chat", "chat", b""), started=0, started_wall=0)
    assert desk.limiter.reserve(exchange, route_of(), Key("k", "k"), Limits()) is None


async def test_however_much_is_asked_for_what_is_used_is_counted() -> None:
    desk = Desk()
    limits = Limits(tokens_per_minute=1000)
    for asked in (10**9, 10**30, 10**400):
        call = Call("openai_chat", "chat", b"", max_output_tokens=asked)
        exchange = Exchange(id="req_1", call=call, started=0, started_wall=0)
        assert desk.limiter.reserve(exchange, route_of(price=None), Key("k", "k"), limits) is None
        assert exchange.reservation is not None
        spend(exchange.reservation, 2000, 0)
        with pytest.raises(RateLimited) as refused:
            await desk.ask(limits)
        assert refused.value.retry_after_s == pytest.approx(72)
        desk.time.now += 120
