"""What was spent, in SQL: one row an account and period."""

# ruff: noqa: S608 – what is put into statements are names of this module; values never are

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import islice

from agent_gateway.stores.operation import VALUES_AT_ONCE, Database, Operation, marks

#: Three values each.
ROWS_AT_ONCE = VALUES_AT_ONCE // 3


class SqlSpend:
    database: Database

    async def add_spend(self, spent: Mapping[tuple[str, float], float]) -> None:
        await self.database.write(_add(spent))

    async def spend_of(self, accounts: Collection[tuple[str, float]]) -> Mapping[tuple[str, float], float]:
        return await self.database.read(_spend_of(set(accounts)))


def _add(spent: Mapping[tuple[str, float], float]) -> Operation[None]:
    """In one order for all, so that two that add to the same accounts never wait for each other in a circle."""
    left = iter(sorted(spent.items()))
    while some := list(islice(left, ROWS_AT_ONCE)):
        values = [value for (account, period), usd in some for value in (account, period, usd)]
        yield (
            f"""
            INSERT INTO spend (account, period, usd) VALUES {", ".join([f"({marks(3)})"] * len(some))}
            ON CONFLICT (account, period) DO UPDATE SET usd = spend.usd + excluded.usd
            """,
            values,
        )


def _spend_of(accounts: set[tuple[str, float]]) -> Operation[dict[tuple[str, float], float]]:
    """Also rows that were not asked for: of an account that was, in a period of another."""
    found = {}
    left = iter(accounts)
    while some := list(islice(left, VALUES_AT_ONCE // 2)):
        names, periods = (list(set(column)) for column in zip(*some, strict=True))
        among = f"account IN ({marks(len(names))}) AND period IN ({marks(len(periods))})"
        rows = yield f"SELECT account, period, usd FROM spend WHERE {among}", (*names, *periods)
        found.update({(account, period): usd for account, period, usd in rows if (account, period) in accounts})
    return found
