"""What a client may hold of the gateway, and for how long: both protocols on real sockets, with bounds of the test's own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace

import pytest

from agent_gateway.app import Gateway
from agent_gateway.core.exchange import Exchange
from agent_gateway.edge.limits import connections_max
from tests.edge.conftest import ADMIN_KEY, served
from tests.kit.client import CHAT, chat_request, connect, request
from tests.kit.eventually import PATIENCE_S, eventually

AS_ADMIN = {"authorization": f"Bearer {ADMIN_KEY}"}
HEALTH = request("GET", "/health/live")

both = pytest.mark.parametrize("fast", [True, False], ids=["fast lane", "asgi"])


@both
async def test_connections_are_bounded(gateway: Gateway, fast: bool) -> None:
    limits = replace(gateway.limits, connections_max=2)
    async with served(gateway, limits, fast=fast) as url:
        async with connect(url) as first, connect(url) as second:
            for wire in (first, second):
                await wire.send(HEALTH)
                assert (await wire.reply()).status == 200
            async with connect(url) as third:
                reply = await third.reply()
                assert (reply.status, reply.error["code"]) == (503, "overloaded")
                assert reply.headers["retry-after"] == "1"
                assert await third.closed()
            await first.send(HEALTH)
            assert (await first.reply()).status == 200, "those that are in stay in"
        async with asyncio.timeout(5), connect(url) as wire:
            await wire.send(chat_request(headers=AS_ADMIN))
            assert (await wire.reply()).status == 200


def test_there_is_a_bound_that_the_system_can_hold() -> None:
    import resource

    assert 100 <= connections_max() <= resource.getrlimit(resource.RLIMIT_NOFILE)[0] / 2


def test_who_starts_it_where_few_files_may_be_open_is_told_how_many_clients_that_are_and_what_to_raise() -> None:
    def told(soft: int, hard: int) -> str:
        program = "from agent_gateway.edge.limits import few_connections; print(few_connections() or 'enough')"
        command = ["bash", "-c", f'ulimit -Sn {soft} && ulimit -Hn {hard} && exec "$0" -c "$1"', sys.executable, program]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()

    assert told(soft=256, hard=17_000) == "enough", "the soft limit is no bound"
    few = told(soft=256, hard=4_200)
    assert "it takes 2,000 connections of clients at once" in few
    assert "raise the hard limit to 20200" in few


async def test_requests_that_wait_on_one_connection_are_bounded(gateway: Gateway) -> None:
    """Each is an object of a few KB behind eighteen bytes of the client's."""
    limits = replace(gateway.limits, pipelined_max=10)
    slow = chat_request(headers={**AS_ADMIN, "expect": "nothing"})
    async with served(gateway, limits, fast=False) as url, connect(url) as wire:
        await wire.send(slow + HEALTH * 2000)
        statuses = [(await wire.reply()).status for _ in range(12)]
        assert statuses == [200] * 11 + [400]
        assert await wire.closed()


async def test_so_many_are_no_trouble(gateway: Gateway) -> None:
    async with served(gateway, gateway.limits, fast=False) as url, connect(url) as wire:
        for _ in range(3):
            await wire.send(HEALTH * 90)
            assert [(await wire.reply()).status for _ in range(90)] == [200] * 90


@pytest.mark.parametrize("target", ["/health/live", CHAT])
async def test_a_body_that_goes_on_after_its_answer_ends_in_time(gateway: Gateway, target: str) -> None:
    limits = replace(gateway.limits, body_timeout_s=0.2)
    async with served(gateway, limits, fast=False) as url, connect(url) as wire:
        await wire.send(request("GET", target, headers={"transfer-encoding": "chunked"}) + b"1\r\na\r\n")
        assert (await wire.reply()).status in (200, 405)
        closed = asyncio.ensure_future(wire.closed())
        async with asyncio.timeout(PATIENCE_S):
            while not closed.done():  # never idle
                await wire.send(b"1\r\na\r\n")
                await asyncio.wait([closed], timeout=0.02)
        assert closed.result()


async def test_a_body_that_ends_after_its_answer_leaves_the_connection_good(gateway: Gateway) -> None:
    limits = replace(gateway.limits, body_timeout_s=0.8)
    async with served(gateway, limits, fast=False) as url, connect(url) as wire:
        await wire.send(request("GET", "/health/live", headers={"content-length": "3"}) + b"ab")
        assert (await wire.reply()).status == 200
        await wire.send(b"c" + HEALTH)
        assert (await wire.reply()).status == 200
        await asyncio.sleep(0.9)
        await wire.send(HEALTH)
        assert (await wire.reply()).status == 200, "its patience was with the body"


@both
@pytest.mark.parametrize("gateway", [{"output_tokens": 6000}], indirect=True)
async def test_an_unread_last_answer_does_not_hold_a_connection_for_ever(gateway: Gateway, told: list[Exchange], fast: bool) -> None:
    """Less than the server's buffers hold is written without waiting, and the connection closes behind it."""
    limits = replace(gateway.limits, write_stall_s=0.1)
    async with served(gateway, limits, fast=fast, send_buffer=4096) as url, connect(url, receive_buffer=2048) as wire:
        wire.stop_reading()
        await wire.send(chat_request(headers={**AS_ADMIN, "connection": "close"}))
        await eventually(lambda: told, "its record")
        await asyncio.sleep(3 * limits.write_stall_s)
        wire.read_on()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await wire.exactly(20_000)
