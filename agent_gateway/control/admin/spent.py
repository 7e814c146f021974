"""What accounts have spent of their budgets, as the admin API shows it."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from agent_gateway.admission.budgets import period_of
from agent_gateway.control.times import told
from agent_gateway.core.settings import Budget
from agent_gateway.stores.base import SpendStore


class Spent(Struct, frozen=True):
    """Of the budget that holds: the key's own, else the configuration's."""

    usd: float
    of_usd: float
    per: str
    #: Null: its period has no end.
    resets_at: str | None


async def spent_of(store: SpendStore, budgets: Mapping[str, Budget | None], now: float) -> dict[str, Spent]:
    """In the period that it is, by account (`key:ID`, `team:ID`); of those that have a budget."""
    bounded = {account: budget for account, budget in budgets.items() if budget is not None}
    periods = {account: period_of(budget.per, now) for account, budget in bounded.items()}
    spent = await store.spend_of([(account, began) for account, (began, _) in periods.items()]) if periods else {}
    return {
        account: Spent(
            spent.get((account, periods[account][0]), 0.0),
            budget.usd,
            budget.per,
            None if budget.per == "total" else told(periods[account][1]),
        )
        for account, budget in bounded.items()
    }
