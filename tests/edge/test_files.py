"""Files on their way in and out, on a real socket in this process: whoever is too slow is given up, and what is cut does not look whole."""

from __future__ import annotations

import asyncio
from asyncio import IncompleteReadError
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import msgspec
import pytest

from agent_gateway.app import Gateway
from agent_gateway.core.exchange import Exchange
from agent_gateway.edge import telling
from agent_gateway.edge.bodies import Bodies
from agent_gateway.edge.files import HELD_BYTES
from agent_gateway.edge.limits import Limits
from agent_gateway.stores.base import Owner
from agent_gateway.stores.batches import batches_of
from tests.edge.conftest import ADMIN_KEY, served
from tests.kit.client import Reply, Wire, ask, connect, request
from tests.kit.eventually import eventually

MB = 1024 * 1024
PATH = "/v1/files"
TIMEOUT_S = 0.5
HEADERS = {"authorization": f"Bearer {ADMIN_KEY}"}
FORM = (
    b'--X\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--X\r\ncontent-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
)
END = b"\r\n--X--\r\n"


@pytest.fixture(params=[True, False], ids=["fast lane", "asgi"])
async def url(request: pytest.FixtureRequest, gateway: Gateway, limits: Limits) -> AsyncIterator[str]:
    async with served(gateway, limits, fast=request.param, send_buffer=64 * 1024) as url:
        yield url


@pytest.fixture
def limits(gateway: Gateway) -> Limits:
    return replace(gateway.limits, body_timeout_s=TIMEOUT_S, write_stall_s=TIMEOUT_S, linger_s=0.05)


async def uploaded(wire: Wire, content: bytes, headers: Mapping[str, str] = HEADERS) -> Reply:
    body = FORM + content + END
    await wire.send(request("POST", PATH, body, {**headers, "content-type": "multipart/form-data; boundary=X"}))
    return await wire.reply()


async def made(url: str, size: int, headers: Mapping[str, str] = HEADERS) -> str:
    async with connect(url) as wire:
        reply = await uploaded(wire, b"x" * size, headers)
    assert reply.status == 200, reply.body
    return str(reply.json["id"])


async def test_a_file_goes_in_and_out_on_one_connection(url: str) -> None:
    async with connect(url) as wire:
        file = (await uploaded(wire, b"{}\n" * MB)).json
        await wire.send(request("GET", f"{PATH}/{file['id']}/content", headers=HEADERS))
        reply = await wire.reply()
    assert (reply.status, reply.headers["content-type"], reply.body) == (200, "application/octet-stream", b"{}\n" * MB)


async def test_who_sends_too_slowly_is_told_so(url: str) -> None:
    async with connect(url) as wire:
        headers = {**HEADERS, "content-type": "multipart/form-data; boundary=X", "content-length": str(2 * MB)}
        await wire.send(request("POST", PATH, b"", headers) + FORM)
        reply = await wire.reply()
    assert (reply.status, reply.error["code"]) == (408, "request_timeout")


@pytest.mark.parametrize("limits", [Limits(MB, body_timeout_s=1.2)])
async def test_every_megabyte_has_its_own_time(url: str, limits: Limits) -> None:
    async with connect(url) as wire:
        body = FORM + b"x" * 4 * MB + END
        headers = {**HEADERS, "content-type": "multipart/form-data; boundary=X", "content-length": str(len(body))}
        await wire.send(request("POST", PATH, b"", headers))
        for start in range(0, len(body), MB):
            await wire.send(body[start : start + MB])
            await asyncio.sleep(limits.body_timeout_s / 4)  # five times, which is more than one of them has
        reply = await wire.reply()
    assert (reply.status, reply.json["bytes"]) == (200, 4 * MB)


async def test_who_takes_nothing_is_given_up(url: str) -> None:
    file_id = await made(url, 16 * MB)
    async with connect(url, receive_buffer=16 * 1024) as wire:
        await wire.send(request("GET", f"{PATH}/{file_id}/content", headers=HEADERS))
        await wire.head()
        wire.stop_reading()
        await asyncio.sleep(3 * TIMEOUT_S)
        wire.read_on()
        with pytest.raises((IncompleteReadError, ConnectionResetError)):
            await wire.pieces()


async def test_a_file_that_is_deleted_on_its_way_does_not_look_whole(url: str, gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    file_id = await made(url, 16 * MB)
    async with connect(url, receive_buffer=16 * 1024) as wire:
        await wire.send(request("GET", f"{PATH}/{file_id}/content", headers=HEADERS))
        await wire.head()
        assert await batches_of(gateway._store).delete_file(Owner("admin"), file_id)
        with pytest.raises((IncompleteReadError, ConnectionResetError)):
            await wire.pieces()
    await eventually(lambda: file_id in caplog.text, "a word of it in the log")


async def test_a_file_is_not_told_on_to_whom_it_is_not_for_any_more(
    url: str, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "CHECK_EVERY_S", 0.0)
    key = (await ask(url, "/admin/v1/keys", {"name": "leaver"}, headers=HEADERS)).json
    as_leaver = {"authorization": f"Bearer {key['key']}"}
    file_id = await made(url, 16 * MB, as_leaver)
    async with connect(url, receive_buffer=16 * 1024) as wire:
        await wire.send(request("GET", f"{PATH}/{file_id}/content", headers=as_leaver))
        assert (await wire.head()).status == 200
        assert (await ask(url, f"/admin/v1/keys/{key['id']}/revoke", {}, headers=HEADERS)).status == 200
        await gateway._keys.refresh()
        with pytest.raises((IncompleteReadError, ConnectionResetError)):
            await wire.pieces()


@pytest.mark.parametrize("limits", [Limits(MB, bodies=Bodies(HELD_BYTES - 1))])
async def test_uploads_are_held_to_the_bound_of_all_bodies(url: str) -> None:
    async with connect(url) as wire:
        reply = await uploaded(wire, b"{}")
    assert (reply.status, reply.error["code"]) == (503, "overloaded")


async def test_what_an_upload_held_is_given_back(url: str, limits: Limits) -> None:
    async with connect(url) as wire:
        await uploaded(wire, b"{}")
        await wire.send(request("POST", PATH, b"{}", {**HEADERS, "content-type": "multipart/form-data; boundary=X"}))
        assert (await wire.reply()).status == 400
    assert limits.bodies.held_bytes == 0


async def test_who_takes_no_results_is_given_up_too(url: str, limits: Limits, told: list[Exchange]) -> None:
    """And the rest of the requests with him."""
    body = {"model": "chat", "messages": [{"role": "user", "content": "x"}]}
    requests = [{"custom_id": f"{'n' * 500}{number}", "body": body} for number in range(1000)]
    async with connect(url, receive_buffer=4 * 1024) as wire:
        await wire.send(request("POST", "/v1/batch", msgspec.json.encode({"requests": requests, "stream": True}), HEADERS))
        await wire.head()
        wire.stop_reading()
        await eventually(lambda: limits.bodies.held_bytes == 0, "the client to be given up")
        wire.read_on()
        with pytest.raises((IncompleteReadError, ConnectionResetError)):
            await wire.pieces()
    assert len(told) < len(requests)
