"""What a store promises of files and batches; SQLite, PostgreSQL and memory keep them, Redis does not (`batches_of`).

Promise: an item has one result, whoever works on it: who holds the item writes it, in the transaction that counts it. `delete_user` of
a store (`stores/base.py`) deletes the user's files and batches too.
Every method raises `StoreDown` as those of `stores/base.py` do. Times: Unix seconds, the caller's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, Protocol, TypedDict, Unpack, get_args, runtime_checkable

from agent_gateway.core.errors import BadRequest, NotFound
from agent_gateway.stores.base import Owner

#: Of a file's content; all but the last one may be shorter too.
CHUNK_BYTES_MAX = 1024 * 1024
#: Different models in one batch.
MODELS_MAX = 20

BatchStatus = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
#: Nothing becomes of a batch any more.
ENDED: frozenset[BatchStatus] = frozenset({"failed", "completed", "expired", "cancelled"})
OPEN: frozenset[BatchStatus] = frozenset(get_args(BatchStatus)) - ENDED
#: `waiting`, `running` and `sent` may still change, the others never do. Held are both of the middle ones: `sent`, claimed early, for long.
ItemState = Literal["waiting", "running", "sent", "done", "failed", "cancelled", "expired"]
#: How an item came to its result.
Cause = Literal["live", "native", "duplicate", "cache"]

# --- files ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredFile:
    id: str
    owner: Owner
    filename: str
    #: As OpenAI names it: `batch`, `batch_output`.
    purpose: str
    created_at: float
    #: None: never.
    expires_at: float | None = None
    bytes: int = 0
    #: False: its content is still being written; nobody finds it.
    complete: bool = False


@dataclass(frozen=True, slots=True)
class FilePage:
    """Youngest first; the last one's id is the cursor to go on from."""

    files: Sequence[StoredFile]
    has_more: bool


class FileStore(Protocol):
    """A file that is another owner's, has expired or is not complete is not there."""

    async def begin_file(self, file: StoredFile) -> None:
        """Its content follows in chunks."""

    async def add_chunk(self, file_id: str, place: int, body: bytes) -> None:
        """`place` counts from 0. A place that is taken is replaced. Raises `NotFound` when the file is gone."""

    async def complete_file(self, file_id: str, size: int) -> StoredFile | None:
        """From now on it is there, of `size` bytes. None: it is gone."""

    async def find_file(self, owner: Owner, file_id: str, now: float) -> StoredFile | None: ...

    async def list_files(self, owner: Owner, *, now: float, limit: int, cursor: str | None = None, purpose: str | None = None) -> FilePage:
        """A cursor that is no file of the owner's: `BadRequest`."""

    async def read_chunk(self, file_id: str, place: int) -> bytes | None:
        """None: there are no more."""

    async def delete_file(self, owner: Owner, file_id: str) -> bool:
        """With its content, complete or not; False: there was none."""

    async def sweep_files(self, now: float, *, abandoned_before: float, limit: int) -> int:
        """Deletes what has expired, and what was begun before then and never completed; how many."""


# --- batches ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredBatch:
    id: str
    owner: Owner
    #: A path: `/v1/chat/completions`.
    endpoint: str
    input_file: str
    #: As it was asked for (`24h`); it is over at `expires_at`.
    completion_window: str
    created_at: float
    expires_at: float
    status: BatchStatus = "validating"
    #: Another number after every change of what is not counted by `finish_items`.
    version: int = 1
    #: JSON of the client's own.
    metadata: bytes | None = None
    #: The key that it was made with, as JSON, where that is no key of the store (a token's).
    key: bytes | None = None
    #: Of all its items; known when it is `in_progress`.
    models: tuple[str, ...] = ()
    total: int = 0
    #: JSON array: why it is `failed`.
    errors: bytes | None = None
    output_file: str | None = None
    error_file: str | None = None
    in_progress_at: float | None = None
    finalizing_at: float | None = None
    completed_at: float | None = None
    failed_at: float | None = None
    expired_at: float | None = None
    cancelling_at: float | None = None
    cancelled_at: float | None = None
    #: Who reads its file, or writes its results, and until when nobody else does.
    holder: str | None = None
    lease_until: float = 0.0
    #: What a provider's own batches know of it, as JSON.
    plan: bytes | None = None
    #: Whether identical requests are run once; None: those whose answers would be the same anyway.
    deduplicate: bool | None = None
    #: Its files are kept so long; None: as long as the gateway chooses.
    output_ttl_s: int | None = None
    # Counted by `finish_items`, in the transaction of the results.
    completed: int = 0
    failed: int = 0
    cost_usd: float = 0.0
    #: What the same answers would have cost one by one.
    single_cost_usd: float = 0.0
    #: Of the difference, what a cause made up.
    native_saved_usd: float = 0.0
    duplicate_saved_usd: float = 0.0
    cache_saved_usd: float = 0.0
    #: Calls that may have been made and whose answers were lost with their process: they were made again.
    lost_calls: int = 0

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def unfinished(self) -> int:
        return self.total - self.completed - self.failed

    @property
    def ended_at(self) -> float | None:
        """When it did; None: it has not."""
        return self.completed_at or self.failed_at or self.expired_at or self.cancelled_at

    @property
    def saved_ratio(self) -> float | None:
        """Of what its answers would have cost one by one, the share that was saved; None: they would have cost nothing."""
        return 1 - self.cost_usd / self.single_cost_usd if self.single_cost_usd > 0 else None

    @property
    def saved_by(self) -> dict[Cause, float]:
        """USD."""
        return {"native": self.native_saved_usd, "duplicate": self.duplicate_saved_usd, "cache": self.cache_saved_usd}


