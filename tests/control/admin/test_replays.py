"""What-if replays as an operator asks for them: each in a process of its own, on the records of the gateway that is asked."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import time
from typing import Any

import msgspec
import pytest

from agent_gateway.cli import replay_process
from agent_gateway.control import replays
from agent_gateway.control.replay_order import Draft
from agent_gateway.control.source import parse
from agent_gateway.control.yaml_text import yaml_of
from agent_gateway.core.admin import AdminAsk
from agent_gateway.core.errors import BadRequest, Conflict, Forbidden, NotFound, StoreDown
from agent_gateway.core.streamed import Streamed
from agent_gateway.record.row import AttemptRecord
from tests.control.admin.conftest import AUDITOR, CLOCK, NOW, SECRETS, Stage
from tests.kit.eventually import eventually
from tests.kit.records import keep_records
from tests.rehearsal.test_traffic import record

#: By what a test waits for a process that a busy machine has to start (s).
PATIENCE_S = 60.0
REQUESTS = 40
ATTEMPT = AttemptRecord("sim/small", 1.0, 11.0, 20.0, None, 901.0, "success", 200)


async def drafted(stage: Stage) -> str:
    told = await stage.api.answer(AdminAsk("req_1", "GET", "config", {"format": "yaml"}, b"", AUDITOR, "10.0.0.1"))
    assert isinstance(told, Streamed)
    assert told.media == "application/yaml"
    return b"".join([piece async for piece in told.pieces]).decode()


def wanted(*drafts: str, **more: Any) -> dict[str, Any]:
    return {"configurations": [{"name": name, "yaml": yaml} for name, yaml in zip("AB", drafts, strict=False)], "runs": 1, **more}


async def write_records(stage: Stage, count: int = REQUESTS) -> None:
    url = (await stage.get("config"))["settings"]["state"]["database"]
    await keep_records([record(number, [ATTEMPT], deployment="sim/small") for number in range(count)], url)


async def ended(stage: Stage, replay_id: str) -> Any:
    until = time.monotonic() + PATIENCE_S
    while (told := await stage.get(f"replays/{replay_id}"))["state"] == "running":
        assert time.monotonic() < until, told
        await asyncio.sleep(0.05)
    return told


async def test_traffic_is_replayed_under_two_configurations_beside_the_running_one(stage: Stage) -> None:
    await write_records(stage)
    draft = await drafted(stage)
    assert not any(secret in draft for secret in SECRETS)
    dearer = parse(draft, "draft")
    dearer["models"]["chat"]["deployments"][0]["price"] = {"input": 10, "output": 20}
    dearer["models"]["chat"]["deployments"].append({"provider": "local", "model": "${OTHER_TOKEN}", "price": {"input": 10, "output": 20}})
    status, begun = await stage.ask("POST", "replays", wanted(draft, yaml_of(dearer), seed=7))
    assert (status, begun["state"], begun["names"], begun["by"], begun["ended_at"]) == (202, "running", ["A", "B"], "admin key", None)
    told = await ended(stage, begun["id"])
    assert (told["state"], told["progress"], told["error"], told["seed"]) == ("done", 1.0, None, 7)
    same, other = told["configurations"]
    assert (same["name"], same["yaml"]) == ("A", draft)
    result = same["result"]
    assert result["recorded"]["all"]["requests"] == result["new"]["all"]["requests"] == REQUESTS
    assert result["new"] == result["replayed"] == other["result"]["replayed"]
    assert other["result"]["new"]["all"]["cost_usd"] == pytest.approx(10 * result["new"]["all"]["cost_usd"])
    assert any(note.startswith("local/${OTHER_TOKEN}: ") for note in other["result"]["notes"])
    assert any("Budgets begin unspent" in note for note in result["notes"])
    assert not any(secret in str(told) for secret in SECRETS)
    assert [each["id"] for each in (await stage.get("replays"))["data"]] == [begun["id"]]
    (entry,) = await stage.entries()
    assert (entry["action"], entry["target"], entry["outcome"]) == ("replays.start", begun["id"], "allowed")
    assert entry["after"]["configurations"] == ["A", "B"]


async def test_what_is_wrong_with_a_configuration_is_told_as_check_tells_it(stage: Stage) -> None:
    with pytest.raises(BadRequest) as caught:
        await stage.ask("POST", "replays", wanted("providers: {sim: {kind: simulatd}}\nmodles: {}", "a: [\n"))
    first, second, third = caught.value.message.splitlines()
    assert first.startswith("configurations[0].yaml: modles: is not a setting; did you mean models?")
    assert second.startswith("configurations[0].yaml: providers.sim.kind: 'simulatd' is not one of")
    assert third.startswith("configurations[1].yaml: B:2:1: is not YAML")
    assert caught.value.param == "configurations[0].yaml"
    with pytest.raises(BadRequest) as caught:  # a text of another kind
        await stage.ask("POST", "replays", wanted("\n".join(f"setting_{number}_{'x' * 300}: 1" for number in range(500))))
    *told, last = caught.value.message.splitlines()
    assert len(told) == replay_process.ERRORS_MAX
    assert all(len(line) < replay_process.ERROR_MAX_CHARS + 40 for line in told)
    assert re.fullmatch(r"configurations\[0\]\.yaml: 4\d\d more mistakes are not told; mend these first", last)
    assert (await stage.get("replays"))["data"] == []
    *_, failed, begun = await stage.entries()
    assert (begun["outcome"], failed["outcome"], failed["after"]) == ("allowed", "failed", {"error": "bad_request"})


async def test_what_is_wrong_with_the_question_is_told(stage: Stage) -> None:
    for body, param in (
        (wanted(), "configurations"),
        ({"configurations": [{"name": "A", "yaml": "a"}] * 2}, "configurations[1].name"),
        ({"configurations": [{"name": "A\n", "yaml": "a"}]}, "configurations[0].name"),
        (wanted("a", since="yesterday"), "since"),
        (wanted("a", since="1h", until="2h"), "until"),
        (wanted("a", since="2100-01-01"), "since"),
        (wanted("a", seed=-1), "seed"),
        (wanted("a", runs=11), "runs"),
    ):
        with pytest.raises(BadRequest) as caught:
            await stage.ask("POST", "replays", body)
        assert caught.value.param == param
    for method, path in (("GET", "replays/replay_0"), ("DELETE", "replays/replay_0")):
        with pytest.raises(NotFound, match="There is no replay 'replay_0'"):
            await stage.ask(method, path)


async def test_a_time_without_records_is_a_replay_that_failed(stage: Stage) -> None:
    _, begun = await stage.ask("POST", "replays", wanted(await drafted(stage), since="10m"))
    told = await ended(stage, begun["id"])
    assert (told["state"], told["error"]["code"]) == ("failed", "no_records")
    assert told["error"]["message"].startswith("since: no request from ")
    assert told["configurations"][0]["result"] is None


async def test_one_runs_at_a_time_and_can_be_stopped(stage: Stage) -> None:
    await write_records(stage, 20_000)
    draft = await drafted(stage)
    asked = wanted(draft, since="2020-01-01", until="2030-01-01", runs=10)
    told = await asyncio.gather(*(stage.ask("POST", "replays", asked) for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in told if isinstance(each, BaseException)] == [Conflict] * 2
    ((_, begun),) = [each for each in told if not isinstance(each, BaseException)]
    with pytest.raises(Conflict, match=f"The replay {begun['id']}, started by admin key, is running"):
        await stage.ask("POST", "replays", asked)
    for method, path in (("POST", "replays"), ("DELETE", f"replays/{begun['id']}")):
        with pytest.raises(Forbidden):
            await stage.ask(method, path, asked if method == "POST" else b"", key=AUDITOR)
    (process,) = _children()
    assert os.getpriority(os.PRIO_PROCESS, process) > os.getpriority(os.PRIO_PROCESS, 0)
    status, told = await stage.ask("DELETE", f"replays/{begun['id']}")
    assert (status, told["state"]) == (200, "stopped")
    assert told["configurations"][0]["yaml"] == draft
    assert _children() == []
    status, again = await stage.ask("DELETE", f"replays/{begun['id']}")
    assert (status, again) == (200, told)
    assert [entry["action"] for entry in await stage.entries()].count("replays.stop") == 1


async def test_of_two_processes_that_start_one_at_the_same_moment_one_does(stage: Stage) -> None:
    await write_records(stage)
    drafts = [Draft("A", await drafted(stage))]
    another = replays.Replays(lambda: stage.configuration, os.environ, {}, stage.store, CLOCK)
    asked = replays.Wanted(configurations=drafts, since=NOW - 3600, until=NOW, seed=0, runs=1)
    starts = [each.start(f"replay_{number}", asked, "ann") for number, each in enumerate((stage.replays, another))]
    told = await asyncio.gather(*starts, return_exceptions=True)
    (begun,) = [each for each in told if isinstance(each, replays.Replay)]
    (refused,) = [each for each in told if isinstance(each, Conflict)]
    assert refused.message.startswith(f"The replay {begun.id}, started by ann, is running, and one at a time may.")
    await ended(stage, begun.id)
    await another.close(PATIENCE_S)
    assert (await stage.ask("POST", "replays", wanted(drafts[0].yaml)))[0] == 202, "the next one may"


async def test_who_sees_that_one_has_ended_may_start_the_next(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the store takes for whatever is left to be kept."""
    seen: list[tuple[str, bool]] = []
    keep = type(stage.store).keep_value

    async def looked_at(store: Any, kind: str, name: str, body: bytes, **more: Any) -> None:
        if kind == "replay":
            is_free = await store.find_value("replay_slot", "the only one", NOW) is None
            seen.append((msgspec.json.decode(body)["state"], is_free))
        await keep(store, kind, name, body, **more)

    monkeypatch.setattr(type(stage.store), "keep_value", looked_at)
    _, begun = await stage.ask("POST", "replays", wanted(await drafted(stage)))
    await ended(stage, begun["id"])
    assert (seen[0], seen[-1]) == (("running", False), ("failed", True))


