"""What the admin API tells piece by piece, from inside: how it ends when its listener may not hear it any more, or takes none of it."""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn

import msgspec
import pytest

from agent_gateway.app import Gateway
from agent_gateway.core.errors import StoreDown
from agent_gateway.core.exchange import Exchange
from agent_gateway.edge import telling
from tests.edge.conftest import ADMIN_KEY, served
from tests.kit.client import ask, chat, connect, request
from tests.kit.eventually import eventually

PLAYGROUND = "/admin/v1/playground"


def asking(key: str) -> bytes:
    return request("POST", PLAYGROUND, msgspec.json.encode(chat()), {"authorization": f"Bearer {key}"})


@pytest.mark.parametrize("gateway", [{"ttft_ms": 0, "tokens_per_s": 50, "output_tokens": 10_000}], indirect=True)
async def test_an_answer_ends_with_the_right_to_hear_it(
    gateway: Gateway, told: list[Exchange], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "CHECK_EVERY_S", 0.0)
    async with served(gateway, gateway.limits, fast=False) as url:
        as_admin = {"authorization": f"Bearer {ADMIN_KEY}"}
        key = (await ask(url, "/admin/v1/keys", {"name": "leaver", "role": "admin"}, headers=as_admin)).json
        async with connect(url) as wire:
            await wire.send(asking(key["key"]))
            assert (await wire.head()).status == 200
            assert b"data: " in await wire.piece()
            assert (await ask(url, f"/admin/v1/keys/{key['id']}/revoke", {}, headers=as_admin)).status == 200
            rest = await wire.pieces()
    *_, last = rest.split(b"\n\n")[:-1]
    name, _, data = last.partition(b"\ndata: ")
    assert (name, msgspec.json.decode(data)["error"]["code"]) == (b"event: error", "invalid_api_key")
    (exchange,) = told
    assert (exchange.key.id, exchange.status) == ("playground", "cancelled")


@pytest.mark.parametrize(
    ("gateway", "grace_s", "last", "status"),
    [
        ({"ttft_ms": 0, "tokens_per_s": 200, "output_tokens": 20, "output_spread": 0}, 3600.0, b"event: summary", "success"),
        ({"ttft_ms": 0, "tokens_per_s": 50, "output_tokens": 10_000}, 0.0, b"event: error", "cancelled"),
    ],
    indirect=["gateway"],
)
async def test_while_the_store_is_down_it_goes_on_as_long_as_known_keys_do(
    gateway: Gateway, told: list[Exchange], monkeypatch: pytest.MonkeyPatch, grace_s: float, last: bytes, status: str
) -> None:
    monkeypatch.setattr(telling, "CHECK_EVERY_S", 0.0)
    gateway._keys.configure(msgspec.structs.replace(gateway.live.runtime.settings.auth, grace_s=grace_s))

    async def down(*_: object) -> NoReturn:
        raise StoreDown("The database cannot be reached.")

    async with served(gateway, gateway.limits, fast=False) as url, connect(url) as wire:
        login = await ask(url, "/admin/v1/login", {"key": ADMIN_KEY})
        cookie = login.headers["set-cookie"].partition(";")[0]
        shown = {"authorization": "", "cookie": cookie, "x-csrf-token": login.json["csrf"]}
        await wire.send(request("POST", PLAYGROUND, msgspec.json.encode(chat()), shown))
        assert (await wire.head()).status == 200
        for name in ("find_value", "list_values"):
            monkeypatch.setattr(gateway._store, name, down)
        await gateway._logins.refresh()
        rest = await wire.pieces()
    assert rest.split(b"\n\n")[-2].startswith(last)
    assert [exchange.status for exchange in told] == [status]


@pytest.mark.parametrize("gateway", [{"ttft_ms": 0, "tokens_per_s": 20_000, "output_tokens": 50_000}], indirect=True)
async def test_who_takes_nothing_of_an_answer_has_left_it(gateway: Gateway, told: list[Exchange]) -> None:
    limits = replace(gateway.limits, write_stall_s=0.2)
    async with served(gateway, limits, fast=False, send_buffer=4096) as url, connect(url, receive_buffer=4096) as wire:
        await wire.send(asking(ADMIN_KEY))
        assert (await wire.head()).status == 200
        wire.stop_reading()
        await eventually(lambda: bool(told), "the call ends")
    assert [exchange.status for exchange in told] == ["cancelled"]
