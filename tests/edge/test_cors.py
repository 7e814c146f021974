"""Pages of other origins: those that are let in hear all that they need, the others can cause nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent_gateway.app import Gateway
from agent_gateway.edge import cors
from tests.edge.conftest import ADMIN_KEY, served
from tests.kit.client import CHAT, ask, chat, connect, request

PAGE = "https://app.example"
AS_ADMIN = {"authorization": f"Bearer {ADMIN_KEY}"}
ROOT = Path(cors.__file__).parent.parent

both = pytest.mark.parametrize("fast", [True, False], ids=["fast lane", "asgi"])


def _configure(gateway: Gateway, *origins: str, require_key: bool = True) -> None:
    runtime = gateway.live.runtime
    settings = replace(runtime.settings, server=replace(runtime.settings.server, cors_origins=origins))
    object.__setattr__(runtime, "settings", settings)
    runtime.gate._key_required = require_key


@both
async def test_a_listed_page_may_read_every_kind_of_answer(gateway: Gateway, fast: bool) -> None:
    _configure(gateway, PAGE)
    async with served(gateway, gateway.limits, fast=fast) as url:
        for body, headers, status in (
            (chat(), AS_ADMIN, 200),
            (chat(stream=True), AS_ADMIN, 200),
            (chat("no-such-model"), AS_ADMIN, 404),
            (chat(), {}, 401),
            (None, AS_ADMIN, 200),
        ):
            target = CHAT if body is not None else "/v1/models"
            reply = await ask(url, target, body, headers={"authorization": "", "origin": PAGE, **headers})
            assert reply.status == status
            assert reply.headers["access-control-allow-origin"] == PAGE
            assert reply.headers["access-control-allow-credentials"] == "true"
            assert reply.headers["vary"] == "origin"
            assert "x-request-id" in reply.headers["access-control-expose-headers"].split(", ")


@both
@pytest.mark.parametrize(
    ("target", "methods"),
    [(CHAT, "POST"), ("/v1/sessions", "GET"), ("/v1/sessions/a", "GET, DELETE"), ("/v1beta/models/chat:generateContent", "POST")],
)
async def test_a_preflight_is_answered_without_a_key(gateway: Gateway, fast: bool, target: str, methods: str) -> None:
    _configure(gateway, PAGE)
    asking = {"authorization": "", "origin": PAGE, "access-control-request-method": "POST"}
    asking["access-control-request-headers"] = "authorization,content-type,x-stainless-os"
    async with served(gateway, gateway.limits, fast=fast) as url, connect(url) as wire:
        await wire.send(request("OPTIONS", target, headers=asking))
        reply = await wire.reply()
        assert (reply.status, reply.body) == (200, b"")
        assert reply.headers["access-control-allow-origin"] == PAGE
        assert reply.headers["access-control-allow-methods"] == methods
        assert reply.headers["access-control-allow-headers"] == "authorization,content-type,x-stainless-os"
        assert int(reply.headers["access-control-max-age"]) > 0


async def test_any_page_but_without_credentials(gateway: Gateway) -> None:
    _configure(gateway, "*")
    async with served(gateway, gateway.limits, fast=True) as url:
        reply = await ask(url, CHAT, chat(), headers={**AS_ADMIN, "origin": "https://who.ever"})
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in reply.headers


@both
@pytest.mark.parametrize("origin", ["https://evil.example", "https://app.example.evil", "null", PAGE.upper()])
async def test_other_pages_are_told_nothing(gateway: Gateway, fast: bool, origin: str) -> None:
    _configure(gateway, PAGE)
    async with served(gateway, gateway.limits, fast=fast) as url:
        reply = await ask(url, CHAT, chat(), headers={**AS_ADMIN, "origin": origin})
        assert not any(name.startswith("access-control") for name in reply.headers)
        asking = {"origin": origin, "access-control-request-method": "POST"}
        refused = await ask(url, CHAT, method="OPTIONS", headers=asking)
        assert refused.status == 405
        assert not any(name.startswith("access-control") for name in refused.headers)


@both
@pytest.mark.parametrize("media", ["", "application/json"])
async def test_a_page_cannot_spend_on_a_gateway_that_needs_no_key(gateway: Gateway, fast: bool, media: str) -> None:
    """A page may send what has no content type anywhere, unasked: it could not read the answer, but the model would be paid."""
    _configure(gateway, PAGE, require_key=False)
    async with served(gateway, gateway.limits, fast=fast) as url:
        own = url.replace("127.0.0.1", "localhost")
        for origin, status in (("https://evil.example", 403), ("null", 403), (PAGE, 200), (own, 200), ("", 200)):
            headers = {"authorization": "", "origin": origin, "content-type": media, "host": own.removeprefix("http://")}
            assert (await ask(url, CHAT, chat(), headers=headers)).status == status, origin


async def test_where_nothing_is_configured_nothing_is_said(gateway: Gateway) -> None:
    async with served(gateway, gateway.limits, fast=False) as url:
        reply = await ask(url, "/v1/models", headers={**AS_ADMIN, "origin": PAGE})
    assert not any(name.startswith("access-control") or name == "vary" for name in reply.headers)


def test_every_header_that_the_gateway_writes_is_exposed() -> None:
    files = (ROOT / "edge").glob("*.py"), (ROOT / "admission").glob("*.py")
    code = "".join(file.read_text() for folder in files for file in sorted(folder) if file.stem not in ("request", "cors"))
    written = {*re.findall(r"(x-gateway-[a-z-]+[a-z]|x-request-id|x-session-id|retry-after): ?\{|b\"(x-gateway-[a-z-]+[a-z]):", code)}
    names = {name for pair in written for name in pair if name}
    assert len(names) > 5
    assert names <= set(cors.EXPOSED)