async def test_one_that_another_has_overtaken_ends(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await write_records(stage, 20_000)
    _, begun = await stage.ask("POST", "replays", wanted(await drafted(stage), since="2020-01-01", until="2030-01-01", runs=10))
    body = msgspec.json.encode({"id": "replay_next", "by": "ann"})
    monkeypatch.setattr(replays, "BEAT_S", -1.0)
    later = NOW + replays.SILENT_MAX_S + 10
    assert await stage.store.claim_value("replay_slot", "the only one", body, now=later, expires_at=later + replays.SILENT_MAX_S)
    told = await ended(stage, begun["id"])
    assert (told["state"], told["error"]["code"]) == ("failed", "overtaken")
    assert await stage.store.find_value("replay_slot", "the only one", NOW) == body, "the other goes on"
    assert _children() == []


def _children() -> list[int]:
    """Processes that make a replay for this one."""
    done = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "replay_process"], capture_output=True, text=True, check=False)
    return [int(line) for line in done.stdout.split()]


async def test_a_bomb_ends_its_own_process_only(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "BEGIN_MAX_S", 3.0)
    levels = [f"l{depth}: &l{depth} [{', '.join([f'*l{depth - 1}'] * 30)}]" for depth in range(1, 9)]
    bomb = "\n".join(["providers: {sim: {kind: simulated}}", "l0: &l0 lol", *levels])
    with pytest.raises(BadRequest, match=r"memory|were not read within"):
        await stage.ask("POST", "replays", wanted(bomb))
    assert _children() == []
    assert (await stage.get("replays"))["data"] == []


