"""What operators try out: recorded traffic under configurations of theirs, one replay at a time, each in a process of its own.

Promise: it takes nothing from the gateway's loop, ends with the gateway, and is known to every process that shares the store, as are the
results that are kept.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

import msgspec
from msgspec import Struct

from agent_gateway.control.draft import draft_of
from agent_gateway.control.replay_order import Begun, Done, Draft, Failed, Order, Progress, Refused, Said, packed, said
from agent_gateway.control.snapshot import Configuration
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import BadRequest, Conflict, InternalError, NotFound, StoreDown
from agent_gateway.core.own_module import own_environment, own_module
from agent_gateway.stores.base import ValueStore, is_in_memory

#: Results that are kept, and for how long (s).
KEPT_MAX = 20
KEPT_S = 7 * 86_400.0
#: A replay that takes longer is ended (s).
TIME_MAX_S = 1800.0
#: For its process to have read the configurations (s).
BEGIN_MAX_S = 30.0
#: How often it is looked whether it is to stop, and how often it is told that it runs still (s).
LOOK_S = 0.5
BEAT_S = 3.0
#: Who stops one waits so long for its end (s).
STOP_MAX_S = 10.0
#: One that has not been heard of for so long was left by a process that is gone (s); while configurations are read, nothing is heard.
SILENT_MAX_S = BEGIN_MAX_S + 10.0
#: What its process may say at once; a result is a few KB for each model (bytes).
SAID_MAX_BYTES = 16 * 1024 * 1024

#: A result waits for the store so often, `BEAT_S` each time.
TRIES_MAX = 100

_REPLAY, _CONTENT, _STOP = "replay", "replay_content", "replay_stop"
#: There is one, and one at a time has it: under this kind and name.
_SLOT = ("replay_slot", "the only one")

_OUT_OF_TIME = Failed(
    "out_of_time", f"It took longer than {TIME_MAX_S / 60:.0f} minutes, and was ended; ask for a shorter time, or for fewer runs."
)
_GATEWAY_ENDED = Failed("gateway_ended", "The process of the gateway that had started it has ended, and it with that; start it again.")
_OVERTAKEN = Failed(
    "overtaken", f"It was not heard of for {SILENT_MAX_S:.0f} s, and another one was started meanwhile; start it again when that is done."
)
_OUR_FAULT = Failed("internal_error", "It failed by a fault of the gateway, whose log says more.")
_TOO_SLOW = f"The configurations were not read within {BEGIN_MAX_S:.0f} s; make them shorter, or try again when the machine is less busy."

_log = logging.getLogger("agent_gateway.control")

State = Literal["running", "done", "failed", "stopped"]


class Replay(Struct, frozen=True, kw_only=True):
    """Times are Unix seconds."""

    id: str
    state: State = "running"
    #: 0–1.
    progress: float = 0.0
    started_at: float
    #: When its process was last known to run; once it has ended: when.
    heard_at: float
    by: str
    names: list[str]
    since: float
    until: float
    seed: int
    runs: int
    #: Why it failed.
    error: Failed | None = None


class Tried(Struct, frozen=True, kw_only=True):
    """A configuration, and what came of it."""

    name: str
    yaml: str
    #: As `agent-gateway replay --json` prints it.
    result: dict[str, Any] | None = None


class _Holder(Struct, frozen=True):
    id: str
    by: str


class Wanted(Struct, frozen=True, kw_only=True):
    configurations: Sequence[Draft]
    since: float
    until: float
    seed: int
    runs: int


_replay = msgspec.json.Decoder(Replay)
_tried = msgspec.json.Decoder(list[Tried])
_holder = msgspec.json.Decoder(_Holder)


class Replays:
    """One a process; belongs to the event loop. All but `close` raise `StoreDown`."""

    def __init__(
        self,
        configuration: Callable[[], Configuration],
        environ: Mapping[str, str],
        options: Mapping[str, Any],
        store: ValueStore,
        clock: Clock,
    ) -> None:
        """`environ`, `options`: those that the configuration was made with, over its file."""
        self._configuration = configuration
        self._environ = environ
        self._options = options
        self._store = store
        self._clock = clock
        self._mine: asyncio.Task[None] | None = None

    async def start(self, replay_id: str, wanted: Wanted, by: str) -> Replay:
        """Raises `Conflict` where one runs, or records cannot be read; `BadRequest` for a configuration that is wrong."""
        configuration = self._configuration()
        if is_in_memory(configuration.settings.state.database):
            raise Conflict(
                "state.database is in memory, where no other process finds the records to replay; "
                "keep them in a file, such as sqlite:///agent-gateway.db."
            )
        now = self._clock.wall()
        replay = Replay(
            id=replay_id,
            started_at=now,
            heard_at=now,
            by=by,
            names=[each.name for each in wanted.configurations],
            since=wanted.since,
            until=wanted.until,
            seed=wanted.seed,
            runs=wanted.runs,
        )
        await self._claim(replay)
        try:
            await self._keep(replay)
            run = await _Run.begun(_order(configuration, self._options, wanted), self._environ)
        except BaseException:
            await self._store.drop_value(_REPLAY, replay_id)
            await self._give_back(replay)
            raise
        self._mine = asyncio.create_task(self._follow(replay, run, wanted))
        return replay

    def draft(self) -> str:
        """The running configuration, to begin from; secrets masked. Not for the event loop."""
        return draft_of(self._configuration(), self._environ, self._options)

    async def all(self) -> list[Replay]:
        """The newest first."""
        kept = (await self._store.list_values(_REPLAY, self._clock.wall())).values()
        found = [self._as_it_is(_replay.decode(body)) for body in kept]
        return sorted(found, key=lambda replay: replay.started_at, reverse=True)

    async def find(self, replay_id: str) -> tuple[Replay, list[Tried]]:
        """And its configurations, once they are known. Raises `NotFound`."""
        now = self._clock.wall()
        body = await self._store.find_value(_REPLAY, replay_id, now)
        if body is None:
            raise NotFound(f"There is no replay {replay_id[:100]!r}. GET /admin/v1/replays lists those that are kept.")
        content = await self._store.find_value(_CONTENT, replay_id, now)
        return self._as_it_is(_replay.decode(body)), [] if content is None else _tried.decode(content)

    async def stop(self, replay_id: str) -> None:
        """Whichever process it is of; one that has ended stays as it is."""
        replay, _ = await self.find(replay_id)
        if replay.state != "running":
            return
        now = self._clock.wall()
        await self._store.keep_value(_STOP, replay_id, b"", now=now, expires_at=now + TIME_MAX_S)
        for _ in range(int(STOP_MAX_S / LOOK_S)):
            await asyncio.sleep(LOOK_S)
            replay, _ = await self.find(replay_id)
            if replay.state != "running":
                return

    async def close(self, timeout_s: float) -> None:
        """The gateway ends, and so does the replay; that it has is kept where the store takes it within the time."""
        if self._mine is not None:
            self._mine.cancel()
            _, late = await asyncio.wait([self._mine], timeout=timeout_s)
            for each in late:
                each.cancel()

    # --- one that runs

    async def _follow(self, replay: Replay, run: _Run, wanted: Wanted) -> None:
        drafts = wanted.configurations
        try:
            with suppress(StoreDown):  # it is told when it ends
                await self._tell(replay.id, run, drafts)
            async with asyncio.timeout(TIME_MAX_S):
                replay = await self._watch(replay, run)
        except TimeoutError:
            replay = _ended(replay, "failed", _OUT_OF_TIME)
        except asyncio.CancelledError:
            replay = _ended(replay, "failed", _GATEWAY_ENDED)
        except Exception:
            _log.exception("a replay failed")
            replay = _ended(replay, "failed", _OUR_FAULT)
        finally:
            await run.end()
        await self._keep_at_last(replay, run, drafts)

    async def _watch(self, replay: Replay, run: _Run) -> Replay:
        """Until it has ended, or is to stop."""
        reading = asyncio.create_task(run.read())
        try:
            while not reading.done():
                await asyncio.wait([reading], timeout=LOOK_S)
                with suppress(StoreDown):  # it goes on without
                    if await self._store.find_value(_STOP, replay.id, self._clock.wall()) is not None:
                        return _ended(replay, "stopped")
                    replay = await self._beat(replay, run.share)
                    if replay.state != "running":
                        return replay
            failed = await reading
        finally:
            reading.cancel()
        return _ended(replay, "done") if failed is None else _ended(replay, "failed", failed)

    async def _beat(self, replay: Replay, share: float) -> Replay:
        now = self._clock.wall()
        if share <= replay.progress and now - replay.heard_at < BEAT_S:
            return replay
        if not await self._hold(replay, SILENT_MAX_S):
            return _ended(replay, "failed", _OVERTAKEN)
        replay = msgspec.structs.replace(replay, progress=share, heard_at=now)
        await self._keep(replay)
        return replay

    # --- what is kept

    async def _claim(self, replay: Replay) -> None:
        """Raises `Conflict`."""
        if await self._hold(replay, SILENT_MAX_S):
            return
        body = await self._store.find_value(*_SLOT, self._clock.wall())
        if body is None:
            raise Conflict("Another replay ended just as this one was to start, and one at a time may run. Start it again.")
        other = _holder.decode(body)
        raise Conflict(
            f"The replay {other.id}, started by {other.by}, is running, and one at a time may. "
            f"Wait until it is done, or stop it: DELETE /admin/v1/replays/{other.id}."
        )

    async def _hold(self, replay: Replay, for_s: float) -> bool:
        """The slot; False: another has it."""
        now = self._clock.wall()
        return await self._store.claim_value(*_SLOT, msgspec.json.encode(_Holder(replay.id, replay.by)), now=now, expires_at=now + for_s)

    async def _give_back(self, replay: Replay) -> None:
        await self._hold(replay, 0)

    def _as_it_is(self, replay: Replay) -> Replay:
        if replay.state != "running" or self._clock.wall() - replay.heard_at < SILENT_MAX_S:
            return replay
        return _ended(replay, "failed", _GATEWAY_ENDED)

    async def _keep(self, replay: Replay) -> None:
        await self._put(_REPLAY, replay.id, msgspec.json.encode(replay))

    async def _tell(self, replay_id: str, run: _Run, drafts: Sequence[Draft]) -> None:
        results: Sequence[dict[str, Any] | None] = [None] * len(drafts) if run.results is None else run.results
        tried = [Tried(name=draft.name, yaml=yaml, result=made) for draft, yaml, made in zip(drafts, run.yaml, results, strict=True)]
        await self._put(_CONTENT, replay_id, msgspec.json.encode(tried))

    async def _put(self, kind: str, name: str, body: bytes) -> None:
        now = self._clock.wall()
        await self._store.keep_value(kind, name, body, now=now, expires_at=now + KEPT_S)

    async def _keep_at_last(self, replay: Replay, run: _Run, drafts: Sequence[Draft]) -> None:
        """Its end and its result, also where the store is away for a while; and the oldest of those before it go."""
        for _ in range(TRIES_MAX):
            try:
                await self._tell(replay.id, run, drafts)
                await self._give_back(replay)  # first: who sees that it has ended may start the next
                await self._keep(msgspec.structs.replace(replay, heard_at=self._clock.wall()))
                await self._store.drop_value(_STOP, replay.id)
                others = [other.id for other in await self.all() if other.id != replay.id]
                for old in others[KEPT_MAX - 1 :]:
                    for kind in (_REPLAY, _CONTENT):
                        await self._store.drop_value(kind, old)
                return
            except StoreDown:
                await asyncio.sleep(BEAT_S)
        _log.error("The replay %s has ended, and could not be kept: the database is down.", replay.id)


def new_replay_id() -> str:
    return f"replay_{secrets.token_hex(8)}"


def _ended(replay: Replay, state: State, error: Failed | None = None) -> Replay:
    return msgspec.structs.replace(replay, state=state, error=error, progress=1.0 if state == "done" else replay.progress)


def _order(configuration: Configuration, options: Mapping[str, Any], wanted: Wanted) -> Order:
    return Order(
        source=configuration.source,
        written=configuration.written,
        options=options,
        configurations=wanted.configurations,
        since=wanted.since,
        until=wanted.until,
        seed=wanted.seed,
        runs=wanted.runs,
    )


class _Run:
    """The process of one replay, which has understood its order."""

    def __init__(self, process: Process) -> None:
        self._process = process
        #: By configuration, as it can be shown.
        self.yaml: Sequence[str] = ()
        self.share = 0.0
        self.results: Sequence[dict[str, Any]] | None = None

    @classmethod
    async def begun(cls, order: Order, environ: Mapping[str, str]) -> _Run:
        """Raises `BadRequest`."""
        run = await cls._spawned(environ)
        try:
            async with asyncio.timeout(BEGIN_MAX_S):
                await run._tell(packed(order))
                first = await run._said()
        except TimeoutError:
            await run.end()
            raise BadRequest(_TOO_SLOW, param="configurations") from None
        except BaseException:
            await run.end()
            raise
        match first:
            case Begun(yaml):
                run.yaml = yaml
                return run
            case Refused(errors):
                await run.end()
                raise _wrong(errors)
            case Failed(code, message):
                await run.end()
                raise BadRequest(message, param="configurations") if code == "out_of_memory" else InternalError(message)
            case _:
                await run.end()
                raise InternalError("The replay could not be started; the gateway's log says more.", detail=f"it said {first}")

    @classmethod
    async def _spawned(cls, environ: Mapping[str, str]) -> _Run:
        """In a session of its own: Ctrl-C is the gateway's to hear. Who is cancelled meanwhile leaves nothing running."""
        command = own_module("cli.replay_process")
        spawned = asyncio.create_task(
            asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=PIPE, limit=SAID_MAX_BYTES, start_new_session=True, env=own_environment(environ)
            )
        )
        try:
            await asyncio.wait([spawned])
        except asyncio.CancelledError:
            await cls(await spawned).end()
            raise
        return cls(spawned.result())

    async def read(self) -> Failed | None:
        """What it says, until it has ended; why it failed."""
        while True:
            match await self._said():
                case Progress(share):
                    self.share = share
                case Done(results):
                    self.results = results
                    return None
                case Failed() as failed:
                    return failed
                case _:
                    status = await self._process.wait()
                    why = "it was killed, or failed, of which the gateway's log says more; ask for a shorter time"
                    return Failed("process_ended", f"Its process ended with status {status} before it was done: {why}.")

    async def end(self) -> None:
        """Leaves nothing running."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._process.wait()

    async def _tell(self, data: bytes) -> None:
        assert self._process.stdin is not None, "it was asked for"
        self._process.stdin.write(data)
        with suppress(ConnectionError):  # it is gone, which is heard of when it is to answer
            await self._process.stdin.drain()

    async def _said(self) -> Said | None:
        """None: it says no more."""
        assert self._process.stdout is not None, "it was asked for"
        line = await self._process.stdout.readline()
        return said.decode(line) if line else None


def _wrong(errors: Sequence[Sequence[str]]) -> BadRequest:
    """In a line each: which configuration, where in it, what, and what to do."""
    fields = [f"configurations[{place}].yaml" for place in range(len(errors))]
    lines = [f"{field}: {line}" for field, of in zip(fields, errors, strict=True) for line in of]
    first = next(field for field, of in zip(fields, errors, strict=True) if of)
    return BadRequest("\n".join(lines), param=first)
