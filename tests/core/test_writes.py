"""Writes of one turn of the loop: together, in order, and never to a transport that is closed."""

from __future__ import annotations

import asyncio
from typing import Any

from agent_gateway.core.writes import DIRECT_BYTES, GatheringTransport, Writes


class Socket(asyncio.Transport):
    def __init__(self, log: list[tuple[Socket, bytes]]) -> None:
        super().__init__()
        self.log = log
        self.closed = False

    def write(self, data: Any) -> None:
        self.log.append((self, bytes(data)))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.log.append((self, b"closed"))


async def test_they_are_made_in_order_at_the_end_of_the_turn() -> None:
    writes = Writes.of(asyncio.get_running_loop())
    log: list[tuple[Socket, bytes]] = []
    one, other = Socket(log), Socket(log)
    for transport, data in ((one, b"1"), (other, b"2"), (one, b"3")):
        writes.write(transport, data)
    assert log == []
    await asyncio.sleep(0)
    assert log == [(one, b"1"), (other, b"2"), (one, b"3")]
    writes.write(one, b"4")
    await asyncio.sleep(0)
    assert log[-1] == (one, b"4")


async def test_a_flush_makes_them_now_and_once() -> None:
    writes = Writes(asyncio.get_running_loop())
    log: list[tuple[Socket, bytes]] = []
    socket = Socket(log)
    writes.write(socket, b"1")
    writes.flush()
    assert log == [(socket, b"1")]
    await asyncio.sleep(0)
    assert log == [(socket, b"1")]


async def test_what_is_meant_for_a_closed_transport_is_dropped() -> None:
    writes = Writes(asyncio.get_running_loop())
    log: list[tuple[Socket, bytes]] = []
    closed, alive = Socket(log), Socket(log)
    writes.write(closed, b"1")
    writes.write(alive, b"2")
    closed.closed = True
    await asyncio.sleep(0)
    assert log == [(alive, b"2")]


async def test_a_loop_has_one() -> None:
    loop = asyncio.get_running_loop()
    assert Writes.of(loop) is Writes.of(loop)


async def test_what_is_written_to_one_transport_in_a_row_is_one_write() -> None:
    writes = Writes(asyncio.get_running_loop())
    log: list[tuple[Socket, bytes]] = []
    one, other = Socket(log), Socket(log)
    large = b"x" * (DIRECT_BYTES + 1)
    for transport, data in ((one, b"1"), (one, b"2"), (other, b"3"), (one, large)):
        writes.write(transport, data)
    assert log == [(one, b"12"), (other, b"3"), (one, large)]  # what a client may not take does not wait
    writes.write(one, b"4")
    writes.flush()
    assert log[-1] == (one, b"4")


async def test_many_small_writes_of_one_turn_do_not_pile_up() -> None:
    writes = Writes(asyncio.get_running_loop())
    log: list[tuple[Socket, bytes]] = []
    socket = Socket(log)
    for _ in range(100):
        writes.write(socket, b"x" * 1024)
    assert sum(len(data) for _, data in log) > 100 * 1024 - DIRECT_BYTES - 1024


async def test_a_gathering_transport_keeps_the_order_of_all_that_is_done_to_it() -> None:
    writes = Writes(asyncio.get_running_loop())
    log: list[tuple[Socket, bytes]] = []
    socket = Socket(log)
    gathering = GatheringTransport(socket, writes)
    large = b"x" * (DIRECT_BYTES + 1)
    gathering.write(b"head ")
    gathering.write(b"")
    gathering.write(b"body")
    assert log == []
    gathering.write(large)
    gathering.write(b"end")
    gathering.close()
    assert log == [(socket, b"head body"), (socket, large), (socket, b"end"), (socket, b"closed")]