def elsewhere(replay_id: str, silent_s: float) -> replays.Replay:
    """One that another process makes."""
    return replays.Replay(
        id=replay_id,
        started_at=NOW - 60,
        heard_at=NOW - silent_s,
        by="ann",
        names=["A"],
        since=NOW - 3600,
        until=NOW,
        seed=0,
        runs=3,
    )


async def test_one_whose_configurations_are_still_read_elsewhere_is_not_given_up(stage: Stage) -> None:
    one = elsewhere("replay_slow", replays.BEGIN_MAX_S)
    await stage.store.keep_value("replay", one.id, msgspec.json.encode(one), now=NOW)
    body = msgspec.json.encode({"id": one.id, "by": one.by})
    assert await stage.store.claim_value("replay_slot", "the only one", body, now=NOW, expires_at=one.heard_at + replays.SILENT_MAX_S)
    assert (await stage.get(f"replays/{one.id}"))["state"] == "running"
    with pytest.raises(Conflict, match="The replay replay_slow, started by ann, is running"):
        await stage.ask("POST", "replays", wanted("a"))


async def test_a_gateway_that_ends_while_its_store_is_down_does_not_wait_for_it(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await write_records(stage, 20_000)
    await stage.ask("POST", "replays", wanted(await drafted(stage), since="2020-01-01", until="2030-01-01", runs=10))
    (process,) = _children()

    async def down(*_: Any, **__: Any) -> None:
        raise StoreDown("The database cannot be reached.")

    monkeypatch.setattr(type(stage.store), "keep_value", down)
    async with asyncio.timeout(PATIENCE_S):
        await stage.replays.close(0.2)
    await eventually(lambda: process not in _children(), "its process has ended")


async def test_one_whose_gateway_was_killed_has_failed_and_stands_in_nobodys_way(stage: Stage) -> None:
    left = elsewhere("replay_left", replays.SILENT_MAX_S + 1)
    await stage.store.keep_value("replay", left.id, msgspec.json.encode(left), now=NOW)
    told = await stage.get(f"replays/{left.id}")
    assert (told["state"], told["error"]["code"], told["configurations"]) == ("failed", "gateway_ended", [])
    status, begun = await stage.ask("POST", "replays", wanted(await drafted(stage)))
    assert status == 202
    await ended(stage, begun["id"])


async def test_only_so_many_are_kept(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "KEPT_MAX", 1)
    draft = await drafted(stage)
    for _ in range(2):
        _, begun = await stage.ask("POST", "replays", wanted(draft))
        await ended(stage, begun["id"])
    until = time.monotonic() + PATIENCE_S
    while len(kept := (await stage.get("replays"))["data"]) > 1:
        assert time.monotonic() < until, kept
        await asyncio.sleep(0.02)
    assert len(await stage.store.list_values("replay_content", 0)) == len(kept) == 1
