"""A gateway's days: it starts, reloads, drains, is killed and comes back, and owes no client an answer, no operator a record."""

from __future__ import annotations

import asyncio
import signal
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.journeys.conftest import Launch, one_edge
from tests.kit import replies, samples
from tests.kit.client import CHAT, Wire, ask, chat, chat_request, connect, request
from tests.kit.configuration import PROVIDER_KEY, configuration
from tests.kit.eventually import eventually
from tests.kit.gateway import Gateway
from tests.kit.provider import Peer, Script, ScriptedProvider

FRAMES = samples.text_frames(["Hel", "lo", "!"])
WHOLE_STREAM = samples.renamed(b"".join(FRAMES), "chat")
STREAMS = 50


def pausing(go_on: asyncio.Event) -> Script:
    """A stream whose second half comes when it is told to."""

    async def rest(peer: Peer) -> None:
        await go_on.wait()
        await peer.send(replies.chunk(b"".join(FRAMES[2:])) + replies.LAST_CHUNK)

    return replies.stream(FRAMES[:2], then=rest)


async def _read_stream(wire: Wire, begun: asyncio.Semaphore) -> bytes:
    await wire.send(chat_request(stream=True))
    assert (await wire.head()).status == 200
    body = await wire.piece()
    begun.release()
    while piece := await wire.piece():
        body += piece
    return body