class BatchChanges(TypedDict, total=False):
    """What `update_batch` changes; see `StoredBatch`."""

    status: BatchStatus
    models: tuple[str, ...]
    total: int
    errors: bytes | None
    output_file: str | None
    error_file: str | None
    in_progress_at: float | None
    finalizing_at: float | None
    completed_at: float | None
    failed_at: float | None
    expired_at: float | None
    cancelling_at: float | None
    cancelled_at: float | None
    holder: str | None
    lease_until: float
    plan: bytes | None


@dataclass(frozen=True, slots=True)
class BatchPage:
    """Youngest first; the last one's id is the cursor to go on from."""

    batches: Sequence[StoredBatch]
    has_more: bool


@dataclass(frozen=True, slots=True)
class NewItem:
    #: Its line in the input file, from 1.
    number: int
    custom_id: str
    model: str
    #: The request's body, verbatim JSON.
    body: bytes
    #: What its request begins with, in short: those that share it are claimed one after the other.
    prefix: str = ""
    #: Before then it is only claimed early.
    due_at: float = 0.0
    #: Of an item of the same batch: its result is this one's too. It is never claimed itself, and its body is not kept.
    twin: int | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """Items are wanted: `limit` at most, and of each model as many as there is `room` for."""

    holder: str
    room: Mapping[str, int]
    now: float
    lease_s: float
    limit: int
    #: Batches that are passed over.
    without: frozenset[str] = frozenset()
    #: Only of this one.
    batch: str | None = None
    #: Those that wait, due or not, for a provider's own batch: they are `sent`, and their owner is not taken to be busy with them.
    early: bool = False


@dataclass(frozen=True, slots=True)
class ClaimedItem:
    """Held until the lease ends. Whoever claims it after that has a higher `fence`; what this holder says then is not heard."""

    batch: str
    number: int
    fence: int
    custom_id: str
    model: str
    body: bytes
    #: How often it was begun, this time included.
    attempts: int
    owner: Owner
    endpoint: str
    batch_expires_at: float
    #: `StoredBatch.key`.
    key: bytes | None = None


@dataclass(frozen=True, slots=True)
class ItemResult:
    batch: str
    number: int
    fence: int
    state: Literal["done", "failed"]
    #: What a client of the endpoint would have got.
    status_code: int
    #: The record's.
    request_id: str
    #: The answer's body, JSON on one line.
    body: bytes
    cost_usd: float = 0.0
    single_cost_usd: float = 0.0
    cause: Cause = "live"


@dataclass(slots=True)
class BatchSums:
    """By how much the figures of a batch grow by what became of its items."""

    completed: int = 0
    failed: int = 0
    cost_usd: float = 0.0
    single_cost_usd: float = 0.0
    native_saved_usd: float = 0.0
    duplicate_saved_usd: float = 0.0
    cache_saved_usd: float = 0.0
    lost_calls: int = 0

    def add_returned(self, item: ReturnedItem) -> None:
        """One by one its failure would have cost the same."""
        self.lost_calls += item.lost
        self.cost_usd += item.cost_usd
        self.single_cost_usd += item.cost_usd

    def add_result(self, item: ItemResult, twins: int) -> None:
        if item.state == "done":
            self.completed += 1 + twins
        else:
            self.failed += 1 + twins
        self.cost_usd += item.cost_usd
        self.single_cost_usd += item.single_cost_usd * (1 + twins)
        self.duplicate_saved_usd += item.single_cost_usd * twins
        saved_usd = item.single_cost_usd - item.cost_usd
        match item.cause:
            case "live":
                pass
            case "native":
                self.native_saved_usd += saved_usd
            case "duplicate":
                self.duplicate_saved_usd += saved_usd
            case "cache":
                self.cache_saved_usd += saved_usd

    def grown(self) -> dict[str, float]:
        """By name, those that did."""
        return {name: value for name, value in asdict(self).items() if value}


