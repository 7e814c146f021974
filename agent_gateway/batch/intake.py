"""A new batch: its input file becomes items, or errors with line numbers. Done again after a crash, it comes to the same."""

from __future__ import annotations

import asyncio

import msgspec

from agent_gateway.batch.native.planner import Planner, Targets
from agent_gateway.batch.submission import LineError, Submission
from agent_gateway.batch.tenure import Tenure
from agent_gateway.core.clock import Clock
from agent_gateway.stores.batches import BatchStore, NewItem

#: After so many lines others get their turn on the event loop (one takes some 20 µs).
LINES_AT_ONCE = 20
#: Items, and bytes of their bodies, put into the store in one transaction.
ITEMS_AT_ONCE = 500
ITEMS_BYTES_AT_ONCE = 4 * 1024 * 1024
#: Items deleted in one transaction.
DELETED_AT_ONCE = 1_000


async def take_in(store: BatchStore, tenure: Tenure, clock: Clock, planner: Planner) -> None:
    """`in_progress` or `failed` afterwards. Raises `Overtaken`, also when the batch was cancelled meanwhile."""
    batch = tenure.batch
    targets = Targets(planner, batch)
    submission = Submission(batch.endpoint, deduplicate=batch.deduplicate)
    if await store.find_file(batch.owner, batch.input_file, clock.wall()) is None:
        submission.errors.append(LineError("file_not_found", f"The input file {batch.input_file} is not there any more."))
    else:
        await _read(store, tenure, submission, targets)
    now = clock.wall()
    if submission.errors:
        await drop_items(store, batch.id)
        await tenure.end(status="failed", failed_at=now, errors=msgspec.json.encode(submission.errors))
    else:
        models = tuple(sorted(submission.models))
        for model in submission.models - targets.models:  # by one who is gone, and had another configuration, they may have been put off
            await store.hasten_items(batch.id, model, now=now)
        await tenure.end(status="in_progress", in_progress_at=now, total=submission.total, models=models, plan=targets.plan())


async def drop_items(store: BatchStore, batch_id: str) -> None:
    while await store.delete_items(batch_id, DELETED_AT_ONCE) == DELETED_AT_ONCE:
        pass


async def _read(store: BatchStore, tenure: Tenure, submission: Submission, targets: Targets) -> None:
    batch = tenure.batch
    items: list[NewItem] = []
    size = place = lines = 0
    while not submission.hopeless and (chunk := await store.read_chunk(batch.input_file, place)) is not None:
        place += 1
        for item in submission.feed(chunk):
            lines += 1
            if lines % LINES_AT_ONCE == 0:
                await asyncio.sleep(0)
            if item is None:
                continue
            items.append(targets.meant(item))
            size += len(item.body)
            if len(items) >= ITEMS_AT_ONCE or size >= ITEMS_BYTES_AT_ONCE:
                await _put(store, tenure, submission, items)
                items, size = [], 0
        await tenure.renew()
    if (last := submission.finish()) is not None:
        items.append(targets.meant(last))
    await _put(store, tenure, submission, items)


async def _put(store: BatchStore, tenure: Tenure, submission: Submission, items: list[NewItem]) -> None:
    """Of a file that is refused anyway nothing more is kept."""
    if items and not submission.errors:
        await store.add_items(tenure.batch.id, items)
    await tenure.renew()
