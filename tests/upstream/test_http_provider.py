"""Several keys for one provider, in turn and around one that is refused; and the bounds on what comes back."""

from __future__ import annotations

import logging
from time import monotonic
from typing import Any, cast

import pytest

from agent_gateway.core.clock import SYSTEM_CLOCK, Clock
from agent_gateway.core.errors import ProviderFault, ProviderKeyRefused
from agent_gateway.core.exchange import Attempt
from agent_gateway.core.route import Deployment
from agent_gateway.upstream.http_provider import ERROR_WAIT_S, KEY_REST_S
from agent_gateway.upstream.providers.anthropic import AnthropicProvider
from agent_gateway.upstream.providers.openai import OpenAIProvider
from agent_gateway.upstream.reply import Taker
from agent_gateway.upstream.transport import ReadTimeout, Transport
from tests.kit.provider import ScriptedProvider
from tests.kit.replies import whole
from tests.upstream.stage import body, call


class Reply:
    def __init__(self, status: int) -> None:
        self.status = status
        self.headers = {b"content-type": b"application/json"}
        self.first_byte_at = 0.0

    async def read(self, until: float, max_bytes: int = 0) -> bytes:
        return body() if self.status == 200 else b'{"error": {"message": "Incorrect API key provided: sk-revoked"}}'

    async def next(self, until: float) -> bytes:
        return b""

    def pass_to(self, taker: Taker | None) -> None: ...

    def close(self) -> None: ...


class Wire:
    """A transport to a provider that knows good keys from revoked ones."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    async def send(self, origin: Any, head: bytes, body: bytes, **_: Any) -> Reply:
        key = head.split(b"Bearer ")[1].split(b"\r\n")[0].decode()
        self.shown.append(key)
        return Reply(401 if "revoked" in key else 200)


class Hands:
    now = 0.0


async def ask(provider: OpenAIProvider) -> None:
    deployment, attempt = Deployment("p/m", "p", "m"), Attempt("p/m", 0.0)
    await provider.send(call(), deployment, attempt, dialect="openai_chat", body=b"{}", connect_until=1e9, until=1e9)


def provider(wire: Wire, *keys: str) -> tuple[OpenAIProvider, Hands]:
    hands = Hands()
    clock = Clock(monotonic=lambda: hands.now, wall=lambda: 0.0)
    settings = OpenAIProvider.Settings(base_url="http://127.0.0.1:1/v1", api_keys=keys)
    return OpenAIProvider(settings, cast(Transport, wire), clock), hands


async def test_keys_are_used_in_turn() -> None:
    wire = Wire()
    asked, _ = provider(wire, "a", "b")
    for _ in range(4):
        await ask(asked)
    assert wire.shown == ["a", "b", "a", "b"]


async def test_a_refused_key_rests_and_the_call_goes_on_with_the_next(caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire()
    asked, hands = provider(wire, "revoked", "good")
    with caplog.at_level(logging.ERROR):
        for _ in range(4):
            await ask(asked)
        assert wire.shown == ["revoked", "good", "good", "good", "good"]
        hands.now = KEY_REST_S + 1
        await ask(asked)
        await ask(asked)
    assert wire.shown[5:].count("revoked") == 1
    assert [record.getMessage() for record in caplog.records] == [
        f"127.0.0.1 refused key 1 of 2 with status 401; it rests for {KEY_REST_S:.0f} s"
    ] * 2
    assert "sk-" not in caplog.text


async def test_when_all_are_refused_the_deployment_has_failed() -> None:
    wire = Wire()
    asked, _ = provider(wire, "revoked-1", "revoked-2")
    for _ in range(2):
        with pytest.raises(ProviderKeyRefused):
            await ask(asked)
    assert len(wire.shown) <= 4


class Stuck(Reply):
    """An error whose body never ends."""

    until = 0.0

    async def read(self, until: float, max_bytes: int = 0) -> bytes:
        Stuck.until = until
        raise ReadTimeout


async def test_an_errors_body_is_not_waited_for_long() -> None:
    wire = Wire()
    asked, _ = provider(wire, "good")
    wire.send = lambda *_, **__: _soon(Stuck(500))  # type: ignore[method-assign]
    with pytest.raises(ProviderFault) as caught:
        await ask(asked)
    assert caught.value.provider_status == 500
    assert Stuck.until == ERROR_WAIT_S


async def _soon(reply: Reply) -> Reply:
    return reply


# --- what is no call --------------------------------------------------------------------------------------------------


async def test_what_was_made_with_one_key_is_asked_for_with_it() -> None:
    wire = Wire()
    asked, _ = provider(wire, "a", "b")
    first, second = asked.account(), asked.account()
    for account in (second, second, first, second):
        await asked.ask("GET", "/v1/batches", account, until=1e9)
    assert wire.shown == ["b", "b", "a", "b"]
    assert not {"a", "b"} & {first, second}, "an account does not tell its key"
    await asked.ask("GET", "/v1/batches", "of a key that is gone", until=1e9)
    assert wire.shown[4] in ("a", "b")


async def test_a_key_that_is_refused_is_told_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    asked, _ = provider(Wire(), "sk-revoked", "b")
    with pytest.raises(ProviderKeyRefused) as refused:
        await asked.ask("DELETE", "/v1/files/x", asked.account(), until=1e9)
    assert "sk-revoked" not in f"{refused.value.detail}{caplog.text}"
    assert "key 1 of 2 with status 401" in caplog.text


async def test_what_is_asked_goes_out_as_it_is_told() -> None:
    async with ScriptedProvider() as scripted:
        scripted.reply(whole(b"{}", 201))
        transport = Transport(environ={})
        settings = AnthropicProvider.Settings(base_url=scripted.base_url.removesuffix("/v1"), api_key="sk-a")
        asked = AnthropicProvider(settings, transport, SYSTEM_CLOCK)
        path = f"{asked.root.path}/messages/batches?limit=1"
        reply = await asked.ask("POST", path, asked.account(), body=b"hi", headers={"content-type": "text/x"}, until=monotonic() + 5)
        assert (reply.status, await reply.read(monotonic() + 5, 10)) == (201, b"{}")
        (heard,) = scripted.heard
        shown = {name: heard.headers[name] for name in ("x-api-key", "anthropic-version", "content-type", "content-length")}
        assert (heard.method, heard.target, heard.body) == ("POST", "/v1/messages/batches?limit=1", b"hi")
        assert shown == {"x-api-key": "sk-a", "anthropic-version": "2023-06-01", "content-type": "text/x", "content-length": "2"}
        await transport.close()
