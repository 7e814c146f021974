"""Batches as they run, whatever API they came by: each item answered by the simulated model when its time has come.

Promise: what is in a batch's results is billed as it ends, and nothing else is.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from agent_gateway.core.call import Dialect
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import BadRequest, RateLimited
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.base import codec_of
from agent_gateway.simulator.batches.billing import Billing
from agent_gateway.simulator.batches.faults import BatchFault, Some
from agent_gateway.simulator.batches.settings import BatchSettings
from agent_gateway.simulator.manners import manners_of
from agent_gateway.simulator.player import Sleep
from agent_gateway.simulator.simulator import Simulator

#: Batches of one API under way, and those that are remembered; the oldest that have ended go first.
RUNNING_MAX = 100
JOBS_MAX = 1000
#: Of the time that a batch takes, what its cancelling does.
_CANCELLING_SHARE = 0.1
#: What is due that soon is not waited for (s).
_TOGETHER_S = 0.001
_NOTHING = Usage()

State = Literal["waiting", "running", "cancelling", "ended"]
Outcome = Literal["completed", "failed", "expired", "cancelled"]
Kind = Literal["succeeded", "errored", "expired", "cancelled"]


@dataclass(frozen=True, slots=True)
class Request:
    """One item; `id` is its sender's."""

    id: str
    dialect: Dialect
    body: bytes
    path: str


@dataclass(frozen=True, slots=True)
class Result:
    """`status` and `body` as a live call would have had them; 0 and empty for what was not answered."""

    id: str
    kind: Kind
    status: int = 0
    body: bytes = b""
    request_id: str = ""
    #: For the bill. No model: it was not asked.
    model: str = ""
    usage: Usage | None = None


@dataclass(slots=True, kw_only=True)
class Job:
    id: str
    key: str
    model: str
    fault: BatchFault | None
    #: What its API shows of it, and nothing here acts on.
    shown: Any
    #: Items that are still to be answered; none once it has ended.
    requests: Sequence[Request]
    total: int
    #: Called at its end with what its sender is to see: a result for each item, in their order, but for what a fault made of them.
    keep: Callable[[Job, list[Result]], None]
    state: State = "waiting"
    outcome: Outcome | None = None
    #: Unix seconds.
    created_at: float
    started_at: float | None = None
    cancelling_at: float | None = None
    ended_at: float | None = None
    counts: Counter[Kind] = field(default_factory=Counter)
    #: Of all that were answered.
    usage: Usage = _NOTHING
    #: Those so far.
    results: list[Result] = field(default_factory=list)

    @property
    def answered_max(self) -> int:
        """So many of its items are answered before it ends."""
        match self.fault:
            case BatchFault("fail"):
                return 0
            case BatchFault("expire" | "hang", number):
                return number
            case _:
                return self.total

    def is_struck(self, kind: Some, position: int) -> bool:
        return self.fault is not None and self.fault.strikes(kind, position)


