"""Several workers as one gateway: they are replaced, reloaded and killed, and its clients and operators see one of it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.test_resume import RESUMABLE, cut, ids
from tests.kit.client import CHAT, ask, chat, chat_request, connect, request
from tests.kit.eventually import eventually
from tests.kit.gateway import COMMAND, EdgeName, Gateway
from tests.kit.load import Load, complete_ratio

WORKERS = 2
#: So many that each worker has some of them.
ASKED = 24
REPLACED = "all workers were replaced"


def configuration(**sections: Any) -> dict[str, Any]:
    simulated = {"kind": "simulated", "ttft_ms": 20, "jitter": 0}
    return {
        "server": {"workers": WORKERS, "drain_timeout_s": 15},
        "state": {"database": "sqlite:///agent-gateway.db"},
        "providers": {
            "sim": {**simulated, "tokens_per_s": 2000, "output_tokens": 10},
            "slow": {**simulated, "tokens_per_s": 20, "output_tokens": 20},
            # So long that all of them are seen under way at once, on a busy machine too.
            "long": {**simulated, "tokens_per_s": 20, "output_tokens": 60, "output_spread": 0},
            "stuck": {**simulated, "tokens_per_s": 0.1, "output_tokens": 20},
            "broken": {**simulated, "error_rate": 1.0},
        },
        "models": {
            "chat": {"deployments": [{"provider": "sim", "model": "small"}], "cache": {"exact": {"enabled": True}}},
            "talk": {"deployments": [{"provider": "slow", "model": "small"}]},
            "long": {"deployments": [{"provider": "long", "model": "small"}]},
            "stuck": {"deployments": [{"provider": "stuck", "model": "small"}]},
            "broken": {"deployments": [{"provider": "broken", "model": "small"}], "retries": {"max_attempts": 1}},
        },
        **sections,
    }


def started(folder: Path, edge: EdgeName) -> Iterator[Gateway]:
    (folder / "tmp").mkdir()
    gateway = Gateway(folder, configuration(), edge, {"TMPDIR": str(folder / "tmp")})
    try:
        yield gateway.start()
    finally:
        gateway.close()


@pytest.fixture
def gateway_of_its_own(tmp_path: Path, edge: EdgeName) -> Iterator[Gateway]:
    yield from started(tmp_path, edge)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """For journeys after which it goes on as before; what they are about has nothing to do with the edge."""
    yield from started(tmp_path_factory.mktemp("workers"), "fast lane")


async def metric(gateway: Gateway, name: str, **labels: str) -> float:
    """The sum of its series that have these labels."""
    text = (await ask(gateway.url, "/metrics")).body.decode()
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    lines = re.findall(rf"^agent_gateway_{name}(?:\{{([^}}]*)\}})? (\S+)$", text, re.MULTILINE)
    return sum(float(value) for told, value in lines if all(each in told for each in wanted))


async def asked_of_all(gateway: Gateway, count: int = ASKED, model: str = "chat") -> list[int]:
    """Requests on connections that are open at the same time, so that every worker has some."""
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(connect(gateway.url)) for _ in range(count)]
        for wire in wires:
            await wire.send(chat_request(model))
        return [(await wire.reply()).status for wire in wires]


async def test_nobody_is_lost_while_all_workers_are_replaced_and_reloaded(gateway_of_its_own: Gateway) -> None:
    gateway = gateway_of_its_own
    talking = Load(gateway.url, chat_request("talk", stream=True), clients=30, rate=None)
    asking = Load(gateway.url, chat_request(), clients=10, rate=40)
    scraped: list[float] = []
    async with talking.running(), asking.running():
        await asyncio.sleep(0.5)
        before = gateway.workers
        gateway.signal(signal.SIGUSR2)
        gateway.write_config(configuration(sessions={"ttl_s": 4321}))
        gateway.signal(signal.SIGHUP)

        async def replaced() -> None:
            while gateway.log.count(REPLACED) < 1 or "was reloaded" not in gateway.log:
                scraped.append(await metric(gateway, "requests_total"))
                assert (await ask(gateway.url, "/health/ready")).status == 200
                await asyncio.sleep(0.05)

        await asyncio.wait_for(replaced(), 150)  # forty clients and a start share the machine
        assert len(set(gateway.workers) - set(before)) == WORKERS
    assert (talking.failed, asking.failed) == (0, 0), gateway.log
    assert talking.statuses[200] > 60
    assert scraped == sorted(scraped), "a counter went backwards"
    settings = {(await ask(gateway.url, "/admin/v1/config")).json["settings"]["sessions"]["ttl_s"] for _ in range(6)}
    assert settings == {4321}
    answered = [*talking.ids, *asking.ids]
    assert await metric(gateway, "requests_total", model="talk") == len(talking.ids)
    assert await metric(gateway, "requests_total", model="chat") == len(asking.ids)
    assert await asyncio.to_thread(gateway.stop) == 0
    assert complete_ratio(answered, [record["id"] for record in gateway.records]) == 1.0
    gateway.assert_log_is_clean()


async def test_a_killed_worker_takes_its_own_requests_with_it_and_no_others(gateway: Gateway) -> None:
    assert set(await asked_of_all(gateway)) == {200}
    known, failed = await metric(gateway, "requests_total"), await metric(gateway, "worker_ends_total", how="failed")

    async def stream() -> bool:
        """Whether it came to its end."""
        async with connect(gateway.url) as wire:
            await wire.send(chat_request("long", stream=True))
            try:
                reply = await wire.reply()
            except (OSError, EOFError):  # before its first word
                return False
            return reply.complete and reply.body.endswith(b"data: [DONE]\n\n")

    streams = [asyncio.create_task(stream()) for _ in range(20)]
    async with asyncio.timeout(10):
        while await metric(gateway, "in_flight", model="long") < len(streams):  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.02)
    first, second = gateway.workers
    os.kill(first, signal.SIGKILL)
    whole = sum(await asyncio.gather(*streams))
    assert 0 < whole < len(streams), "those of one worker are cut, those of the other are not"
    await eventually(lambda: len(gateway.workers) == WORKERS, "another takes its place")
    assert second in gateway.workers
    assert set(await asked_of_all(gateway)) == {200}
    assert await metric(gateway, "requests_total") == known + whole + ASKED
    assert await metric(gateway, "worker_ends_total", how="failed") == failed + 1
    assert "was ended by SIGKILL" in gateway.log


async def test_what_is_wrong_is_refused_by_all_and_does_not_reach_a_worker_that_begins(gateway: Gateway) -> None:
    gateway.write_config(configuration(modles={}))
    gateway.signal(signal.SIGHUP)
    await eventually(lambda: gateway.log.count("the old one stays") == 1, "the reload is refused")
    gateway.signal(signal.SIGUSR2)
    await eventually(lambda: gateway.log.count("the old one stays") == 2, "the restart is refused")
    before = gateway.workers
    os.kill(before[0], signal.SIGKILL)  # what takes its place has the configuration that holds, not the one that is written
    await eventually(lambda: len(set(gateway.workers) - set(before)) == 1, "another takes its place")
    assert set(await asked_of_all(gateway)) == {200}
    gateway.write_config(configuration(server={"workers": WORKERS + 1}))
    gateway.signal(signal.SIGUSR2)
    await eventually(lambda: "server.workers: a change (2 → 3) needs a restart" in gateway.log, "it says what needs a restart")
    gateway.write_config(configuration())


async def test_a_stream_is_taken_up_again_wherever_it_lies(gateway: Gateway) -> None:
    whole = (await ask(gateway.url, CHAT, chat("talk", stream=True), headers=RESUMABLE)).body
    begun = [await left_after(gateway, 2) for _ in range(4)]

    async def resumed(request_id: str) -> bytes:
        return (await ask(gateway.url, f"/v1/streams/{request_id}", headers={"last-event-id": "2"})).body

    # Twice each, at once: some of them from the worker that makes it, some from the other.
    rests = await asyncio.gather(*(resumed(request_id) for request_id, _ in begun for _ in range(2)))
    assert {ids(rest)[-1] for rest in rests} == {ids(whole)[-1]}
    for (request_id, first), rest in zip(begun, rests[::2], strict=True):
        assert ids(first + rest) == ids(whole)
        for number in range(3):
            other = await ask(gateway.url, f"/v1/streams/{request_id}", headers={"x-user-id": "somebody"})
            assert (number, other.status) == (number, 404)
        assert (await ask(gateway.url, f"/v1/streams/{request_id}", headers={"last-event-id": "999"})).status == 400
    gateway.signal(signal.SIGUSR2)
    await eventually(lambda: REPLACED in gateway.log, REPLACED, 40)
    for request_id, first in begun:  # those who made them are gone, and have handed them on
        assert ids(first + await resumed(request_id)) == ids(whole)


async def left_after(gateway: Gateway, number: int) -> tuple[str, bytes]:
    """A stream of which so many events were taken; its id, and they."""
    async with connect(gateway.url) as wire:
        body = b'{"model":"talk","stream":true,"messages":[{"role":"user","content":"Who are you?"}]}'
        await wire.send(request("POST", CHAT, body, RESUMABLE))
        head = await wire.head()
        seen = b""
        while not ids(seen) or ids(seen)[-1] < number:
            seen += await wire.piece()
    return head.headers["x-request-id"], cut(seen, number)


async def test_operators_see_one_gateway(gateway: Gateway) -> None:
    assert set(await asked_of_all(gateway, 40, "broken")) == {200}, "the fixed reply"
    seen = [(await ask(gateway.url, "/admin/v1/routes")).json for _ in range(4)]
    breakers = {deployment["id"]: deployment["breaker"] for view in seen for route in view["data"] for deployment in route["deployments"]}
    assert breakers["broken/small"] == "open"
    streams = [asyncio.create_task(ask(gateway.url, CHAT, chat("long", stream=True))) for _ in range(10)]
    async with asyncio.timeout(10):
        while await metric(gateway, "in_flight", model="long") < len(streams):  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.02)
    routes = {route["name"]: route for route in (await ask(gateway.url, "/admin/v1/routes")).json["data"]}
    assert routes["long"]["deployments"][0]["in_flight"] == len(streams)
    await asyncio.gather(*streams)
    alerts = [(await ask(gateway.url, "/admin/v1/alerts")).json for _ in range(4)]
    assert all(view == alerts[0] for view in alerts), "each worker tells of the same"
    complete = {row["slo"]: row for row in (await ask(gateway.url, "/admin/v1/slo")).json["data"]}["records_complete"]
    assert complete["met"] in (True, None)
    for _ in range(4):
        reply = await ask(gateway.url, "/admin/v1/users/somebody", method="DELETE")
        assert (reply.status, reply.json["records"]) == (200, 0)
    assert (await ask(gateway.url, CHAT, chat("sim/other"))).status == 200  # one of them meets that model
    decided = {"mode": "drain", "force": True}
    for mode in (*[decided] * 4, *[{"mode": "auto"}] * 4):
        assert (await ask(gateway.url, "/admin/v1/deployments/sim/other", mode, method="PUT")).status == 200
    for _ in range(8):  # what one has just answered is rated at another
        answered = (await ask(gateway.url, CHAT, chat())).headers["x-request-id"]
        assert (await ask(gateway.url, "/v1/feedback", {"request_id": answered, "score": 5})).status == 200


async def test_workers_whose_supervisor_is_killed_end_what_they_have_and_leave_nothing(gateway_of_its_own: Gateway, tmp_path: Path) -> None:
    gateway, shared = gateway_of_its_own, tmp_path / "tmp"
    assert len(list(shared.glob("agent-gateway-*/shared.db"))) == 1
    streams = [asyncio.create_task(ask(gateway.url, CHAT, chat("long", stream=True))) for _ in range(6)]
    async with asyncio.timeout(10):
        while await metric(gateway, "in_flight", model="long") < len(streams):  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.02)
    gateway.signal(signal.SIGKILL)
    assert all(reply.complete and reply.body.endswith(b"data: [DONE]\n\n") for reply in await asyncio.gather(*streams))
    await eventually(lambda: len(gateway.records) == len(streams), "what they answered is recorded")
    await eventually(lambda: not list(shared.iterdir()), "what they shared is gone with them")
    assert await asyncio.to_thread(gateway.wait) == -signal.SIGKILL
    gateway.assert_log_is_clean()


@pytest.mark.parametrize(
    ("section", "more"), [("sessions", {}), ("server", {"drain_timeout_s": 14})], ids=["by a reload", "by being replaced once more"]
)
async def test_a_restart_that_fails_half_way_leaves_no_worker_with_what_is_new(
    gateway: Gateway, section: str, more: dict[str, Any]
) -> None:
    """The second new worker is killed before it serves."""
    new = configuration()
    new["sessions"] = {"ttl_s": 4321}
    new[section] = {**new[section], **more}
    told = gateway.log.count("the old one holds")
    asking = Load(gateway.url, chat_request(), clients=4, rate=20)
    async with asking.running():
        while await metric(gateway, "workers", state="serving") < WORKERS:  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.05)
        known = set(gateway.workers)
        gateway.write_config(new)
        gateway.signal(signal.SIGUSR2)
        started: set[int] = set()

        async def half_way() -> int:
            """The one that is to follow the second; beside it there is the first that has come new."""
            while True:
                for worker in set(gateway.workers) - started:
                    started.add(worker)
                    if len(started) == WORKERS + 2:
                        return worker
                await asyncio.sleep(0.01)

        os.kill(await asyncio.wait_for(half_way(), 30), signal.SIGKILL)
        await eventually(lambda: gateway.log.count("the old one holds") == told + 1, "it is taken back", 30)
        await eventually(lambda: len(gateway.workers) == WORKERS, "nobody else is left", 30)
        assert len(set(gateway.workers) & known) == 1, "the one that was not replaced has served all the time"
        assert await metric(gateway, "worker_configurations") == 1
        replies = [await ask(gateway.url, "/admin/v1/config") for _ in range(ASKED)]
        assert len({reply.body for reply in replies}) == 1
        assert replies[0].json["settings"]["sessions"]["ttl_s"] != 4321
    assert asking.failed == 0, gateway.log
    gateway.write_config(configuration())


async def test_a_port_that_is_taken_is_said_so(gateway: Gateway, tmp_path: Path) -> None:
    command = [str(COMMAND), "serve", "--config", str(gateway.config_file), "--port", str(gateway.port)]
    done = await asyncio.to_thread(subprocess.run, command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert f"port {gateway.port} is in use: stop what listens there" in done.stderr