async def test_fifty_open_streams_are_finished_before_it_goes(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch()
    go_on, begun = asyncio.Event(), asyncio.Semaphore(0)
    provider.reply(pausing(go_on))

    async def one() -> bytes:
        async with connect(gateway.url) as wire:
            return await _read_stream(wire, begun)

    streams = [asyncio.create_task(one()) for _ in range(STREAMS)]
    for _ in range(STREAMS):
        await begun.acquire()
    gateway.signal(signal.SIGTERM)
    await eventually(lambda: _refuses(gateway), "no new connection is taken")
    assert not any(stream.done() for stream in streams)
    go_on.set()
    assert await asyncio.gather(*streams) == [WHOLE_STREAM] * STREAMS
    assert await asyncio.to_thread(gateway.wait) == 0
    assert [record["status"] for record in gateway.records] == ["success"] * STREAMS


async def test_a_stream_that_outlasts_the_drain_is_told_so_and_recorded(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch(server={"drain_timeout_s": 0.5})
    provider.reply(pausing(asyncio.Event()))
    begun = asyncio.Semaphore(0)
    async with connect(gateway.url) as wire:
        stream = asyncio.create_task(_read_stream(wire, begun))
        await begun.acquire()
        gateway.signal(signal.SIGTERM)
        body = await stream
    *_, last = (frame for frame in body.split(b"\n\n") if frame)
    assert samples.read_frame(last)["error"]["code"] == "shutting_down"
    assert await asyncio.to_thread(gateway.wait) == 0
    [record] = gateway.records
    assert (record["status"], record["error_code"]) == ("error", "shutting_down")


async def test_a_second_ctrl_c_waits_for_nobody(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch()
    provider.reply(pausing(asyncio.Event()))
    begun = asyncio.Semaphore(0)
    async with connect(gateway.url) as wire:
        stream = asyncio.create_task(_read_stream(wire, begun))
        await begun.acquire()
        gateway.signal(signal.SIGUSR2)
        await eventually(lambda: "this process goes on" in gateway.log, "a signal that is for others ends nobody")
        gateway.signal(signal.SIGINT)
        await eventually(lambda: _refuses(gateway), "no new connection is taken")
        assert not stream.done()
        gateway.signal(signal.SIGINT)
        assert await asyncio.to_thread(gateway.wait) == 0
        await asyncio.wait([stream])
        assert stream.exception() is not None or stream.result() != WHOLE_STREAM
    gateway.assert_log_is_clean()


async def test_an_idle_connection_does_not_hold_up_the_end(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch()
    provider.reply(replies.whole(samples.COMPLETION))
    async with connect(gateway.url) as wire, connect(gateway.url) as silent:
        await wire.send(chat_request())
        assert (await wire.reply()).status == 200
        gateway.signal(signal.SIGTERM)
        assert await wire.closed()
        assert await silent.closed()
    assert await asyncio.to_thread(gateway.wait) == 0


async def test_what_was_answered_survives_a_kill(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch()
    provider.reply(replies.whole(samples.COMPLETION))
    replies_got = await asyncio.gather(*(ask(gateway.url, CHAT, chat()) for _ in range(100)))
    answered = {reply.headers["x-request-id"] for reply in replies_got}
    # In 0.2 s where the machine has time for it: `benchmarks/completeness.py` measures that.
    await eventually(lambda: len(gateway.records) >= len(answered), "each is on disk")
    gateway.kill()
    assert sorted(record["id"] for record in gateway.records) == sorted(answered)
    gateway.start()
    after = await ask(gateway.url, CHAT, chat())
    assert after.status == 200
    assert gateway.stop() == 0
    assert sorted(record["id"] for record in gateway.records) == sorted({*answered, after.headers["x-request-id"]})


async def test_a_kill_in_the_middle_of_work_leaves_a_gateway_that_starts(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch()
    begun = asyncio.Semaphore(0)
    provider.reply(pausing(asyncio.Event()))
    async with connect(gateway.url) as wire:
        stream = asyncio.create_task(_read_stream(wire, begun))
        await begun.acquire()
        gateway.kill()
        cut = (await asyncio.gather(stream, return_exceptions=True))[0]
    assert isinstance(cut, (asyncio.IncompleteReadError, ConnectionResetError)), "a cut stream never ends as if it were complete"
    gateway.start()
    provider.reply(replies.whole(samples.COMPLETION))
    assert (await ask(gateway.url, CHAT, chat())).status == 200


async def test_a_reload_changes_the_models_and_drops_nothing(
    launch: Launch, provider: ScriptedProvider, closed_port: int
) -> None:
    gateway = launch()
    go_on, begun = asyncio.Event(), asyncio.Semaphore(0)
    provider.reply(pausing(go_on))
    async with connect(gateway.url) as wire:
        stream = asyncio.create_task(_read_stream(wire, begun))
        await begun.acquire()
        new = {"fresh": {"deployments": [{"provider": "scripted", "model": "another-model"}]}}
        gateway.write_config(configuration(provider.port, closed_port, models=new))
        gateway.signal(signal.SIGHUP)
        await _until_listed(gateway, "fresh")
        provider.reply(replies.whole(samples.COMPLETION))
        assert (await ask(gateway.url, CHAT, chat("fresh"))).status == 200
        assert provider.last.json["model"] == "another-model"
        go_on.set()
        assert await stream == WHOLE_STREAM


@one_edge
async def test_a_reload_that_is_asked_for_while_another_is_under_way_follows_it(
    launch: Launch, provider: ScriptedProvider, closed_port: int
) -> None:
    gateway = launch()

    def reload_with(name: str) -> None:
        models = {name: {"deployments": [{"provider": "scripted", "model": "m"}]}}
        gateway.write_config(configuration(provider.port, closed_port, models=models))
        gateway.signal(signal.SIGHUP)

    with closing(sqlite3.connect(gateway.folder / "agent-gateway.db", isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")  # the first one cannot be put down in the audit log yet
        reload_with("first")
        await _until_listed(gateway, "first")
        reload_with("second")
        await ask(gateway.url, "/v1/models")  # it has heard the signal by now
    await _until_listed(gateway, "second")


@one_edge
async def test_a_bad_reload_is_refused_and_the_old_configuration_stays(
    launch: Launch, provider: ScriptedProvider, closed_port: int
) -> None:
    gateway = launch()
    provider.reply(replies.whole(samples.COMPLETION))
    broken = configuration(provider.port, closed_port, modles={})
    gateway.write_config(broken)
    gateway.signal(signal.SIGHUP)
    await eventually(lambda: "modles" in gateway.log, "the mistake in the log, by its path")
    assert PROVIDER_KEY not in gateway.log
    assert (await ask(gateway.url, CHAT, chat())).status == 200
    gateway.config_file.write_text("models: [not: {closed")
    seen = len(gateway.log)
    gateway.signal(signal.SIGHUP)
    await eventually(lambda: len(gateway.log) > seen, "that the file is no YAML")
    assert (await ask(gateway.url, CHAT, chat())).status == 200


@one_edge
async def test_keys_are_asked_for_where_they_are_required(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch(auth={"admin_key": "sk-admin-0123456789abcdef", "require_key": True})
    provider.reply(replies.whole(samples.COMPLETION))
    made = await asyncio.to_thread(gateway.command, "keys", "create", "agents", "--models", "chat", "--json")
    key = samples.decode(made.stdout)["key"]
    for headers in ({"authorization": f"Bearer {key}"}, {"x-api-key": key}, {"api-key": key}, {"x-goog-api-key": key}):
        reply = await ask(gateway.url, CHAT, chat(), headers={"authorization": "", **headers})
        assert reply.status == 200
        assert key not in str(provider.last.headers)
    for refused in ("", "Bearer", "Bearer sk-wrong", f"Bearer {key}x", "Bearer " + "x" * 10_000, "Basic dXNlcjpwdw=="):
        reply = await ask(gateway.url, CHAT, chat(), headers={"authorization": refused})
        assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")
    reply = await ask(gateway.url, CHAT, chat("impatient"), headers={"authorization": f"Bearer {key}"})
    assert (reply.status, reply.error["code"]) == (403, "forbidden")
    listed = await ask(gateway.url, "/v1/models", headers={"authorization": f"Bearer {key}"})
    assert [model["id"] for model in listed.json["data"]] == ["chat"]
    assert key not in gateway.log
    assert (gateway.folder / "agent-gateway.db").read_bytes().find(key.encode()) < 0


@one_edge
async def test_minimal_records_hold_nothing_a_user_said(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch(monitoring={"mode": "minimal"})
    provider.reply(replies.stream(samples.text_frames(["my-secret-answer"], usage=True)))
    body = chat(stream=True, user="user-of-a-secret", messages=[{"role": "user", "content": "my-secret-question"}])
    assert (await ask(gateway.url, CHAT, body, headers={"x-request-id": "client-id-of-a-secret"})).status == 200
    assert gateway.stop() == 0
    [record] = gateway.records
    assert (record["status"], record["input_tokens"], record["output_tokens"]) == ("success", 19, 10)
    assert not [name for name, value in record.items() if "secret" in str(value)]


@one_edge
async def test_a_gateway_without_records_serves(launch: Launch, provider: ScriptedProvider) -> None:
    gateway = launch(monitoring={"mode": "off"}, state={"database": "sqlite:///:memory:"})
    provider.reply(replies.whole(samples.COMPLETION))
    assert (await ask(gateway.url, CHAT, chat())).status == 200
    assert gateway.stop() == 0
    assert list(gateway.folder.glob("*.db*")) == []


@one_edge
async def test_a_port_that_is_taken_is_said(launch: Launch) -> None:
    gateway = launch()
    second = await asyncio.to_thread(gateway.command, "serve", "--port", str(gateway.port))
    assert second.returncode == 1
    assert str(gateway.port) in second.stderr
    assert "Traceback" not in second.stderr


async def test_a_bad_configuration_is_an_error_at_the_start(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, {}, "fast lane")
    model = "{deployments: [{provider: q, model: x}], strategy: balancd}"
    gateway.config_file.write_text(f"providers: {{p: {{kind: opnai}}}}\nmodels: {{m: {model}}}\n")
    for command in ("serve", "check"):
        done = await asyncio.to_thread(gateway.command, command)
        assert done.returncode == 1
        said = done.stdout + done.stderr
        assert all(path in said for path in ("providers.p.kind", "models.m.strategy", "models.m.deployments"))
        assert "Traceback" not in said


def _refuses(gateway: Gateway) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", gateway.port)) != 0


async def _until_listed(gateway: Gateway, model: str) -> None:
    async with asyncio.timeout(10), connect(gateway.url) as wire:
        while True:
            await wire.send(request("GET", "/v1/models"))
            if model in {listed["id"] for listed in (await wire.reply()).json["data"]}:
                return
            await asyncio.sleep(0.02)
