"""Runs the items of batches: claimed from the store by lease, run through the pipeline, their results written in groups.

Promise: an item has exactly one result, whatever dies meanwhile; where there is no batch, one look a second is all it costs.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Collection, Coroutine

from agent_gateway.admission.keys import KeyRing
from agent_gateway.batch.figures import BatchFigures
from agent_gateway.batch.item_call import PassingFailure, run_item
from agent_gateway.batch.native.driver import Driver
from agent_gateway.batch.native.planner import Planner
from agent_gateway.batch.native.taking_in import TakingIn
from agent_gateway.batch.pacing import Pacing
from agent_gateway.batch.steward import Steward
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import Conflict, GatewayError
from agent_gateway.core.route import Route
from agent_gateway.health.registry import Health
from agent_gateway.pipeline import Live
from agent_gateway.stores.base import Owner
from agent_gateway.stores.batches import BatchStore, Claim, ClaimedItem, ItemResult, ReturnedItem, StoredBatch

#: An item is its holder's for so long, and the lease is renewed so often (s).
LEASE_S = 15.0
HEARTBEAT_S = 5.0
#: What ends is written together: after so long (s), or so many.
GROUP_S = 0.01
GROUP_MAX = 256
#: How often it is looked whether there is anything to do (s).
LOOK_S = 1.0
#: Items under way in one process, of all models.
UNDER_WAY_MAX = 1_000
#: The next item is begun when a turn of the event loop takes less than this again (s), but after so many turns in any case.
TURN_S = 0.002
TURNS_MAX = 8
#: Of a model that nobody knows: its items only have to be told so.
UNKNOWN_MODEL_ROOM = 8
#: Of the time to close in, the share that calls under way have to end by themselves.
CALLS_SHARE = 0.7

_log = logging.getLogger("agent_gateway.batch")
_Place = tuple[str, int]
#: Batch, number, fence.
_Hold = tuple[str, int, int]


class Engine:
    """One a process, over all reloads; belongs to the event loop.

    `live` is where the runtime of an item that begins now is looked up; `keys` tell the key that a batch was made with;
    `health` bounds how many calls are begun at a deployment.
    """

    def __init__(self, store: BatchStore, live: Live, keys: KeyRing, health: Health, clock: Clock) -> None:
        self.figures = BatchFigures()
        self._store = store
        self._live = live
        self._keys = keys
        self._health = health
        self._clock = clock
        self._holder = secrets.token_hex(8)
        planner = Planner(live, keys, health, clock)
        driver = Driver(store, planner, TakingIn(store, live, keys, self.figures, clock), clock)
        self._steward = Steward(store, clock, self._holder, self.figures, planner, driver, self.wake)
        self._pacing = Pacing()
        # Of the moment.
        self._under_way: dict[_Hold, asyncio.Task[None]] = {}
        self._of_model: Counter[str] = Counter()
        #: What has ended and is not written yet: as many as were under way at most, since nothing is claimed meanwhile.
        self._results: list[ItemResult] = []
        self._returned: list[ReturnedItem] = []
        #: When all leases were renewed last (Unix s).
        self._renewed_at = clock.wall()
        self._stirred = asyncio.Event()
        self._looked_at = 0.0
        self._in_progress: list[StoredBatch] = []
        self._store_was_down = False
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Within a running loop."""
        self.wake()  # what another left behind
        self._tasks = [self._spawn(self._work()), self._spawn(self._beat())]

    async def close(self, timeout_s: float) -> None:
        """Begins nothing more; what is under way may end within the time, the rest is given back for others to run."""
        self._closing = True
        await self._steward.close()
        if self._under_way:
            await asyncio.wait(self._under_way.values(), timeout=timeout_s * CALLS_SHARE)
        left = dict(self._under_way)
        gone = [*self._tasks, *left.values()]
        for task in gone:
            task.cancel()
        if gone:
            await asyncio.wait(gone)
        try:
            await self._write()
            if left:  # another takes them over at once, and counts the calls that were cut off
                now = self._clock.wall()
                await self._store.extend_leases(self._holder, list(left), now=now, lease_s=0.0)
        except GatewayError as error:
            _log.warning("what was left of batches at the end was not written; it is run again: %s", error.detail or error.message)

    def wake(self) -> None:
        """There is something to do: a batch was created or cancelled here. Costs nothing."""
        self._looked_at = 0.0
        self._stir()

    async def cancel(self, owner: Owner | None, batch_id: str) -> StoredBatch | None:
        """`cancelling` from now on: what runs may end, the rest is not begun. `Conflict` when it has ended. None: there is none."""
        while (batch := await self._store.find_batch(owner, batch_id)) is not None:
            if batch.status in ("cancelling", "cancelled"):
                return batch
            if batch.status not in ("validating", "in_progress"):
                raise Conflict(f"The batch {batch_id[:100]} is {batch.status}; it cannot be cancelled any more.")
            now = self._clock.wall()
            changed = await self._store.update_batch(batch_id, batch.version, status="cancelling", cancelling_at=now)
            if changed is not None:
                self.wake()
                return changed
        return None

    # --- the loop

    def _stir(self) -> None:
        self._stirred.set()

    async def _work(self) -> None:
        while True:
            await self._something_to_do()
            try:
                await self._write()
                if not self._closing:
                    await self._look()
                    if await self._claim():
                        self._stir()
                self._store_was_down = False
            except GatewayError as error:
                self._bear(error)
                await asyncio.sleep(LOOK_S)
            except Exception:
                _log.exception("batches stood still, by a fault of the gateway")
                await asyncio.sleep(LOOK_S)

    async def _something_to_do(self) -> None:
        try:
            async with asyncio.timeout(LOOK_S):
                await self._stirred.wait()
        except TimeoutError:
            return
        self._stirred.clear()
        if self._under_way and len(self._results) < GROUP_MAX:  # more may end soon
            await asyncio.sleep(GROUP_S)

    def _bear(self, error: GatewayError) -> None:
        if not self._store_was_down:
            _log.warning("batches stand still until the store is back: %s", error.detail or error.message)
        self._store_was_down = True
        self._stir()

    async def _look(self) -> None:
        """At all batches that have not ended, once in `LOOK_S` and when woken."""
        now = self._clock.monotonic()
        if self._looked_at and now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        self._in_progress = await self._steward.look()
        self._pacing.keep_only(frozenset(batch.id for batch in self._in_progress))

    async def _claim(self) -> bool:
        """Begins as many items as there are and is room for; whether there may be more."""
        room = self._room()
        limit = min(UNDER_WAY_MAX - len(self._under_way), self._live.runtime.settings.batching.max_size, sum(room.values()))
        if limit <= 0:
            return False
        now = self._clock.wall()
        if now - self._renewed_at >= LEASE_S:  # or what is under way here could be claimed anew: also where this took as long
            await self._renew()
            return True
        paused = self._pacing.paused(self._clock.monotonic())
        claim = Claim(self._holder, room, now, LEASE_S, limit, paused)
        items = await self._store.claim_items(claim)
        for item in items:
            self._of_model[item.model] += 1
            self._under_way[_hold(item)] = self._spawn(self._run(item))
            await self._loop_keeps_up()
        return len(items) == limit

    async def _loop_keeps_up(self) -> None:
        """Interactive requests get their turn in between, and soon."""
        for _ in range(TURNS_MAX):
            began = self._clock.monotonic()
            await asyncio.sleep(0)
            if self._clock.monotonic() - began < TURN_S:
                return

    def _room(self) -> dict[str, int]:
        models = {model for batch in self._in_progress for model in batch.models}
        room = {model: self._capacity(model) - self._of_model[model] for model in models}
        return {model: free for model, free in room.items() if free > 0}

    def _capacity(self, model: str) -> int:
        """`batching.concurrency` calls at each deployment, or as many as it bears beside the interactive ones."""
        route = self._live.runtime.gate.route(model)
        return UNKNOWN_MODEL_ROOM if route is None else max(sum(self._bounds(route)), 1)

    def _bounds(self, route: Route) -> list[int]:
        now = self._clock.monotonic()
        rooms = [self._health.of(deployment.id).room_for_batches(now) for deployment in route.deployments]
        most = route.batching.concurrency
        return [most if room is None else min(most, room) for room in rooms]

    # --- an item

    async def _run(self, item: ClaimedItem) -> None:
        try:
            result = await run_item(item, self._live.runtime, self._keys)
        except PassingFailure as failure:
            wait_s = self._pacing.failed(item.batch, failure.error, item.attempts, self._clock.monotonic())
            due_at = self._clock.wall() + wait_s
            self._returned.append(ReturnedItem(*_hold(item), due_at, cost_usd=failure.cost_usd))
        else:
            self._pacing.succeeded(item.batch)
            self._results.append(result)
        finally:
            del self._under_way[_hold(item)]
            self._of_model[item.model] -= 1
            self._stir()

    async def _write(self) -> None:
        """What could not be written stays for the next time."""
        while self._results:
            group = self._results[:GROUP_MAX]
            accepted = await self._store.finish_items(group)
            del self._results[: len(group)]
            for result in group:
                self.figures.items[result.state] += accepted.get((result.batch, result.number), 0)
            self._tell_steward(accepted)
        while self._returned:
            some = self._returned[:GROUP_MAX]
            await self._store.return_items(some)
            del self._returned[: len(some)]

    def _tell_steward(self, accepted: Collection[_Place]) -> None:
        """A batch may be complete now: when nothing of it is under way here, it is looked at without delay."""
        under_way = {batch for batch, *_ in self._under_way}
        if any(batch not in under_way for batch, _ in accepted):
            self.wake()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            try:
                await self._renew()
            except GatewayError as error:
                self._bear(error)

    async def _renew(self) -> None:
        """The leases of what is under way; who lost one has been taken for dead, and stops."""
        now, held = self._clock.wall(), dict(self._under_way)
        unwritten = [*map(_hold, self._results), *map(_hold, self._returned)]
        if held or unwritten:
            kept = await self._store.extend_leases(self._holder, [*held, *unwritten], now=now, lease_s=LEASE_S)
            for (batch, number, _), task in held.items():
                if (batch, number) not in kept:
                    task.cancel()
        self._renewed_at = now

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)


def _hold(item: ClaimedItem | ItemResult | ReturnedItem) -> _Hold:
    return item.batch, item.number, item.fence