class Jobs:
    """Those of one API. Each runs in a task of its own, beside the live calls, which it lets go first after every item."""

    def __init__(
        self,
        simulator: Simulator,
        billing: Billing,
        settings: BatchSettings,
        clock: Clock,
        sleep: Sleep,
        *,
        is_all_or_nothing: bool,
    ) -> None:
        """`is_all_or_nothing`: of a batch that expires or is cancelled nothing is given out, or billed."""
        self._is_all_or_nothing = is_all_or_nothing
        self._simulator = simulator
        self._billing = billing
        self._duration_s = settings.batch_ms / 1000
        self._clock = clock
        self._sleep = sleep
        self._jobs: dict[str, Job] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, job: Job) -> None:
        """Raises `RateLimited` where too many run."""
        if len(self._tasks) >= RUNNING_MAX:
            raise RateLimited(f"{RUNNING_MAX} batches are under way; wait until one has ended.")
        if len(self._jobs) >= JOBS_MAX:
            del self._jobs[next(old.id for old in self._jobs.values() if old.state == "ended")]
        self._jobs[job.id] = job
        self._go_on(job, self._run(job))

    def find(self, key: str, job_id: str) -> Job | None:
        job = self._jobs.get(job_id)
        return job if job and job.key == key else None

    def of_key(self, key: str) -> Iterator[Job]:
        """Youngest first."""
        return (job for job in reversed(list(self._jobs.values())) if job.key == key)

    def cancel(self, job: Job) -> None:
        """Nothing, where it is cancelled already or has ended."""
        if job.state in ("cancelling", "ended"):
            return
        job.state, job.cancelling_at = "cancelling", self._clock.wall()
        self._tasks[job.id].cancel()
        self._go_on(job, self._wind_up(job))

    def forget(self, job: Job) -> None:
        if task := self._tasks.pop(job.id, None):
            task.cancel()
        del self._jobs[job.id]

    def _go_on(self, job: Job, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks[job.id] = asyncio.create_task(work)
        task.add_done_callback(lambda _: self._tasks.get(job.id) is task and self._tasks.pop(job.id))

    async def _run(self, job: Job) -> None:
        begun = self._clock.monotonic()
        await asyncio.sleep(0)
        job.state, job.started_at = "running", self._clock.wall()
        for position, request in enumerate(job.requests[: job.answered_max]):
            await self._until(begun + self._duration_s * (position + 1) / job.total)
            _take(job, self._answer(job, request, position))
        await self._until(begun + self._duration_s)
        match job.fault.kind if job.fault else None:
            case "hang":
                await asyncio.Event().wait()
            case "fail":
                self._end(job, "failed", "errored")
            case "expire":
                self._end(job, "expired", "expired")
            case _:
                self._end(job, "completed", "errored")

    async def _wind_up(self, job: Job) -> None:
        await self._until(self._clock.monotonic() + self._duration_s * _CANCELLING_SHARE)
        self._end(job, "cancelled", "cancelled")

    async def _until(self, monotonic: float) -> None:
        left = monotonic - self._clock.monotonic()
        if left > _TOGETHER_S:
            await self._sleep(left)
        else:
            await asyncio.sleep(0)

    def _answer(self, job: Job, request: Request, position: int) -> Result:
        reply = self._simulator.reply(request.dialect, request.body, job.key, request.path)
        if reply.ending == "silence":
            return Result(request.id, "expired")
        request_id = next((value for name, value in reply.headers if name in ("x-request-id", "request-id")), "")
        if reply.ending == "cut" or job.is_struck("error", position):
            return replace(_failure(request, request_id), model=reply.model)
        if reply.body_bytes is None:
            refusal = BadRequest("stream: a batch has whole answers; leave it out.", param="stream")
            return Result(request.id, "errored", 400, codec_of(request.dialect).write_error(refusal, request_id), request_id)
        body = b"".join([frame.data for frame in reply.frames])
        kind: Kind = "succeeded" if reply.status == 200 else "errored"
        if kind == "succeeded" and job.is_struck("garble", position):
            body = body[: len(body) * 2 // 3]
        return Result(request.id, kind, reply.status, body, request_id, reply.model, reply.usage)

    def _end(self, job: Job, outcome: Outcome, unanswered: Kind) -> None:
        if outcome != "completed" and self._is_all_or_nothing:
            job.results, job.counts = [], Counter()
        for request in job.requests[len(job.results) :]:
            _take(job, _failure(request) if unanswered == "errored" else Result(request.id, unanswered))
        job.state, job.outcome, job.ended_at = "ended", outcome, self._clock.wall()
        for result in job.results:
            if result.model:
                self._billing.note(result.model, result.usage, "batch")
        job.keep(job, [*_struck(job)])
        job.requests, job.results = (), []


def shuffled(results: list[Result], job: Job) -> list[Result]:
    """No provider promises an order; one batch has the same each time."""
    random.Random(job.id).shuffle(results)
    return results


def _take(job: Job, result: Result) -> None:
    job.results.append(result)
    job.counts[result.kind] += 1
    job.usage += result.usage or _NOTHING


def _failure(request: Request, request_id: str = "") -> Result:
    body = manners_of(request.dialect).error(500, request_id.removeprefix("req_"), 0)
    return Result(request.id, "errored", 500, body, request_id)


def _struck(job: Job) -> Iterator[Result]:
    for position, result in enumerate(job.results):
        if job.is_struck("miss", position):
            continue
        yield replace(result, id=f"strange-{result.id}") if job.is_struck("strange", position) else result
        if job.is_struck("double", position):
            yield result
