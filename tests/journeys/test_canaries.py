"""No secret comes out again: not in logs, metrics, files, answers or errors, whatever is asked and whatever the provider says."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.kit import replies, samples, websocket
from tests.kit.canaries import Canaries, left_in
from tests.kit.client import CHAT, Reply, ask, chat
from tests.kit.configuration import configuration
from tests.kit.eventually import eventually
from tests.kit.gateway import EdgeName, Gateway
from tests.kit.provider import Heard, Script, ScriptedProvider

#: Errors in which a careless provider repeats the key that it was shown.
ECHOES = {
    "echo 400": 400,
    "echo 401": 401,
    "echo 403": 403,
    "echo 404": 404,
    "echo 429": 429,
    "echo 500": 500,
}
#: So much that records keep it packed.
PADDING = "x" * 70_000


@pytest.fixture
def canaries() -> Canaries:
    return Canaries()


@pytest.fixture
def planted(canaries: Canaries, provider: ScriptedProvider, closed_port: int, edge: EdgeName, tmp_path: Path) -> Iterator[Gateway]:
    config = configuration(
        provider.port,
        closed_port,
        auth={"admin_key": canaries.plant("admin key"), "audit_key": canaries.plant("audit key")},
        limits={"requests_per_minute": 10_000},
        sessions={"compaction": "window"},
    )
    key = canaries.plant("provider key")
    config["providers"]["scripted"]["api_key"] = key
    config["providers"]["closed"]["api_keys"] = [canaries.plant("first key"), canaries.plant("second key")]
    del config["providers"]["closed"]["api_key"]
    gateway = Gateway(tmp_path, config, edge)
    try:
        yield gateway.start()
    finally:
        gateway.close()


def _script(key: str, heard: Heard) -> Script:
    """The first message says what is to be played."""
    said = str(heard.json.get("messages", ""))
    for name, status in ECHOES.items():
        if name in said:
            told = samples.error_body(f"The key {key} is no good. {PADDING}", key)
            return replies.whole(told, status, {"x-key": key, "location": f"http://127.0.0.1/?key={key}"})
    if "echo under 200" in said:
        error = {"error": {"message": f"The key {key} is no good.", "code": "boom"}}
        return replies.stream([samples.sse(error)]) if heard.json.get("stream") else replies.whole(msgspec.json.encode(error))
    if "echo in a stream" in said:
        error = {"error": {"message": f"The key {key} is no good.", "code": "boom"}}
        return replies.stream([*samples.text_frames(["Hel"])[:2], samples.sse(error)])
    if "broken stream" in said:
        return replies.stream([*samples.text_frames(["Hel"])[:2], samples.sse({"error": {"message": "no more", "code": "boom"}})])
    if "no JSON" in said:
        return replies.whole(f"<html>{key}</html>".encode(), content_type="text/html")
    if heard.json.get("stream"):
        return replies.stream(samples.text_frames(["Hel", "lo"], usage=True))
    return replies.whole(samples.COMPLETION)


def _chat(said: str, **more: Any) -> dict[str, Any]:
    return chat(**more) | {"messages": [{"role": "user", "content": f"{said} {PADDING}"}]}


async def test_nothing_that_is_secret_comes_out(planted: Gateway, canaries: Canaries, provider: ScriptedProvider) -> None:
    admin, key = canaries.secrets["admin key"], canaries.secrets["provider key"]
    provider.reply_by(lambda heard: _script(key, heard))
    secret = await _made_key(planted, admin, canaries)
    wrong = [canaries.plant("wrong key"), canaries.add("unknown key", f"agw_{'a' * 12}_{'Q7' * 21}z")]
    answers = [
        *await _models_are_asked(planted, secret),
        *await _keys_are_shown(planted, wrong),
        *await _the_admin_looks(planted, admin),
        *await _over_a_socket(planted, secret),
    ]
    await _the_configuration_is_spoilt(planted, canaries)
    answers.append(await ask(planted.url, "/metrics"))
    assert provider.last.headers["authorization"] == f"Bearer {key}", "the provider itself does get it"
    assert await asyncio.to_thread(planted.stop) == 0
    places = {f"answer {number}": repr(reply.headers).encode() + reply.content for number, reply in enumerate(answers)}
    places |= left_in(planted.folder, but=(planted.config_file,))
    assert "gateway.log" in places
    assert "the rows of agent-gateway.records.db" in places
    assert len(places["the rows of agent-gateway.records.db"]) > len(PADDING)
    found = canaries.found_in(places)
    assert not found, "\n".join(found)


async def _made_key(gateway: Gateway, admin: str, canaries: Canaries) -> str:
    """The one answer in which a secret belongs."""
    reply = await ask(gateway.url, "/admin/v1/keys", {"name": "agents"}, headers={"authorization": f"Bearer {admin}"})
    return canaries.add("client's key", reply.json["key"])


async def _models_are_asked(gateway: Gateway, secret: str) -> list[Reply]:
    headers = {"authorization": f"Bearer {secret}", "x-session-id": "a-session", "x-user-id": "ann"}
    bodies = [_chat(name, model=model) for name in (*ECHOES, "echo under 200", "no JSON", "hello") for model in ("chat", "patient")]
    bodies += [_chat(name, stream=True) for name in (*ECHOES, "echo under 200", "echo in a stream", "broken stream", "hello")]
    bodies += [_chat("hello", model="down"), {"model": "chat"}, {}]
    asked = [await ask(gateway.url, CHAT, body, headers=headers) for body in bodies]
    response = {"model": "chat", "input": "hello"}
    asked.append(await ask(gateway.url, "/v1/responses", response, headers=headers))
    asked.append(await ask(gateway.url, "/v1/messages", _chat("echo 401", max_tokens=5), headers=headers))
    asked.append(await ask(gateway.url, CHAT, _chat("hello", stream=True), headers={**headers, "x-gateway-resumable": "true"}))
    for path in ("/v1/models", "/v1/sessions", "/v1/sessions/a-session", "/v1/streams/none", "/nothing"):
        asked.append(await ask(gateway.url, path, headers=headers))
    return asked


async def _keys_are_shown(gateway: Gateway, wrong: list[str]) -> list[Reply]:
    asked = []
    for key in wrong:
        for header in ("authorization", "x-api-key", "api-key", "x-goog-api-key"):
            shown = {"authorization": "", header: f"Bearer {key}" if header == "authorization" else key}
            asked += [
                await ask(gateway.url, CHAT, chat(), headers=shown),
                await ask(gateway.url, "/v1beta/models", headers=shown),
                await ask(gateway.url, "/admin/v1/keys", headers=shown),
            ]
        status, told = await websocket.refused(gateway.url, {}, ["agent-gateway", f"agent-gateway.key.{key}"])
        asked.append(Reply(status, {}, repr(told).encode(), complete=True))
    assert {reply.status for reply in asked} == {401}
    return asked


async def _the_admin_looks(gateway: Gateway, admin: str) -> list[Reply]:
    headers = {"authorization": f"Bearer {admin}"}
    paths = ("keys", "teams", "usage", "routes", "records", "sessions", "audit", "audit/head", "config")
    asked = [await ask(gateway.url, f"/admin/v1/{path}", headers=headers) for path in paths]
    assert {reply.status for reply in asked} == {200}
    for record in asked[4].json["data"][:20]:
        asked.append(await ask(gateway.url, f"/admin/v1/records/{record['id']}", headers=headers))
    asked.append(await ask(gateway.url, "/admin/v1/keys", {"nonsense": 1}, headers=headers))
    asked.append(await ask(gateway.url, "/openapi.json"))
    return asked


async def _over_a_socket(gateway: Gateway, secret: str) -> list[Reply]:
    frames = []
    async with websocket.connect(gateway.url, subprotocols=[f"agent-gateway.key.{secret}"]) as wire:
        for name in ("echo 400", "echo 401", "hello"):
            frames += await wire.answer(await wire.ask(_chat(name)))
    return [Reply(200, {}, repr(frames).encode(), complete=True)]


async def _the_configuration_is_spoilt(gateway: Gateway, canaries: Canaries) -> None:
    """What is wrong with it goes into the log, with the value where that helps."""
    config = samples.decode(gateway.config_file.read_bytes())
    config["providers"]["scripted"]["api_key"] = [canaries.plant("key in a list")]
    config["providers"]["closed"]["api_kee"] = canaries.plant("key under a wrong name")
    config["auth"]["admin_key"] = f"{canaries.plant('key with a line break')}\n"
    config["state"]["redis"] = f"http://:{canaries.plant('password')}@127.0.0.1:1"
    gateway.write_config(config)
    gateway.signal(signal.SIGHUP)
    await eventually(lambda: "the configuration was not reloaded" in gateway.log, "the refusal")


async def test_a_database_that_cannot_be_reached_is_named_without_its_password(
    canaries: Canaries, closed_port: int, edge: EdgeName, tmp_path: Path
) -> None:
    password = canaries.plant("database password")
    config = configuration(closed_port, closed_port, auth={"admin_key": canaries.plant("admin key")})
    config["state"] = {"database": f"postgresql://gateway:{password}@127.0.0.1:{closed_port}/gateway"}
    gateway = Gateway(tmp_path, config, edge)
    try:
        gateway.start()
        await eventually(lambda: "The database (state.database) cannot be reached" in gateway.log, "the warning at its start")
        shown = canaries.add("unknown key", f"agw_{'a' * 12}_{'Q7' * 21}z")
        replies_ = [await ask(gateway.url, path, headers={"authorization": f"Bearer {shown}"}) for path in ("/v1/models", "/v1/sessions")]
        assert {reply.status for reply in replies_} == {503}
        checked = gateway.command("check")
        assert await asyncio.to_thread(gateway.stop) == 0
    finally:
        gateway.close()
    places = {"answers": b"".join(reply.content for reply in replies_), "check": (checked.stdout + checked.stderr).encode()}
    assert canaries.found_in(places | left_in(tmp_path, but=(gateway.config_file,))) == []
