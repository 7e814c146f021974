"""The app mounted in another: below a path, without a lifespan, and under a server that cannot make a client read."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from agent_gateway.app import Gateway
from agent_gateway.core.exchange import Exchange
from agent_gateway.edge.app import App
from tests.edge.conftest import ADMIN_KEY
from tests.kit.client import CHAT, chat

PREFIX = "/gateway"
STALL_S = 0.1
_CHAT = msgspec.json.encode(chat(stream=True))


def _scope(path: str, method: str = "GET", **more: Any) -> dict[str, Any]:
    headers = [(b"host", b"localhost"), (b"authorization", b"Bearer " + ADMIN_KEY.encode())]
    return {
        "type": "http", "method": method, "path": PREFIX + path, "root_path": PREFIX, "headers": headers, "query_string": b"", **more,
    }  # fmt: skip


class _Client:
    """What the server would hand to the app."""

    def __init__(self, body: bytes = b"") -> None:
        self._body: list[bytes] = [body]
        self.sent: list[MutableMapping[str, Any]] = []
        #: Cleared: the client reads nothing.
        self.reads = asyncio.Event()
        self.reads.set()

    async def receive(self) -> MutableMapping[str, Any]:
        if self._body:
            return {"type": "http.request", "body": self._body.pop(), "more_body": False}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: MutableMapping[str, Any]) -> None:
        await self.reads.wait()
        self.sent.append(message)

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/models", 200),
        ("/v1/models/chat", 200),
        ("/v1/models/none", 404),
        ("/health/live", 200),
        ("/health/ready", 200),
        ("/metrics", 200),
        ("/admin/v1/routes", 200),
        ("/admin/v1/routes/", 200),
        (CHAT, 405),
        ("/nothing", 404),
    ],
)
async def test_every_path_below_a_prefix_has_its_request_id(gateway: Gateway, path: str, status: int) -> None:
    client = _Client()
    await gateway.app(_scope(path), client.receive, client.send)
    assert client.status == status
    assert client.headers[b"x-request-id"].startswith(b"req_")


async def test_the_first_request_starts_an_app_that_hears_of_no_lifespan(gateway: Gateway) -> None:
    starts = 0

    async def started() -> None:
        nonlocal starts
        await asyncio.sleep(0)
        starts += 1
        if starts == 1:
            raise RuntimeError("not yet")

    app = _app(gateway, started=started)
    first, *more = (_Client() for _ in range(3))
    await app(_scope("/health/live"), first.receive, first.send)
    assert first.status == 500, "what could not start serves nothing, and is tried again"
    await asyncio.gather(*(app(_scope("/health/live"), client.receive, client.send) for client in more))
    assert [client.status for client in more] == [200, 200]
    assert starts == 2


async def test_a_client_that_takes_nothing_is_given_up(gateway: Gateway, told: list[Exchange]) -> None:
    aborted: list[bool] = []
    extensions = {"agent_gateway.abort": {"abort": lambda: aborted.append(True)}}
    client = _Client(_CHAT)
    client.reads.clear()
    async with asyncio.timeout(10):
        await _app(gateway)(_scope(CHAT, "POST", extensions=extensions), client.receive, client.send)
    assert aborted == [True]
    [exchange] = told
    assert (exchange.status, exchange.http_status) == ("cancelled", 499)
    assert client.sent == []


@pytest.mark.parametrize("path", ["/health/live", "/nothing"])
async def test_nor_is_a_small_answer_held_for_ever(gateway: Gateway, path: str) -> None:
    aborted: list[bool] = []
    client = _Client()
    client.reads.clear()
    extensions = {"agent_gateway.abort": {"abort": lambda: aborted.append(True)}}
    async with asyncio.timeout(10):
        await _app(gateway)(_scope(path, extensions=extensions), client.receive, client.send)
    assert aborted == [True]


def _app(gateway: Gateway, started: Any = None) -> App:
    """The gateway's app, but less patient with clients."""

    async def nothing() -> None:
        pass

    limits = replace(gateway.limits, write_stall_s=STALL_S)
    return App(
        gateway.live,
        limits,
        ready=lambda: None,
        started=started or nothing,
        stopped=nothing,
        scrape=gateway.app._scrape,
        admin=gateway.app._admin,
        logins=gateway.app._logins,
        page=gateway.app._page,
        batches=gateway.app._batches,
        refusals=gateway.app.refusals,
    )
