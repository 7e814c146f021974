"""`agent-gateway replay`, as it is typed: on a file of records as the gateway writes it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from agent_gateway.cli.main import main
from agent_gateway.core.settings import Budget
from agent_gateway.record.export import PAGE_ROWS
from agent_gateway.record.row import Record
from agent_gateway.stores.base import Key, Team, open_store
from tests.kit.records import keep_records
from tests.rehearsal.hour import BEGINS, CHAT, RECORDED, changed, hour
from tests.stores.stores import fresh_url

Run = Callable[..., tuple[int, str, str]]
DATABASE = "sqlite:///gateway.db"


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """The last of them is a few minutes old, and there are more than are read at once."""
    late_ms = int((time.time() - BEGINS - 3900) * 1000)
    found = [record._replace(started_ms=record.started_ms + late_ms) for record in hour(RECORDED, per_s=0.2)]
    assert len(found) > PAGE_ROWS
    return found


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command: status, output, error output."""
    monkeypatch.chdir(tmp_path)
    put("gateway.yaml", {**RECORDED, "state": {"database": DATABASE}})

    def typed(*words: str) -> tuple[int, str, str]:
        try:
            status = main(words)
        except SystemExit as end:
            status = int(end.code or 0)
        told = capsys.readouterr()
        return status, told.out, told.err

    return typed


def put(name: str, raw: object) -> None:
    Path(name).write_bytes(msgspec.json.encode(raw))  # YAML too


def write(records: list[Record], url: str = DATABASE) -> None:
    asyncio.run(keep_records(records, url))


def test_a_cheaper_configuration_is_told_to_be_so(run: Run, records: list[Record]) -> None:
    write(records)
    put("new.yaml", changed(strategy="priority", deployments=[CHAT[1], CHAT[0]]))
    status, out, err = run("replay", "--config", "new.yaml", "--since", "2h", "--runs", "1", "--json")
    assert (status, err) == (0, "")
    told = msgspec.json.decode(out)
    recorded, replayed, new = (told[column]["all"] for column in ("recorded", "replayed", "new"))
    assert recorded["requests"] == replayed["requests"] == new["requests"] == len(records)
    assert recorded["cost_usd"] == pytest.approx(sum(record.cost_usd or 0.0 for record in records))
    assert new["cost_usd"] < replayed["cost_usd"] < 1.1 * recorded["cost_usd"]
    assert told["recorded"]["models"].keys() == {"chat", "small"}
    assert any(note.startswith("Replaying the recorded configuration misses") for note in told["notes"])
    assert (
        run("replay", "--config", "new.yaml", "--since", "2h", "--runs", "1", "--json")[1].split('"notes"')[0].split('"left_out"')[1]
        == (out.split('"notes"')[0].split('"left_out"')[1])
    )


def test_it_is_told_as_a_table(run: Run, records: list[Record]) -> None:
    write(records[:200])
    price = {"input": 1, "output": 4}
    new = changed(deployments=[*CHAT, {"provider": "west", "model": "tiny", "weight": 9, "price": price}])
    put("new.yaml", {**new, "models": {"chat": {**new["models"]["chat"], "fallbacks": []}}})
    status, out, err = run("replay", "--config", "new.yaml", "--since", "2h", "--runs", "2")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split("\t") == ["model", "figure", "recorded", "replayed", "new", "new : replayed"]
    figures = {tuple(line.split("\t")[:2]): line.split("\t")[2:] for line in lines if line.count("\t") == 5}
    assert figures["all", "requests"] == ["200", "200", "200", "+0.0%"]
    assert figures["all", "cost (USD)"][3].startswith("-")
    assert figures["small", "cost (USD)"][2] == "0.0000", "nobody serves it any more"
    assert figures["all", "latency p95"][0].endswith(" s")
    said = "\n".join(lines)
    assert "Models that were asked for, and that new.yaml does not have: small." in said
    assert "west/tiny: " in said
    assert "By chance alone, 2 runs of the new one differ by" in said
    assert "200 requests were recorded without their bodies" in said


