"""The life of a batch's parts at providers: gathered, sent, waited for, taken in; one step at a time, by whoever has the tenure.

Promise: every step is noted before it is taken, so that whoever takes over knows what may have happened. What a provider may have run and
cannot be had is counted (`lost_calls`); every item that it did not run well is run live.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from agent_gateway.batch.native.base import Unclear
from agent_gateway.batch.native.gathering import gather
from agent_gateway.batch.native.plan import Part, Plan, Target, plan_of
from agent_gateway.batch.native.planner import Place, Planner, stop_s
from agent_gateway.batch.native.sending import is_certain, is_gone, is_refused, job_of, requests_of
from agent_gateway.batch.native.taking_in import TakingIn
from agent_gateway.batch.tenure import Overtaken, Tenure
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import ProviderError
from agent_gateway.stores.batches import BatchStore, StoredBatch

#: Open batches looked at.
BATCHES_MAX = 1_000
#: A part that runs is looked at again after this share of the time that it has taken so far, within these bounds (s).
POLL_SHARE = 0.1
POLL_MIN_S = 1.0
POLL_MAX_S = 60.0
#: After a failure, doubled with each further one (s).
RETRY_S = 2.0
RETRY_MAX_S = 60.0
#: Where too much waits already, a part is sent again after `POLL_SHARE` too, within these bounds (s).
QUEUE_MIN_S = 60.0
QUEUE_MAX_S = 1_800.0
#: This share of the window a part is tried to be sent, and so often what is not there is asked for; then its items are run live.
SEND_SHARE = 0.05
GONE_TRIES = 3

_log = logging.getLogger("agent_gateway.batch")


class Driver:
    """`drive` a batch whose parts are to be looked at (`plan.next_at`)."""

    def __init__(self, store: BatchStore, planner: Planner, taking_in: TakingIn, clock: Clock) -> None:
        self.store = store
        self.planner = planner
        self.taking_in = taking_in
        self.clock = clock

    async def drive(self, tenure: Tenure) -> None:
        """The next step of each part that is due. Raises `Overtaken` and `StoreDown`."""
        plan = plan_of(tenure.batch)
        gathered = list(plan.targets)
        for target in gathered:
            await self._gather(tenure, plan, target)
        for part in list(plan.parts):
            can_stop = part.can_stop and tenure.batch.status == "cancelling"
            if part.next_at <= self.clock.wall() or can_stop or self.planner.is_stranded(part):
                if await _Step(self, tenure, plan, part).take():
                    plan.parts.remove(part)
                await tenure.change(plan=plan.written())
        for target in gathered:  # what was left: not before, or it would spend the budget that the parts are to be paid from
            await self.store.hasten_items(tenure.batch.id, target.model, now=self.clock.wall())
            plan.targets.remove(target)
        await tenure.end(plan=plan.written())

    async def _gather(self, tenure: Tenure, plan: Plan, target: Target) -> None:
        batch = tenure.batch
        place = self.planner.place_at(batch, target.model, target.deployment)
        if place is not None and not self.is_over(batch) and not self.planner.is_drained(target.deployment):
            left_usd = await self.left_usd(batch, place)
            await gather(self.store, self.clock, tenure, plan, target, place, self.planner.give_up_at(batch, place), left_usd)

    async def left_usd(self, batch: StoredBatch, place: Place, *, without: str | None = None) -> float:
        return await self.planner.left_usd(batch, place, await self.store.open_batches(limit=BATCHES_MAX), without)

    def is_over(self, batch: StoredBatch) -> bool:
        return batch.status != "in_progress" or batch.expires_at <= self.clock.wall()


class _Step:
    """One of one part."""

    def __init__(self, driver: Driver, tenure: Tenure, plan: Plan, part: Part) -> None:
        self._driver = driver
        self._clock = driver.clock
        self._tenure = tenure
        self._plan = plan
        self._part = part
        self._place = driver.planner.place_at(tenure.batch, part.model, part.deployment)
        #: Whatever can still be had of it is to be had soon.
        self._over = driver.is_over(tenure.batch) or part.give_up_at <= self._clock.wall()

    async def take(self) -> bool:
        """Whether the part is over: all of its items have come to something."""
        part, place = self._part, self._place
        if self._over and part.stopping_at is None:
            part.stopping_at = self._clock.wall()
        if part.is_unsent and (self._over or place is None or self._is_drained()):
            await self._release(attempted=False)
            return True
        if place is None:
            return await self._put_off("the configuration does not have it any more")
        try:
            match part.stage:
                case "gathering" | "held":
                    return await self._send(place)
                case "sending":
                    return await self._find(place)
                case "waiting" | "stopping":
                    return await self._look(place)
        except ProviderError as error:
            return await self._bear(error)

    async def _send(self, place: Place) -> bool:
        part = self._part
        if await self._driver.left_usd(self._tenure.batch, place, without=part.id) <= 0:
            await self._release(attempted=False)
            return True
        is_cached = await self._driver.planner.cached(self._tenure.batch, place)
        lines = await requests_of(self._driver.store, self._tenure, part, place, is_cached)
        if not lines:
            return True
        part.account, part.sent_at, part.stage = part.account or place.provider.account(), part.sent_at or self._clock.wall(), "sending"
        await self._note()
        try:
            part.upstream = await self._tenure.during(place.api.create(job_of(part, place), lines))
        except ProviderError as error:
            if is_certain(error):
                part.stage, part.account = "held", ""  # another key may be the better one
            raise
        self._begin_waiting()
        try:
            await self._note()
        except Overtaken:  # whoever has it now may have sent it too, and does not know of this one
            with suppress(ProviderError):
                await place.api.cancel(job_of(part, place))
            raise
        _log.info("%s has %d requests of the batch %s as %s", part.deployment, part.items, self._tenure.batch.id, part.upstream)
        return False

    async def _find(self, place: Place) -> bool:
        part = self._part
        try:
            part.upstream = await self._tenure.during(place.api.find(job_of(part, place)))
        except Unclear:
            return await self._wait("it cannot be told whether it has the batch")
        if part.upstream is None:
            part.stage = "held"
            return await self.take()
        self._begin_waiting()
        return False

    async def _look(self, place: Place) -> bool:
        part = self._part
        job = job_of(part, place)
        progress = await self._tenure.during(place.api.look(job))
        match progress.state:
            case "ended":
                await self._driver.taking_in.take_in(self._tenure, part, place, job, progress)
            case "failed" if progress.may_pass and not self._over:
                await self._tenure.during(place.api.discard(job, progress))
                return self._hold(progress.detail)
            case "failed":
                _log.warning(
                    "%s has failed with a batch (%s); its requests are run live", part.deployment, progress.detail or "it does not say why"
                )
                await self._release()
            case "running":
                if self._over and part.stage == "waiting":
                    await self._tenure.during(place.api.cancel(job))
                    part.stage = "stopping"
                return await self._wait("it has not ended in time")
        await self._tenure.during(place.api.discard(job, progress))
        return True

    async def _wait(self, late: str) -> bool:
        """Until the next look; `late` says what is wrong where there is none."""
        part, now = self._part, self._clock.wall()
        if self._is_late(now):
            return await self._abandon(late)
        since = part.stopping_at or part.sent_at
        part.failures, part.next_at = 0, now + min(max(POLL_SHARE * (now - since), POLL_MIN_S), POLL_MAX_S)
        return False

    def _hold(self, why: str) -> bool:
        """Until there is room for it: as long as the window allows, that is worth the wait."""
        part, now = self._part, self._clock.wall()
        _log.info("%s has no room for a batch of %d requests yet (%s); it is sent again later", part.deployment, part.items, why)
        part.stage, part.account, part.upstream = "held", "", None  # another key may be the better one
        part.next_at = now + min(max(POLL_SHARE * (now - part.sent_at), QUEUE_MIN_S), QUEUE_MAX_S)
        return False

    def _begin_waiting(self) -> None:
        part = self._part
        part.stage, part.failures, part.next_at = "waiting", 0, self._clock.wall() + POLL_MIN_S

    # --- what goes wrong

    async def _bear(self, error: ProviderError) -> bool:
        part = self._part
        why = error.detail or error.message
        if part.stage == "held" and (is_refused(error) or self._is_tired()):
            _log.warning("%s does not take a batch (%s); its requests are run live", part.deployment, why)
            await self._release(attempted=False)
            return True
        if part.stage == "sending" and self._is_tired():
            return await self._abandon(why)
        if part.stage in ("waiting", "stopping") and is_gone(error) and part.failures + 1 >= GONE_TRIES:
            return await self._abandon(f"what it had is not there any more: {why}")
        return await self._put_off(why, error.retry_after_s)

    async def _put_off(self, why: str, wait_s: float | None = None) -> bool:
        part, now = self._part, self._clock.wall()
        if self._is_late(now):
            return await self._abandon(why)
        if part.failures == 0:
            part.failing_since = now
            _log.warning("%s: a batch is %s still, and asked about again: %s", part.deployment, part.stage, why)
        part.failures += 1
        part.next_at = now + min(max(RETRY_S * 2.0 ** (min(part.failures, 10) - 1), wait_s or 0.0), RETRY_MAX_S)
        return False

    async def _abandon(self, why: str) -> bool:
        """It may have been run, and billed."""
        part, place = self._part, self._place
        if part.upstream is not None and place is not None:
            with suppress(ProviderError):
                await self._tenure.during(place.api.cancel(job_of(part, place)))
        lost = await self._release(lost=True)
        _log.warning("%s: %d requests of a batch are run live, and may have been run there too: %s", part.deployment, lost, why)
        return True

    def _is_drained(self) -> bool:
        drained = self._driver.planner.is_drained(self._part.deployment)
        if drained:
            _log.info("%s is drained; %d requests of a batch are run live instead", self._part.deployment, self._part.items)
        return drained

    def _is_tired(self) -> bool:
        batch, part = self._tenure.batch, self._part
        return part.failures > 0 and self._clock.wall() - part.failing_since >= SEND_SHARE * (batch.expires_at - batch.created_at)

    def _is_late(self, now: float) -> bool:
        batch, part = self._tenure.batch, self._part
        return now >= min((part.stopping_at or part.give_up_at) + stop_s(batch), batch.expires_at)

    async def _release(self, *, attempted: bool = True, lost: bool = False) -> int:
        return await self._driver.taking_in.release(self._tenure, self._part, attempted=attempted, lost=lost)

    async def _note(self) -> None:
        await self._tenure.change(plan=self._plan.written())
