"""Who may open a socket: by key, shown in a header or as a subprotocol, by host and origin, and by a handshake that is one."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.journeys.conftest import Launch
from tests.kit import replies, samples
from tests.kit.client import CHAT, ask, chat
from tests.kit.client import connect as wire_to
from tests.kit.client import request as http_request
from tests.kit.eventually import eventually
from tests.kit.gateway import Gateway
from tests.kit.provider import ScriptedProvider
from tests.kit.websocket import (
    HANDSHAKE,
    WHOLE,
    WORDS,
    Frame,
    asking,
    begun,
    connect,
    error_of,
    play,
    record_of,
    refused,
    text_of,
)

ADMIN_KEY = "sk-admin-0123456789abcdef"


@pytest.fixture
def locked(launch: Launch) -> Gateway:
    return launch(auth={"admin_key": ADMIN_KEY})


async def test_keys_by_header_and_by_subprotocol(locked: Gateway, provider: ScriptedProvider) -> None:
    play(provider, whole=replies.whole(samples.COMPLETION))
    made = await asyncio.to_thread(locked.command, "keys", "create", "agents", "--models", "chat", "--json")
    key = samples.decode(made.stdout)["key"]
    ways: list[tuple[dict[str, str], list[str] | None]] = [
        ({"authorization": f"Bearer {key}"}, None),
        ({"x-api-key": key}, ["agent-gateway"]),
        ({}, ["agent-gateway", f"agent-gateway.key.{key}"]),
        ({}, [f"openai-insecure-api-key.{key}", "agent-gateway"]),
        ({"origin": "https://agents.example"}, ["agent-gateway", f"agent-gateway.key.{key}"]),
    ]
    for headers, subprotocols in ways:
        async with connect(locked.url, headers, subprotocols) as socket:
            assert socket.connection.subprotocol == ("agent-gateway" if subprotocols else None)
            name = await socket.ask(asking("whole"))
            assert await socket.answer(name) == [{"request": name, "data": WHOLE}]
            assert (await record_of(locked, name))["key_id"]
            forbidden = await socket.ask(asking("whole", model="impatient"))
            assert error_of(await socket.answer(forbidden)) == (403, "forbidden")
            assert key not in str(provider.last.headers)
    assert key not in locked.log


@pytest.mark.parametrize(
    ("headers", "subprotocols"),
    [
        ({}, None),
        ({}, ["agent-gateway"]),
        ({"authorization": "Bearer sk-wrong"}, None),
        ({}, ["agent-gateway", "agent-gateway.key.sk-wrong"]),
        ({}, ["agent-gateway", "openai-insecure-api-key.sk-wrong"]),
        ({"authorization": "Bearer sk-wrong"}, ["agent-gateway", f"agent-gateway.key.{ADMIN_KEY}"]),
    ],
    ids=str,
)
async def test_a_wrong_key_is_refused_before_the_socket_opens(
    locked: Gateway, headers: dict[str, str], subprotocols: list[str] | None
) -> None:
    status, error = await refused(locked.url, headers, subprotocols)
    assert (status, error["code"]) == (401, "invalid_api_key")


async def test_a_key_that_is_revoked_meanwhile(locked: Gateway, provider: ScriptedProvider) -> None:
    go_on = asyncio.Event()
    play(provider, slow=begun(go_on), whole=replies.whole(samples.COMPLETION))
    made = samples.decode((await asyncio.to_thread(locked.command, "keys", "create", "agents", "--json")).stdout)
    async with connect(locked.url, {"x-api-key": made["key"]}) as socket:
        running = await socket.ask(asking("slow", stream=True))
        first = [await socket.frame(), await socket.frame()]
        await asyncio.to_thread(locked.command, "keys", "revoke", made["id"])
        until = time.monotonic() + 10
        while error_of_or_none(frames := await socket.answer(await socket.ask(asking("whole")))) is None:
            assert time.monotonic() < until, frames
        assert error_of(frames) == (401, "invalid_api_key")
        go_on.set()
        assert text_of(first + await socket.answer(running)) == "".join(WORDS)


def error_of_or_none(frames: list[Frame]) -> tuple[int | None, str] | None:
    return error_of(frames) if "error" in frames[0] else None


@pytest.mark.parametrize(
    "headers",
    [{"host": "evil.example:8080"}, {"host": "evil.example", "origin": "http://evil.example"}, {"origin": "http://evil.example"}],
    ids=str,
)
async def test_a_page_that_is_not_the_gateways_gets_nothing(gateway: Gateway, headers: dict[str, str]) -> None:
    async with wire_to(gateway.url) as wire:
        await wire.send(http_request("GET", CHAT, headers={**HANDSHAKE, **headers}))
        reply = await wire.reply()
    assert (reply.status, reply.error["code"]) == (403, "forbidden")


@pytest.mark.parametrize("origin", ["http://localhost", "http://LOCALHOST"])
async def test_a_page_of_its_own_is_let_in(gateway: Gateway, origin: str) -> None:
    async with wire_to(gateway.url) as wire:
        await wire.send(http_request("GET", CHAT, headers={**HANDSHAKE, "origin": origin}))
        assert (await wire.head()).status == 101


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        ("/v1/models", {}, 404),
        ("/nothing", {}, 404),
        (CHAT, {"x-large": "a" * 70_000}, 431),
        (CHAT, {"x-long": "a" * 10_000}, 431),
        (CHAT, {f"x-{number}": "a" * 8_000 for number in range(10)}, 431),
        (CHAT, {f"x-{number}": "a" for number in range(200)}, 431),
        (CHAT, {"sec-websocket-version": "8"}, 400),
        (CHAT, {"sec-websocket-key": ""}, 400),
        (CHAT, {"sec-websocket-key": "short"}, 400),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_handshake_that_is_none(gateway: Gateway, target: str, headers: dict[str, str], status: int) -> None:
    async with wire_to(gateway.url) as wire:
        await wire.send(http_request("GET", target, headers={**HANDSHAKE, **headers}))
        reply = await wire.reply()
        assert (reply.status, reply.complete) == (status, True)
        assert reply.error["message"]
        assert await wire.closed()


async def test_a_post_opens_no_socket(gateway: Gateway) -> None:
    """It is answered, and in HTTP (its body is lost to the server's parser, which takes it for the other protocol's)."""
    reply = await ask(gateway.url, CHAT, chat(), headers=HANDSHAKE)
    assert (reply.status, reply.error["code"]) == (400, "bad_request")


async def test_a_socket_is_not_opened_in_the_middle_of_an_answer(gateway: Gateway, provider: ScriptedProvider) -> None:
    go_on = asyncio.Event()
    provider.reply(replies.after(go_on, replies.whole(samples.COMPLETION)))
    async with wire_to(gateway.url) as wire:
        post = http_request("POST", CHAT, b'{"model":"chat","messages":[{"role":"user","content":"hi"}]}', {"expect": "nothing"})
        await wire.send(post + http_request("GET", CHAT, headers=HANDSHAKE))
        await eventually(lambda: provider.heard, "the provider is asked")
        go_on.set()
        assert (await wire.reply()).json == WHOLE
        assert (await wire.reply()).status == 400
