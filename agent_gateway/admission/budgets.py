"""Money: what was spent in a period, what is set aside for requests under way, and what is left of a budget.

Promise: a request is let in while less than the budget is spent or set aside, so that all of them together overspend it by no more
than what one was estimated at. What was spent is in the store within `FLUSH_S`, and outlives a restart.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from math import inf

from agent_gateway.admission.buckets import SLOT_WAIT_S, LimitName, shown
from agent_gateway.admission.lease import HoldLease
from agent_gateway.core.errors import BudgetSpent, StoreDown
from agent_gateway.core.settings import Budget, Period
from agent_gateway.stores.base import SpendStore

#: What was spent is written, and what others spent is read, this long after it is first known (s).
FLUSH_S = 0.5
#: A request that meets a budget waits so long for the store at most; then it goes on, and the budget counts from 0 until it is read.
MEET_TIMEOUT_S = 1.0
#: After a failure the store is left alone for so long (s).
RETRY_S = 2.0
#: Accounts that are read at once.
READ_AT_ONCE = 500

_DAY_S = 86_400
#: Of 1970-01-01, counted from Monday.
_FIRST_WEEKDAY = 3
_WORDS: dict[Period, str] = {"day": "today", "week": "this week", "month": "this month", "total": "in all"}

#: Called with the account (`key:ID`, `team:ID`), what it has spent, and its budget.
OnSoft = Callable[[str, float, Budget], None]
_log = logging.getLogger("agent_gateway.admission")


def period_of(per: Period, wall: float) -> tuple[float, float]:
    """When it began and when it ends (Unix seconds), in UTC."""
    if per == "total":
        return 0.0, inf
    days = int(wall // _DAY_S)
    if per == "day":
        return float(days * _DAY_S), float((days + 1) * _DAY_S)
    if per == "week":
        monday = days - (days + _FIRST_WEEKDAY) % 7
        return float(monday * _DAY_S), float((monday + 7) * _DAY_S)
    first = datetime.fromtimestamp(wall, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return first.timestamp(), following.timestamp()


class Purse:
    """What an account has of a budget."""

    __slots__ = ("_key", "_soft_told", "account", "began", "budget", "ends", "lease", "ledger", "limit", "met", "spent", "used", "whose")

    def __init__(self, account: str, whose: str, budget: Budget, ledger: Ledger) -> None:
        self.account = account
        self.whose = whose
        self.budget = budget
        self.ledger = ledger
        self.limit: LimitName = "budget"
        self.lease: HoldLease | None = None
        self._key = b""
        #: Set aside for requests under way.
        self.used = 0.0
        # Of the period. It has not begun before `turn`.
        self.began = self.ends = -inf
        self.spent = 0.0
        self._soft_told = False
        #: What was spent before is known, or could not be read for now.
        self.met = False

    def share(self, lease: HoldLease) -> None:
        self.lease, self._key = lease, lease.name

    def turn(self, wall: float) -> None:
        """The period that it is now. What is set aside stays so."""
        self.began, self.ends = period_of(self.budget.per, wall)
        self.spent, self._soft_told, self.met = 0.0, False, False
        if self.lease is not None:
            self.lease.begin(b"%b:%d" % (self._key, self.began))

    def wait_s(self, amount: float, now: float) -> float:
        """Whatever the amount is: it is not known for certain."""
        return 0.0 if self.spent + self.used < self.budget.usd else SLOT_WAIT_S

    def take(self, amount: float, now: float) -> None:
        self.used += amount

    def hold(self, amount: float) -> None:
        left = self.used + amount
        self.used = left if left > 1e-9 else 0.0  # no crumbs of floats stay behind

    def settle(self, amount: float, cost_usd: float) -> None:
        """It was estimated at `amount` and has cost `cost_usd`."""
        self.hold(-amount)
        if cost_usd:
            if (wall := self.ledger.wall()) >= self.ends:  # it is spent in the period that it is now, whenever it was set aside
                self.turn(wall)
            self.spent += cost_usd
            self.ledger.spend(self, cost_usd)
            self.tell()

    def set_spent(self, spent: float) -> None:
        self.spent = spent
        self.tell()

    def tell(self) -> None:
        """Once a period, by each process that sees it."""
        if not self._soft_told and self.spent >= self.budget.soft * self.budget.usd:
            self._soft_told = True
            self.ledger.on_soft(self.account, self.spent, self.budget)

    def refusal(self, wait_s: float) -> BudgetSpent:
        usd, per = self.budget.usd, self.budget.per
        self.ledger.touch(self)
        if self.spent < usd:
            message = (
                f"The rest of the budget of {self.whose} is set aside for requests that are under way or were just answered: "
                f"of {usd:g} USD {_WORDS[per]}, {self.spent:.6g} are spent. Try again in {shown(wait_s)}."
            )
            return BudgetSpent(message, param=self.limit, retry_after_s=wait_s)
        message = f"The budget of {self.whose} is spent: {self.spent:.6g} of {usd:g} USD {_WORDS[per]}. "
        if self.ends == inf:
            error = BudgetSpent(message + "It has no end, so it takes a larger one to go on.", param=self.limit)
        else:
            left_s = max(self.ends - self.ledger.wall(), 0.0)
            error = BudgetSpent(f"{message}It begins anew at {rfc3339(self.ends)}.", param=self.limit, retry_after_s=left_s)
        error.limit_lines = "x-should-retry: false\r\n"  # the official clients' word for it: no use to try again by oneself
        return error


class Ledger:
    """What purses spend goes to the store, and what the store knows to them; beside the path, by one task, in that order."""

    def __init__(self, store: SpendStore, wall: Callable[[], float], on_soft: OnSoft | None = None) -> None:
        self.wall = wall
        self.on_soft: OnSoft = on_soft or log_soft
        self._store = store
        self._unsaved: dict[tuple[str, float], float] = {}
        #: To be read.
        self._touched: set[Purse] = set()
        self._read = asyncio.Event()
        self._work = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._down = False
        self._closing = False
        #: Requests that were let in though it could not be read what had been spent.
        self.unread = 0

    def owes(self, purse: Purse) -> bool:
        """The store does not know yet all that was spent of it."""
        return (purse.account, purse.began) in self._unsaved

    def spend(self, purse: Purse, cost_usd: float) -> None:
        entry = (purse.account, purse.began)
        self._unsaved[entry] = self._unsaved.get(entry, 0.0) + cost_usd
        if purse.lease is not None:
            purse.lease.spend(cost_usd)
        self.touch(purse)

    def touch(self, purse: Purse) -> None:
        """It is read soon: others may have spent of it too."""
        self._touched.add(purse)
        if self._timer is None and not self._closing:
            self._start()
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._work.set)

    async def meet(self, purses: Sequence[Purse]) -> None:
        """Returns when what they have spent is known, or cannot be."""
        self._start()
        with suppress(TimeoutError):
            async with asyncio.timeout(MEET_TIMEOUT_S):
                while unmet := [purse for purse in purses if not purse.met]:
                    self._touched.update(unmet)
                    self._work.set()
                    await self._read.wait()
        if unmet or self._down:
            self.unread += 1

    async def close(self, timeout_s: float) -> None:
        """Nothing that was spent is lost, if the store can be reached."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._work.set()
            await asyncio.wait([self._task], timeout=timeout_s)
            self._task.cancel()

    # --- the store

    def _start(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while not self._closing:
            await self._work.wait()
            self._work.clear()
            self._timer = None
            try:
                await self._save()
                await self._read_touched()
                self._down = False
            except Exception as error:  # whatever it is: requests must not wait for it
                self._rest(error)
            self._read.set()
            self._read = asyncio.Event()
        try:
            await self._save()  # what was spent while the store was read
        except Exception as error:  # as above
            self._rest(error)

    async def _save(self) -> None:
        while self._unsaved:
            saved, self._unsaved = self._unsaved, {}
            try:
                await self._store.add_spend(saved)
            except BaseException:
                for entry, usd in saved.items():
                    self._unsaved[entry] = self._unsaved.get(entry, 0.0) + usd
                raise

    async def _read_touched(self) -> None:
        while self._touched:
            purses = [self._touched.pop() for _ in range(min(len(self._touched), READ_AT_ONCE))]
            entries = {purse: (purse.account, purse.began) for purse in purses}
            try:
                found = await self._store.spend_of(set(entries.values()))
            except BaseException:
                self._touched.update(purses)
                raise
            for purse, entry in entries.items():
                if entry == (purse.account, purse.began):
                    self._hear(purse, found.get(entry, 0.0))

    def _hear(self, purse: Purse, saved: float) -> None:
        purse.met = True
        spent = saved + self._unsaved.get((purse.account, purse.began), 0.0)
        if purse.lease is not None:  # the cluster knows better, unless it has forgotten
            purse.lease.known_spent = saved
            spent = max(spent, purse.spent)
        purse.set_spent(spent)

    def _rest(self, error: Exception) -> None:
        if not self._down:
            self._down = True
            what = error.detail or error.message if isinstance(error, StoreDown) else repr(error)
            _log.warning("What was spent can be neither saved nor read; budgets go on from what is known: %s", what)
        for purse in self._touched:
            purse.met = True
        if not self._closing:
            self._timer = asyncio.get_running_loop().call_later(RETRY_S, self._work.set)


def log_soft(account: str, spent: float, budget: Budget) -> None:
    share = spent / budget.usd
    _log.warning("%s has spent %.0f %% of its budget: %.6g of %g USD %s", account, share * 100, spent, budget.usd, _WORDS[budget.per])


def rfc3339(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
