"""What-if replays of a live gateway: whichever worker is asked, they are the same; none outlives its gateway, and none tells a secret."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent_gateway.record.row import AttemptRecord
from tests.kit.client import CHAT, Reply, ask, chat, connect, request
from tests.kit.eventually import eventually
from tests.kit.gateway import Gateway
from tests.kit.records import keep_records
from tests.rehearsal.test_traffic import record

ADMIN_KEY = "sk-admin-0123456789abcdef"
ADMIN = {"authorization": f"Bearer {ADMIN_KEY}"}
SECRETS = {"PROVIDER_KEY": "kept-from-everybody-0123456789", "OTHER_TOKEN": "of-another-program-0123456789"}
#: So many that a replay of them does not end by itself while a test looks.
REQUESTS = 6_000
#: So many that every worker has some.
ASKED = 12
#: For a process that a busy machine has to start (s).
PATIENCE_S = 60.0
ATTEMPT = AttemptRecord("sim/small", 1.0, 11.0, 20.0, None, 901.0, "success", 200)

Launch = Callable[..., Gateway]


def configuration(**sections: Any) -> dict[str, Any]:
    return {
        "auth": {"admin_key": ADMIN_KEY},
        "state": {"database": "sqlite:///agent-gateway.db"},
        "providers": {
            "sim": {"kind": "simulated", "ttft_ms": 5, "tokens_per_s": 2000, "output_tokens": 20, "jitter": 0},
            "far": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key": "${PROVIDER_KEY}"},
        },
        "models": {"chat": {"deployments": [{"provider": "sim", "model": "small", "price": {"input": 1, "output": 1}}]}},
        **sections,
    }


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    with ExitStack() as stack:

        def start(*, requests: int, **sections: Any) -> Gateway:
            since_ms = int((time.time() - 3000) * 1000)
            records = [record(number, [ATTEMPT], deployment="sim/small", started_ms=since_ms + number * 100) for number in range(requests)]
            asyncio.run(keep_records(records, f"sqlite:///{tmp_path}/agent-gateway.db"))
            gateway = Gateway(tmp_path, configuration(**sections), "fast lane", env=SECRETS)
            stack.callback(gateway.close)
            return gateway.start()

        yield start


def wanted(*texts: str, **more: Any) -> dict[str, Any]:
    return {"configurations": [{"name": name, "yaml": text} for name, text in zip("AB", texts, strict=False)], **more}


async def admin(gateway: Gateway, method: str, path: str, body: Any = None) -> Reply:
    return await ask(gateway.url, f"/admin/v1/{path}", body, method=method, headers=ADMIN)


async def begun(gateway: Gateway) -> str:
    """The id of one that goes on for long."""
    draft = (await admin(gateway, "GET", "config?format=yaml")).content.decode()
    reply = await admin(gateway, "POST", "replays", wanted(draft, runs=10))
    assert reply.status == 202, reply
    replay_id: str = reply.json["id"]
    return replay_id


async def from_all(gateway: Gateway, method: str, path: str, body: Any = None) -> list[tuple[int, Any]]:
    """Status and answer, over connections that are open at the same time."""
    data = b"" if body is None else msgspec.json.encode(body)
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(connect(gateway.url)) for _ in range(ASKED)]
        for wire in wires:
            await wire.send(request(method, f"/admin/v1/{path}", data, headers={**ADMIN, "content-type": "application/json"}))
        replies = [await wire.reply() for wire in wires]
    return [(reply.status, reply.json) for reply in replies]


def makers(gateway: Gateway) -> list[int]:
    """Processes that make a replay for it, or for its workers."""
    parents = [gateway.process.pid, *gateway.workers]
    told = subprocess.run(["pgrep", "-f", "-P", ",".join(map(str, parents)), "replay_process"], capture_output=True, text=True, check=False)
    return [int(line) for line in told.stdout.split()]


def is_gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    state = subprocess.run(["ps", "-o", "state=", "-p", str(process)], capture_output=True, text=True, check=False).stdout
    return state.strip() in ("", "Z")  # whoever takes in orphans may not have looked yet


def test_any_worker_knows_it_and_ends_it(launch: Launch) -> None:
    gateway = launch(requests=REQUESTS, server={"workers": 2})

    async def journey() -> None:
        draft = (await admin(gateway, "GET", "config?format=yaml")).content.decode()
        told = await from_all(gateway, "POST", "replays", wanted(draft, runs=10))
        ((_, started),) = [each for each in told if each[0] == 202]
        assert sorted(status for status, _ in told) == [202] + [409] * (ASKED - 1), "of all that ask at once, one has it"
        replay_id = started["id"]
        assert {(status, told["state"], told["names"][0]) for status, told in await from_all(gateway, "GET", f"replays/{replay_id}")} == {
            (200, "running", "A")
        }
        refused = await from_all(gateway, "POST", "replays", wanted("providers: {sim: {kind: simulated}}"))
        assert {status for status, _ in refused} == {409}
        assert all(replay_id in told["error"]["message"] for _, told in refused)
        (process,) = makers(gateway)
        stopped = await from_all(gateway, "DELETE", f"replays/{replay_id}")
        assert {(status, told["state"]) for status, told in stopped} == {(200, "stopped")}
        await eventually(lambda: is_gone(process), "the process of a replay that was stopped has ended")
        again = await begun(gateway)
        (process,) = makers(gateway)
        (owner,) = [worker for worker in gateway.workers if process in _children(worker)]
        os.kill(owner, 9)
        await eventually(lambda: is_gone(process), "the process of a replay has ended with its worker")
        listed = (await admin(gateway, "GET", "replays")).json["data"]
        assert [each["id"] for each in listed] == [again, replay_id]

    asyncio.run(journey())


def _children(process: int) -> list[int]:
    told = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True, check=False).stdout
    return [int(line) for line in told.split()]


def test_it_ends_with_the_gateway(launch: Launch) -> None:
    gateway = launch(requests=REQUESTS)
    first = asyncio.run(begun(gateway))
    (process,) = makers(gateway)
    assert gateway.stop() == 0
    assert is_gone(process)
    gateway.start()

    async def told() -> Any:
        return (await admin(gateway, "GET", f"replays/{first}")).json

    known = asyncio.run(told())
    assert (known["state"], known["error"]["code"]) == ("failed", "gateway_ended")
    asyncio.run(begun(gateway))
    (process,) = makers(gateway)
    gateway.kill()
    asyncio.run(eventually(lambda: is_gone(process), "the process of a replay has ended with its gateway"))
    gateway.assert_log_is_clean()


def test_live_traffic_is_replayed_and_no_secret_is_told(launch: Launch) -> None:
    gateway = launch(requests=1, auth={"admin_key": ADMIN_KEY, "audit_key": "signs-the-log-0123456789"})

    async def journey() -> list[bytes]:
        for _ in range(10):
            assert (await ask(gateway.url, CHAT, chat(), headers=ADMIN)).status == 200
        await eventually(lambda: len(gateway.records) == 11, "their records, which are written behind the answers")
        said = [await admin(gateway, "GET", "config?format=yaml")]
        draft = said[0].content.decode()
        assert "${PROVIDER_KEY}" in draft
        away = draft.replace("provider: sim, model: small", 'provider: far, model: "${OTHER_TOKEN}"')
        assert away != draft
        said.append(await admin(gateway, "POST", "replays", wanted(draft, away, since="10m", runs=1)))
        assert said[-1].status == 202, said[-1]
        path = f"replays/{said[-1].json['id']}"
        until = time.monotonic() + PATIENCE_S
        while (reply := await admin(gateway, "GET", path)).json["state"] == "running":
            assert time.monotonic() < until, reply
            await asyncio.sleep(0.05)
        same, other = reply.json["configurations"]
        assert same["result"]["new"]["all"]["requests"] == 10, "the one before is out of its time"
        assert [each["deployment"] for each in other["result"]["assumed"]] == ["far/${OTHER_TOKEN}"]
        said.append(reply)
        wrong = wanted(away.replace("kind: openai", "kind: simulated"), "limits: ${OTHER_TOKEN}")
        said.append(await admin(gateway, "POST", "replays", wrong))
        assert said[-1].status == 400
        said += [await admin(gateway, "GET", path) for path in ("replays", "audit", "config")]
        return [each.content for each in said]

    told = asyncio.run(journey())
    assert gateway.stop() == 0
    gateway.assert_log_is_clean()
    kept = [path.read_bytes() for path in gateway.folder.iterdir() if path.is_file() and path != gateway.config_file]
    for secret in (*SECRETS.values(), "signs-the-log-0123456789"):
        assert not any(secret.encode() in each for each in (*told, *kept))
