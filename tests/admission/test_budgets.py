"""Budgets: periods, what is set aside, what outlives a restart, and what happens while the store is down."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from datetime import UTC, datetime

import pytest

from agent_gateway.admission import budgets
from agent_gateway.admission.budgets import period_of
from agent_gateway.core.errors import BudgetSpent, StoreDown
from agent_gateway.core.pricing import Price
from agent_gateway.core.route import Route
from agent_gateway.core.settings import Budget, Limits, Period
from agent_gateway.stores.backends.memory import MemoryStore
from agent_gateway.stores.base import Key, Team
from tests.admission.desk import Desk, route_of, spend
from tests.kit.eventually import PATIENCE_S, eventually

A_DOLLAR = Limits(budget=Budget(usd=1, per="day"))


def _at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("per", "at", "began", "ends"),
    [
        ("day", "2026-03-04T12:00:00", "2026-03-04", "2026-03-05"),
        ("day", "2026-03-04T00:00:00", "2026-03-04", "2026-03-05"),
        ("week", "2026-03-04T12:00:00", "2026-03-02", "2026-03-09"),
        ("week", "2026-03-02T00:00:00", "2026-03-02", "2026-03-09"),
        ("week", "2026-03-01T23:59:59", "2026-02-23", "2026-03-02"),
        ("month", "2024-02-29T23:59:59", "2024-02-01", "2024-03-01"),
        ("month", "2026-12-31T23:59:59", "2026-12-01", "2027-01-01"),
    ],
)
def test_periods_are_of_the_calendar_in_utc(per: Period, at: str, began: str, ends: str) -> None:
    assert period_of(per, _at(at)) == (_at(began), _at(ends))


def test_all_of_time_is_a_period_too() -> None:
    assert period_of("total", 1e9) == (0.0, float("inf"))


async def test_what_is_set_aside_counts_like_what_is_spent() -> None:
    """Each is estimated at 0.25: four are let in, and no fifth, until one has turned out cheaper."""
    desk = Desk()
    under_way = [await desk.ask(A_DOLLAR) for _ in range(4)]
    said = r"set aside for requests that are under way or were just answered: of 1 USD today, 0 are spent\. Try again in 1 s"
    with pytest.raises(BudgetSpent, match=said) as refused:
        await desk.ask(A_DOLLAR)
    assert (refused.value.param, refused.value.retry_after_s) == ("budget", 1)
    for reservation in under_way:
        spend(reservation, 10, 0.1)
        reservation.settle(10, 5)
    assert len([await desk.ask(A_DOLLAR) for _ in range(3)]) == 3
    with pytest.raises(BudgetSpent):
        await desk.ask(A_DOLLAR)


async def test_a_spent_budget_tells_when_it_begins_anew_and_does() -> None:
    desk = Desk()
    spend(await desk.ask(A_DOLLAR), 10, 1.5)
    with pytest.raises(BudgetSpent, match=r"this key is spent: 1\.5 of 1 USD today\. It begins anew at 2026-03-05T00:00:00Z") as refused:
        await desk.ask(A_DOLLAR)
    assert refused.value.retry_after_s == 12 * 3600
    assert "x-should-retry: false\r\n" in refused.value.limit_lines
    desk.time.now = 12 * 3600
    await desk.ask(A_DOLLAR)


async def test_what_is_settled_after_midnight_is_spent_on_the_new_day() -> None:
    desk = Desk()
    begun = await desk.ask(A_DOLLAR)
    desk.time.now = 12 * 3600
    spend(begun, 10, 1)
    with pytest.raises(BudgetSpent):
        await desk.ask(A_DOLLAR)


async def test_a_budget_without_end_names_no_time() -> None:
    desk = Desk()
    limits = Limits(budget=Budget(usd=1, per="total"))
    spend(await desk.ask(limits), 10, 2)
    with pytest.raises(BudgetSpent, match="It has no end") as refused:
        await desk.ask(limits)
    assert refused.value.retry_after_s is None


async def test_keys_of_a_team_share_its_budget() -> None:
    desk = Desk()
    desk.teams["t"] = Team("t", "research", budget=Budget(usd=1, per="day"))
    ann, bob = Key("a", "ann", team="t", budget=Budget(usd=0.5)), Key("b", "bob", team="t")
    spend(await desk.ask(Limits(), ann), 10, 0.6)
    with pytest.raises(BudgetSpent, match="of this key"):
        await desk.ask(Limits(), ann)
    spend(await desk.ask(Limits(), bob), 10, 0.6)
    with pytest.raises(BudgetSpent, match="of the team 'research'"):
        await desk.ask(Limits(), bob)
    desk.teams["t"] = Team("t", "research", budget=Budget(usd=5, per="day"))
    await desk.ask(Limits(), bob)


async def test_the_soft_share_is_told_once_a_period() -> None:
    desk = Desk()
    limits = Limits(budget=Budget(usd=1, per="day", soft=0.5))
    for _ in range(4):
        spend(await desk.ask(limits), 10, 0.2)
    assert [(account, round(spent, 6)) for account, spent in desk.soft] == [("key:k", 0.6)]
    assert desk.limiter.nearly_spent() == {"key:k": pytest.approx(0.8)}
    desk.time.now = 86_400
    assert desk.limiter.nearly_spent() == {}
    spend(await desk.ask(limits), 10, 0.7)
    assert len(desk.soft) == 2


async def test_the_dearest_that_may_answer_is_set_aside() -> None:
    desk = Desk()
    cheap = route_of("cheap", Price(input=1, output=1), fallbacks=("dear",))
    dear = route_of("dear", Price(input=1000, output=2000, request=0.1))
    routes: dict[str, Route] = {"dear": dear}
    desk.limiter.configure(routes.get)
    limits = Limits(budget=Budget(usd=0.7, per="total"))
    await desk.ask(limits, route=cheap, tokens=400)  # 200 × 1000 + 200 × 2000 a million, and 0.1
    with pytest.raises(BudgetSpent):
        await desk.ask(limits, route=cheap, tokens=400)


async def test_a_model_without_a_price_is_free_until_the_budget_is_spent() -> None:
    desk = Desk()
    free = route_of(price=None)
    for _ in range(50):
        await desk.ask(A_DOLLAR, route=free)
    spend(await desk.ask(A_DOLLAR), 1, 1)
    with pytest.raises(BudgetSpent):
        await desk.ask(A_DOLLAR, route=free)


async def test_what_was_spent_outlives_the_process_and_is_read_before_the_first_request() -> None:
    store = MemoryStore()
    before = Desk(store)
    spend(await before.ask(A_DOLLAR), 10, 0.9)
    await before.limiter.close(1)
    after = Desk(store)
    together = await asyncio.gather(*(after.ask(A_DOLLAR) for _ in range(20)), return_exceptions=True)
    assert [isinstance(one, BudgetSpent) for one in together].count(False) == 1


async def test_what_others_spend_of_it_is_known_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "FLUSH_S", 0.01)
    store = MemoryStore()
    one, other = Desk(store), Desk(store)
    spend(await one.ask(A_DOLLAR), 10, 0.1)
    spend(await other.ask(A_DOLLAR), 10, 0.95)
    await eventually(lambda: sum(store._spend.values()) > 1, "all is saved")
    reservation = await one.ask(A_DOLLAR)  # it has not heard yet, and does when it saves this
    spend(reservation, 10, 0.001)
    (purse,) = [account.purse for account in one.limiter._accounts]
    assert purse is not None
    await eventually(lambda: purse.spent > 1, "it has heard")
    with pytest.raises(BudgetSpent):
        await one.ask(A_DOLLAR)


class BrokenStore(MemoryStore):
    """Down, until it is mended."""

    broken = True

    async def add_spend(self, spent: Mapping[tuple[str, float], float]) -> None:
        if self.broken:
            raise StoreDown("down")
        await super().add_spend(spent)

    async def spend_of(self, accounts: Collection[tuple[str, float]]) -> Mapping[tuple[str, float], float]:
        if self.broken:
            raise StoreDown("down")
        return await super().spend_of(accounts)


class SlowStore(MemoryStore):
    """Says what was spent when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = asyncio.Event()
        self.let = asyncio.Event()

    async def spend_of(self, accounts: Collection[tuple[str, float]]) -> Mapping[tuple[str, float], float]:
        self.reading.set()
        await self.let.wait()
        return await super().spend_of(accounts)


