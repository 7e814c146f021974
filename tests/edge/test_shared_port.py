"""One listening socket of several: who has the fewest connections takes the next."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from tempfile import TemporaryFile

import pytest

from agent_gateway.edge import shared_port
from agent_gateway.edge.shared_port import PATIENCE_S, Share, SharedPort, Tally
from tests.kit.eventually import eventually


class Worker:
    """As a process of its own: with its own file of the same socket."""

    def __init__(self, listening: socket.socket, tally: Tally, entry: int) -> None:
        self.connections: set[asyncio.BaseTransport] = set()
        self.port = SharedPort(
            [listening.dup()], Share(tally, entry, _at_once), lambda: _Connection(self), lambda: len(self.connections), None
        )

    def close(self) -> None:
        self.port.close()
        for connection in self.connections:
            connection.close()
        self.port.sockets[0].close()


class _Connection(asyncio.Protocol):
    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._worker.connections.add(transport)


async def _at_once() -> None:
    pass


Workers = Callable[[int], Awaitable[list[Worker]]]


@pytest.fixture
def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@pytest.fixture
async def workers(listening: socket.socket) -> AsyncIterator[Workers]:
    made: list[Worker] = []
    with TemporaryFile() as file:
        tally = Tally.made(file.fileno(), 8)

        async def make(count: int) -> list[Worker]:
            made.extend(Worker(listening, tally, entry) for entry in range(count))
            for worker in made:
                worker.port.start()
            return made

        yield make
        for worker in made:
            worker.close()
        await asyncio.sleep(0)
    listening.close()


Connect = Callable[[int], Awaitable[None]]


@pytest.fixture
async def connect(listening: socket.socket) -> AsyncIterator[Connect]:
    """Clients, one after the other."""
    with ExitStack() as clients:

        async def connected(count: int) -> None:
            for _ in range(count):
                clients.enter_context(await asyncio.to_thread(socket.create_connection, listening.getsockname()))

        yield connected


async def test_each_has_its_share(workers: Workers, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_port, "PATIENCE_S", 0.1)  # or this process, which is all three, may be held up for longer
    three = await workers(3)
    await connect(30)
    await eventually(lambda: sum(len(worker.connections) for worker in three) == 30, "all are taken")
    assert all(8 <= len(worker.connections) <= 12 for worker in three), [len(worker.connections) for worker in three]


async def test_a_worker_that_does_not_take_its_share_keeps_nobody_waiting(workers: Workers, connect: Connect) -> None:
    works, stuck = await workers(2)
    asyncio.get_running_loop().remove_reader(stuck.port.sockets[0])
    await connect(5)
    began = asyncio.get_running_loop().time()
    await eventually(lambda: len(works.connections) == 5, "all are taken by the one that works", within_s=1000 * PATIENCE_S)
    assert asyncio.get_running_loop().time() - began < 500 * PATIENCE_S


async def test_one_that_goes_leaves_what_waits_to_the_others(workers: Workers, connect: Connect) -> None:
    goes, stays = await workers(2)
    goes.port.close()
    await connect(6)
    await eventually(lambda: len(stays.connections) == 6, "the other has them all")
    assert not goes.connections
    await goes.port.wait_closed()
