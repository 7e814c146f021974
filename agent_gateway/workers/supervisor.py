"""The process above the workers: it has the port, starts them, replaces them, and hears the signals; it serves nothing itself.

Promise: a worker that ends is replaced, one that is replaced goes when another serves, and no connection that waits at the port is lost.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from agent_gateway.control.errors import ConfigurationError
from agent_gateway.control.reload import RESTART, RESTART_OF_ALL, reload
from agent_gateway.control.snapshot import Configuration
from agent_gateway.control.source import Source, read_source
from agent_gateway.core.clock import SYSTEM_CLOCK
from agent_gateway.core.listening import listen
from agent_gateway.core.siblings import NoAnswer, Told
from agent_gateway.edge.shared_port import Tally
from agent_gateway.upstream.transport import Transport
from agent_gateway.upstream.web import Web
from agent_gateway.workers import messages
from agent_gateway.workers.overview import Overview
from agent_gateway.workers.process import WorkerProcess

#: A worker that ends sooner after it was ready has failed (s),
SETTLED_S = 10.0
#: and whoever takes its place waits, after more such ends in a row twice as long each time (s).
FIRST_WAIT_S = 0.5
WAIT_MAX_S = 30.0
#: After so many in a row, while no other worker serves, there is no sense in going on.
FAILURES_MAX = 5
#: Beyond the drain, for records and stores at a worker's end (s).
END_TIMEOUT_S = 60.0
#: For a worker to go at once (s).
AT_ONCE_S = 3.0
#: For a worker to take up a configuration (s).
RELOAD_TIMEOUT_S = 30.0

_log = logging.getLogger("agent_gateway.workers")


class _Place:
    """Of one of the workers: one after the other has it."""

    def __init__(self) -> None:
        self.worker: WorkerProcess | None = None
        #: In a row.
        self.failures = 0
        self.asked = asyncio.Event()
        self._outcome: asyncio.Future[bool] | None = None

    def replaced(self) -> asyncio.Future[bool]:
        """Asks for another worker there: whether it came to serve."""
        self._outcome = asyncio.get_running_loop().create_future()
        self.asked.set()
        return self._outcome

    def tell(self, *, is_replaced: bool) -> None:
        self.asked.clear()
        if self._outcome is not None and not self._outcome.done():
            self._outcome.set_result(is_replaced)


class Supervisor:
    """`options`: the command's own, over every configuration. `listening` is called with the bound address when a worker serves."""

    def __init__(
        self,
        source: Source,
        configuration: Configuration,
        options: Mapping[str, Any],
        listening: Callable[[str, int], None],
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._source = source
        self._configuration = configuration
        self._options = options
        self._listening: Callable[[str, int], None] | None = listening
        self._environ = environ
        self._places = [_Place() for _ in range(configuration.settings.server.workers)]
        #: Where none has come to serve yet, or failed.
        self._untried = set(self._places)
        self._all_tried = asyncio.Event()
        #: All that there are, by their numbers, in the order of their starts.
        self._workers: dict[int, WorkerProcess] = {}
        self._count = 0
        self._ends = {"replaced": 0, "failed": 0}
        self._sockets: list[socket.socket] = []
        #: At the most one that goes for each that serves, and some to spare.
        self._entries = 2 * len(self._places) + 2
        #: Private, and gone with the supervisor.
        try:
            self._folder = TemporaryDirectory(prefix="agent-gateway-")
            self._tally_file = os.open(Path(self._folder.name, "connections"), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            self._tally = Tally.made(self._tally_file, self._entries)
        except OSError as error:
            raise OSError(f"nothing can be written that the workers could share: {error}. Set TMPDIR to a folder for it") from error
        #: One change of all workers after the other; and those that wait for it.
        self._changing = asyncio.Lock()
        self._waiting: set[str] = set()
        self._over: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport = Transport(environ=environ)
        post = Web(self._transport, SYSTEM_CLOCK).post
        self._overview = Overview(self.workers, self._ends, post, SYSTEM_CLOCK, configuration)

    async def run(self) -> int:
        """Until it is told to stop; the exit status. Raises `OSError` where the address cannot be had."""
        server = self._configuration.settings.server
        try:
            self._sockets = listen(server.host, server.port)
            with self._signals():
                return await self._run()
        finally:
            os.close(self._tally_file)
            self._folder.cleanup()
            for listening in self._sockets:
                listening.close()

    async def _run(self) -> int:
        self._overview.start()
        for place in self._places:
            self._begin(self._keep(place))
        status = await self._over
        self._all_tried.set()  # who waits for its turn goes at once
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._stop_workers()
        await self._overview.close()
        await self._transport.close()
        return status

    def workers(self) -> Sequence[WorkerProcess]:
        return list(self._workers.values())

    def reload_soon(self) -> None:
        self._change_soon("reload", RESTART, self._take_up)

    def restart_soon(self) -> None:
        self._change_soon("restart", RESTART_OF_ALL, self._replace_all)

    # --- one place

    async def _keep(self, place: _Place) -> None:
        """Has somebody serve there, always."""
        while True:
            place.worker = await self._started()
            self._is_tried(place)
            while place.worker is not None:
                place.worker = await self._followed(place, place.worker)
            place.tell(is_replaced=False)
            place.failures += 1
            if place.failures >= FAILURES_MAX and not any(map(_is_settled, self._workers.values())):
                _log.error("%d workers in a row ended at once, and no other serves: the gateway gives up.", place.failures)
                self._end(1)
            await asyncio.sleep(min(FIRST_WAIT_S * 2 ** (place.failures - 1), WAIT_MAX_S))

    async def _started(self) -> WorkerProcess | None:
        """One that serves; None: it has failed."""
        self._count += 1
        taken = {worker.begin.entry for worker in self._workers.values()}
        entry = next(entry for entry in range(self._entries) if entry not in taken)
        files = [self._tally_file, *(listening.fileno() for listening in self._sockets)]
        begin = messages.Begin(self._source, self._options, str(Path(self._folder.name, "shared.db")), entry, self._entries)
        worker = WorkerProcess(self._count, files, begin, self._answer, self._all_tried.wait)
        self._workers[worker.number] = worker
        if not await worker.start():
            self._mourn(worker, "before it was ready")
            return None
        if worker.source != self._source and (errors := await self._tell(worker, self._source)):  # a reload came in between
            _log.error("worker %d has another configuration than the others: %s", worker.number, "; ".join(errors))
        return worker

    def _is_tried(self, place: _Place) -> None:
        """At the start nobody takes requests before it is known of every worker whether it came to serve."""
        self._untried.discard(place)
        if self._untried or self._listening is None or not any(worker.serves for worker in self._workers.values()):
            return
        self._all_tried.set()
        self._listening(*self._sockets[0].getsockname()[:2])
        self._listening = None

    async def _followed(self, place: _Place, worker: WorkerProcess) -> WorkerProcess | None:
        """Waits until there is another to serve in its place, and gives that; None: it has ended by itself."""
        ended, asked = asyncio.create_task(worker.ended()), asyncio.create_task(place.asked.wait())
        try:
            await asyncio.wait([ended, asked], return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            asked.cancel()
        if worker.status is not None:
            settled = _is_settled(worker)
            self._mourn(worker, "and is replaced")
            if settled:
                place.failures = 0
                return await self._started()
            return None
        following = await self._started()
        place.tell(is_replaced=following is not None)
        if following is None:
            return worker
        self._begin(self._see_off(worker))
        return following

    def _mourn(self, worker: WorkerProcess, when: str) -> None:
        self._ends["failed"] += 1
        _log.error("worker %d (process %s) %s %s", worker.number, worker.id, worker.end, when)
        self._forget(worker)

    async def _see_off(self, worker: WorkerProcess) -> None:
        await worker.retire(self._end_s)
        self._ends["replaced"] += 1
        self._forget(worker)

    def _forget(self, worker: WorkerProcess) -> None:
        worker.close()
        self._tally.clear(worker.begin.entry)
        del self._workers[worker.number]
        self._overview.end(worker.number)

    # --- all of them

    def _change_soon(self, name: str, fixed: Sequence[str], carry_out: Callable[[Source, Configuration], Awaitable[None]]) -> None:
        """Unless the same waits already."""
        if name not in self._waiting:
            self._waiting.add(name)
            self._begin(self._change(name, fixed, carry_out))

    async def _change(self, name: str, fixed: Sequence[str], carry_out: Callable[[Source, Configuration], Awaitable[None]]) -> None:
        async with self._changing:
            self._waiting.discard(name)
            try:
                source = await asyncio.to_thread(read_source, self._configuration.source, self._environ)
                new = await asyncio.to_thread(reload, self._configuration, self._environ, options=self._options, source=source, fixed=fixed)
            except ConfigurationError as error:
                _refused(error.errors)
                return
            except Exception:  # a plug-in's: the gateway goes on as it was
                _log.exception("the configuration was not reloaded; the old one stays")
                return
            await carry_out(source, new)

    async def _take_up(self, source: Source, new: Configuration) -> None:
        """The first tries it out; when it has it, so have the others, or none."""
        before = self._source, self._configuration
        first = next((worker for worker in self.workers() if worker.serves), None)
        if first is not None and (errors := await self._tell(first, source, is_first=True)):
            _refused(errors)
            await self._take_back(*before)
            return
        self._set(source, new)
        others = [worker for worker in self.workers() if worker.serves and worker is not first]  # one that has come to serve meanwhile, too
        told = zip(others, await asyncio.gather(*(self._tell(worker, source) for worker in others)), strict=True)
        if refused := [f"worker {worker.number}: {error}" for worker, errors in told for error in errors]:
            _refused(refused)
            await self._take_back(*before)
            return
        _log.warning("the configuration was reloaded from %s", new.source or "the environment")

    async def _tell(self, worker: WorkerProcess, source: Source, *, is_first: bool = False) -> list[str]:
        """What is wrong with it."""
        try:
            told = await worker.ask(messages.RELOAD, messages.pack(messages.Reload(source, is_first)), RELOAD_TIMEOUT_S)
        except NoAnswer as error:
            worker.source = None
            return [] if worker.status is not None else [str(error)]  # who follows it will have it
        errors = messages.errors.decode(told)
        if not errors:
            worker.source = source
        return errors

    async def _replace_all(self, source: Source, new: Configuration) -> None:
        """One after the other; if one does not come to serve, all have the configuration again that all had."""
        before = self._source, self._configuration
        self._set(source, new)
        for place in self._places:
            worker = place.worker
            if worker is None:  # whoever comes there is new
                continue
            if not await place.replaced():
                _log.error("the restart stops: the worker that was to follow worker %d did not come to serve", worker.number)
                await self._take_back(*before)
                return
            await worker.ended()
        _log.warning("all workers were replaced")

    async def _take_back(self, source: Source, configuration: Configuration) -> None:
        """Of those that have another: by a reload, which takes no process and no time; where that cannot be, by another worker."""
        self._set(source, configuration)
        taken_back = 0
        for place in self._places:
            worker = place.worker
            if worker is None or worker.status is not None or worker.source == source:
                continue
            errors = await self._tell(worker, source, is_first=not taken_back)
            if errors and not await place.replaced():
                _log.error(
                    "worker %d has another configuration than the others, until the next reload or restart: %s",
                    worker.number,
                    "; ".join(errors),
                )
                continue
            taken_back += 1
            if errors:
                await worker.ended()
        if taken_back:
            _log.warning("the configuration was taken back from %d of the workers; the old one holds", taken_back)

    def _set(self, source: Source, configuration: Configuration) -> None:
        self._source, self._configuration = source, configuration
        self._overview.configure(configuration)

    async def _stop_workers(self) -> None:
        for worker in self.workers():
            worker.leaving = True
            worker.signal(signal.SIGTERM)
        await asyncio.gather(*(worker.gone(self._end_s) for worker in self.workers()))
        for worker in self.workers():
            self._forget(worker)

    @property
    def _end_s(self) -> float:
        return self._configuration.settings.server.drain_timeout_s + END_TIMEOUT_S

    # --- what workers ask

    async def _answer(self, number: int, topic: str, body: bytes) -> bytes:
        match topic:
            case messages.GATHER:
                return await self._gather(number, messages.question.decode(body))
            case messages.WHOLE:
                return await self._overview.whole()
            case messages.LAST:
                self._overview.keep(number, body)
                return b""
            case messages.ALERTS:
                return messages.pack(messages.Alerts(*await self._overview.oversight.alerts()))
            case messages.SILENCE:
                asked = messages.silence.decode(body)
                return messages.pack(await self._overview.oversight.silence(asked.alert, asked.until))
            case messages.SUMS:
                return (await self._overview.oversight.sums(messages.seconds.decode(body))).packed()
            case messages.NOW:
                await self._overview.look()
                return messages.pack(await self._overview.oversight.now())
            case messages.MINUTES:
                await self._overview.look()
                wanted = messages.minutes.decode(body)
                return messages.pack(await self._overview.oversight.minutes(wanted.count, wanted.model))
        raise NoAnswer(f"{topic}: the supervisor has nothing to say to that")

    async def _gather(self, number: int, question: messages.Question) -> bytes:
        async def one(worker: WorkerProcess) -> Told:
            try:
                return Told(worker.number, await worker.ask(question.topic, question.body, question.timeout_s))
            except NoAnswer:
                return Told(worker.number, None)

        asked = [
            worker
            for worker in self.workers()
            if worker.ready_at is not None and worker.number != number and question.worker in (None, worker.number)
            if worker.serves or not question.staying
        ]
        return msgspec.msgpack.encode(await asyncio.gather(*map(one, asked)))

    # --- the process

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:  # a bug: better no gateway than one that nobody looks after
            _log.error("the supervisor has failed", exc_info=failure)
            self._end(1)

    def _end(self, status: int) -> None:
        if not self._over.done():
            self._over.set_result(status)

    def _interrupt(self) -> None:
        """The second time, nobody waits any longer."""
        if self._over.done():
            for worker in self.workers():
                worker.signal(signal.SIGINT)
                asyncio.get_running_loop().call_later(AT_ONCE_S, worker.kill)
        self._end(0)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        heard = {
            signal.SIGINT: self._interrupt,
            signal.SIGTERM: lambda: self._end(0),
            signal.SIGHUP: self.reload_soon,
            signal.SIGUSR2: self.restart_soon,
        }
        for number, callback in heard.items():
            loop.add_signal_handler(number, callback)
        try:
            yield
        finally:
            for number in heard:
                loop.remove_signal_handler(number)


def _is_settled(worker: WorkerProcess) -> bool:
    return worker.ready_at is not None and time.monotonic() - worker.ready_at >= SETTLED_S


def _refused(errors: Sequence[str]) -> None:
    _log.error("the configuration was not reloaded; the old one stays:\n%s", "\n".join(errors))
