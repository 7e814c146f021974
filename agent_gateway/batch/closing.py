"""The end of a batch: what was not run is closed, results become files, and the batch says so by compare-and-swap.

Promise: the files hold one line for every item; whoever dies in between leaves files that end by themselves, and another writes them anew.
"""

from __future__ import annotations

from typing import Literal

from agent_gateway.batch.figures import BatchFigures
from agent_gateway.batch.file_writer import FileWriter
from agent_gateway.batch.identity import new_file_id
from agent_gateway.batch.intake import drop_items
from agent_gateway.batch.results import result_line
from agent_gateway.batch.tenure import Overtaken, Tenure
from agent_gateway.core.clock import Clock
from agent_gateway.stores.batches import BatchStore, StoredBatch, StoredFile

#: Output and error files are kept so long where nothing else was asked for (s): 30 days, as OpenAI does.
RESULTS_TTL_S = 30 * 86_400.0
#: Items closed in one transaction, and read at once.
CLOSED_AT_ONCE = 1_000
READ_AT_ONCE = 64


async def close_batch(store: BatchStore, tenure: Tenure, clock: Clock, figures: BatchFigures) -> None:
    """`completed`, `expired` or `cancelled` afterwards; as before where calls are still under way. Raises `Overtaken`."""
    if not tenure.batch.total:  # cancelled while it was read in
        await drop_items(store, tenure.batch.id)
    if tenure.batch.unfinished and not await _close_items(store, tenure, clock, figures):
        await tenure.end()
        return
    if tenure.batch.status == "in_progress":
        await tenure.change(status="finalizing", finalizing_at=clock.wall())
    batch = tenure.batch
    output, errors = (FileWriter(store, _file(batch, kind, clock.wall())) for kind in ("output", "error"))
    try:
        await _write(store, tenure, output, errors)
        for writer in (output, errors):
            if writer.size:
                await writer.complete()
        batch = await _end(tenure, output.file.id if output.size else None, errors.file.id if errors.size else None, clock.wall())
    except Overtaken:
        await output.abandon()
        await errors.abandon()
        raise
    figures.durations.observe((batch.ended_at or batch.created_at) - batch.created_at)
    await drop_items(store, batch.id)


async def _close_items(store: BatchStore, tenure: Tenure, clock: Clock, figures: BatchFigures) -> bool:
    """What nobody holds; False: others are held still."""
    state: Literal["cancelled", "expired"] = "cancelled" if tenure.batch.status == "cancelling" else "expired"
    while True:
        closed, some_held = await store.close_items(tenure.batch.id, state, now=clock.wall(), limit=CLOSED_AT_ONCE)
        figures.items[state] += closed
        if closed < CLOSED_AT_ONCE:
            return not some_held
        await tenure.renew()


async def _write(store: BatchStore, tenure: Tenure, output: FileWriter, errors: FileWriter) -> None:
    after = 0
    while items := await store.read_items(tenure.batch.id, after=after, limit=READ_AT_ONCE):
        lines: dict[bool, list[bytes]] = {True: [], False: []}
        for item in items:
            lines[item.state == "done"].append(result_line(tenure.batch.id, item))
        await output.write(b"".join(lines[True]))
        await errors.write(b"".join(lines[False]))
        after = items[-1].number
        await tenure.renew()


async def _end(tenure: Tenure, output: str | None, errors: str | None, now: float) -> StoredBatch:
    batch = tenure.batch
    if batch.status == "cancelling":
        return await tenure.end(status="cancelled", cancelled_at=now, output_file=output, error_file=errors)
    if batch.unfinished:
        return await tenure.end(status="expired", expired_at=now, output_file=output, error_file=errors)
    return await tenure.end(status="completed", completed_at=now, output_file=output, error_file=errors)


def _file(batch: StoredBatch, kind: str, now: float) -> StoredFile:
    expires_at = now + (batch.output_ttl_s or RESULTS_TTL_S)
    return StoredFile(new_file_id(), batch.owner, f"{batch.id}_{kind}.jsonl", "batch_output", now, expires_at)