def test_keys_and_teams_are_held_to_their_limits(run: Run, records: list[Record]) -> None:
    async def make() -> None:
        store = open_store(DATABASE)
        await store.put_team(Team("poor", "Poor", budget=Budget(usd=0.001, per="total")))
        await store.create_key(Key("k1", "one", team="poor"), b"1" * 32)
        await store.create_key(Key("k2", "two", max_parallel=1_000), b"2" * 32)
        await store.close()

    asyncio.run(make())
    names = ["k1", "k2", "gone"]
    write([record._replace(key_id=names[number % 3]) for number, record in enumerate(records[:300])])
    put("new.yaml", RECORDED)
    told = msgspec.json.decode(run("replay", "--config", "new.yaml", "--since", "2h", "--runs", "1", "--json")[1])
    assert 80 < told["new"]["all"]["refused_by_limits"] < 100
    assert "100 requests came by keys that are not there any more" in "\n".join(told["notes"])


async def test_records_in_postgresql_are_as_good(run: Run, records: list[Record], request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = await fresh_url("postgres", request.config, tmp_path)
    put("gateway.yaml", {**RECORDED, "state": {"database": url}})

    def replayed() -> str:
        write(records[:300], url)
        return run("replay", "--config", "gateway.yaml", "--since", "2h", "--runs", "1", "--json")[1]

    told = msgspec.json.decode(await asyncio.to_thread(replayed))
    assert told["new"]["all"] == told["replayed"]["all"]
    assert told["recorded"]["all"]["requests"] == told["new"]["all"]["requests"] == 300


def test_mistakes_are_answered(run: Run, records: list[Record]) -> None:
    put("new.yaml", RECORDED)
    status, _, err = run("replay", "--config", "new.yaml")
    assert status == 1
    assert err.startswith("--since: no request from ")
    assert err.endswith("is in the database of gateway.yaml; ask for a longer time, or name another configuration by --against\n")
    assert run("replay", "--config", "new.yaml", "--since", "yesterday")[2].startswith("--since: expected a moment such as")
    assert run("replay", "--config", "new.yaml", "--since", "1h", "--until", "2h")[2].startswith("--until: nothing lies from ")
    assert run("replay", "--config", "new.yaml", "--runs", "0")[0] == 2
    assert "required" in run("replay")[2]
    put("wrong.yaml", changed(strategy="balancd"))
    status, _, err = run("replay", "--config", "wrong.yaml")
    assert status == 1
    assert err.startswith("--config: models.chat.strategy: 'balancd' is not one of")
    assert run("replay", "--config", "new.yaml", "--against", "absent.yaml")[2] == "--against: absent.yaml: there is no such file\n"
    Path("gateway.yaml").unlink()
    assert run("replay", "--config", "new.yaml")[2].startswith("--against: configuration: there is none; ")


def test_without_records_it_says_why(run: Run, records: list[Record]) -> None:
    put("new.yaml", {**RECORDED, "state": {"database": "sqlite:///:memory:"}})
    assert "state.database: is in memory" in run("replay", "--config", "new.yaml", "--against", "new.yaml")[2]
    put("off.yaml", {**RECORDED, "state": {"database": "sqlite:///off.db"}, "monitoring": {"mode": "off"}})
    assert "monitoring.mode: is off in off.yaml" in run("replay", "--config", "new.yaml", "--against", "off.yaml")[2]
    write([record._replace(attempts=None, status="error", error_code="bad_request") for record in records[:3]])
    assert "none was decided by a configuration: 3 × bad_request" in run("replay", "--config", "new.yaml", "--since", "2h")[2]
    write([record._replace(id=f"x{record.id}", attempts=None, status="error", error_code="overloaded") for record in records[:3]])
    assert "was answered: nothing tells how deployments behave" in run("replay", "--config", "new.yaml", "--since", "2h")[2]