class SilentStore(MemoryStore):
    """Takes questions, and never answers."""

    async def spend_of(self, accounts: Collection[tuple[str, float]]) -> Mapping[tuple[str, float], float]:
        await asyncio.Event().wait()
        raise AssertionError


async def test_while_the_store_is_down_budgets_count_on_and_nothing_spent_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "FLUSH_S", 0.01)
    monkeypatch.setattr(budgets, "RETRY_S", 0.02)
    store = BrokenStore()
    desk = Desk(store)
    spend(await desk.ask(A_DOLLAR), 10, 0.6)
    spend(await desk.ask(A_DOLLAR), 10, 0.6)
    assert desk.limiter.unread == 1
    with pytest.raises(BudgetSpent):
        await desk.ask(A_DOLLAR)
    await asyncio.sleep(0.1)
    store.broken = False
    await eventually(lambda: list(store._spend.values()) == [1.2], "it is saved once")


async def test_a_store_that_says_nothing_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "MEET_TIMEOUT_S", 0.05)
    desk = Desk(SilentStore())
    await asyncio.wait_for(desk.ask(A_DOLLAR), PATIENCE_S)
    assert desk.limiter.unread == 1
    await desk.limiter.close(0.05)


async def test_what_is_spent_while_the_store_is_read_for_the_last_time_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "FLUSH_S", 0.001)
    store = SlowStore()
    store.let.set()
    desk = Desk(store)
    first, last = await desk.ask(A_DOLLAR), await desk.ask(A_DOLLAR)
    store.reading.clear()
    store.let.clear()
    spend(first, 10, 0.25)
    await store.reading.wait()
    spend(last, 10, 0.5)
    closing = asyncio.create_task(desk.limiter.close(5))
    await asyncio.sleep(0)
    store.let.set()
    await closing
    assert sum((await store.spend_of({("key:k", _at("2026-03-04T00:00:00"))})).values()) == 0.75