@dataclass(frozen=True, slots=True)
class ReturnedItem:
    batch: str
    number: int
    fence: int
    #: Nobody claims it before then.
    due_at: float
    #: False: its call was never begun; the attempt is not counted.
    attempted: bool = True
    #: Of the attempt that failed.
    cost_usd: float = 0.0
    #: Its call may have been made, and what came of it cannot be had: it is counted in `StoredBatch.lost_calls`.
    lost: bool = False


@dataclass(frozen=True, slots=True)
class FinishedItem:
    number: int
    custom_id: str
    state: ItemState
    status_code: int | None
    request_id: str | None
    body: bytes | None


@dataclass(frozen=True, slots=True)
class HeldItems:
    """How many of a batch somebody works on: in calls, and in providers' own batches or on their way there."""

    running: int
    sent: int


@runtime_checkable
class BatchStore(FileStore, Protocol):
    """A batch that is another owner's is not there."""

    async def create_batch(self, batch: StoredBatch) -> None: ...

    async def find_batch(self, owner: Owner | None, batch_id: str) -> StoredBatch | None:
        """Whoever's it is, where `owner` is None."""

    async def list_batches(
        self, owner: Owner | None, *, limit: int, cursor: str | None = None, statuses: Collection[BatchStatus] | None = None
    ) -> BatchPage:
        """Of everybody when `owner` is None, of any status when `statuses` is. A cursor that is no batch of the owner's: `BadRequest`."""

    async def update_batch(self, batch_id: str, expected_version: int, **changes: Unpack[BatchChanges]) -> StoredBatch | None:
        """The batch as it is now; None: it is gone, or its version is another one, and nothing has changed."""

    async def open_batches(self, *, limit: int) -> Sequence[StoredBatch]:
        """Those that have not ended, oldest first."""

    async def add_items(self, batch_id: str, items: Sequence[NewItem]) -> None:
        """In one transaction. Those of a number that is there already are passed over."""

    async def delete_items(self, batch_id: str, limit: int) -> int:
        """Some of a batch's, whatever became of them; how many. A batch that is gone takes its items along by itself."""

    async def claim_items(self, claim: Claim) -> Sequence[ClaimedItem]:
        """Those that nobody holds, of batches in progress whose window is not over.

        Owners with the fewest items running come first, of each owner the oldest batch; of a batch and model what was due first, and of
        that by `NewItem.prefix`, then number. That an item was begun is noted with the claim; one that another held until its lease ended
        is counted in the batch's `lost_calls`. Claims never wait for each other.
        """

    async def held_items(
        self, batch_id: str, holder: str, *, after: int = 0, limit: int, among: Collection[int] | None = None
    ) -> Sequence[ClaimedItem]:
        """Those that the holder claimed early and that are its own still, by number; `among`: only of these numbers."""

    async def hasten_items(self, batch_id: str, model: str | None, *, now: float) -> int:
        """Those that wait, of one model or of all, are due now; how many were not yet."""

    async def extend_leases(
        self, holder: str, items: Sequence[tuple[str, int, int]], *, now: float, lease_s: float
    ) -> set[tuple[str, int]]:
        """`items`: batch, number and fence. Batch and number of those that are still the holder's."""

    async def finish_items(self, results: Sequence[ItemResult]) -> dict[tuple[str, int], int]:
        """In one transaction with what the batches count. Batch and number of those that were accepted: held, with that fence; and how many
        items each has ended: itself and its twins, whose answers cost nothing more.
        """

    async def return_items(self, items: Sequence[ReturnedItem]) -> None:
        """They wait again, for whoever, and what they cost is counted; what is not held with that fence any more stays as it is."""

    async def close_items(self, batch_id: str, state: Literal["cancelled", "expired"], *, now: float, limit: int) -> tuple[int, bool]:
        """Some of a batch's that nobody holds become so, for good, with their twins: how many, and whether somebody holds others."""

    async def read_items(self, batch_id: str, *, after: int, limit: int) -> Sequence[FinishedItem]:
        """In order of their numbers. A twin is shown as the item whose result it has."""

    async def failed_items(self, batch_id: str, *, limit: int) -> Sequence[FinishedItem]:
        """The first, without twins; of a batch that has ended none are kept."""

    async def count_held(self, batch_id: str, *, now: float) -> HeldItems: ...

    async def sweep_batches(self, *, ended_before: float, limit: int) -> int:
        """Deletes those that ended before then, with their items; how many."""


def batches_of(store: object) -> BatchStore:
    """Raises `BadRequest` where the store keeps none."""
    if not isinstance(store, BatchStore):
        raise BadRequest("Batches are not kept in Redis: set state.database to sqlite:///… or postgresql://… to use files and batches.")
    return store


def unknown_place(cursor: str) -> BadRequest:
    return BadRequest(f"after: there is nothing named {cursor[:100]!r} here.", param="after")


def file_gone(file_id: str) -> NotFound:
    return NotFound(f"The file {file_id[:100]} is gone.")
