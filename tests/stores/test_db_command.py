"""`agent-gateway db`, on an SQLite file and on PostgreSQL."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import pytest

from agent_gateway.cli.main import main
from agent_gateway.stores.revision import HEAD
from tests.kit.servers import Postgres, shared
from tests.stores.backends.test_sqlite import make_old_file
from tests.stores.test_faults import empty_database


def configured(folder: Path, database: str) -> str:
    file = folder / "gateway.yaml"
    deployments = [{"provider": "sim", "model": "small"}]
    models = {"m": {"deployments": deployments}}
    content = {"state": {"database": database}, "providers": {"sim": {"kind": "simulated"}}, "models": models}
    file.write_bytes(msgspec.json.encode(content))
    return str(file)


def db(action: str, config: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, object]]:
    status = main(["db", action, "--config", config, "--json"])
    return status, msgspec.json.decode(capsys.readouterr().out)


def test_a_file_that_is_not_there_is_looked_for_and_then_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new.db"
    config = configured(tmp_path, f"sqlite:///{path}")
    status, said = db("status", config, capsys)
    assert (status, said["schema"], said["up_to_date"], path.exists()) == (1, None, False, False)
    status, said = db("upgrade", config, capsys)
    assert (status, said["before"], said["schema"]) == (0, None, HEAD)
    assert db("status", config, capsys) == (0, {**said, "before": HEAD})
    assert db("upgrade", config, capsys) == (0, {**said, "before": HEAD})


def test_a_file_of_the_time_before_alembic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "data" / "old.db"
    make_old_file(path)
    config = configured(tmp_path, f"sqlite:///{path}")
    assert main(["db", "status", "--config", config]) == 1
    assert "has schema 0001; the newest is" in capsys.readouterr().out
    assert main(["db", "upgrade", "--config", config]) == 0
    assert "it had 0001" in capsys.readouterr().out


def test_a_later_schema_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "later.db"
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA user_version = 7")
    database.close()
    config = configured(tmp_path, f"sqlite:///{path}")
    for action in ("status", "upgrade"):
        assert main(["db", action, "--config", config]) == 1
        assert "a later version of agent-gateway wrote it" in capsys.readouterr().err


def test_in_memory_there_is_nothing_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["db", "upgrade", "--config", configured(tmp_path, "sqlite:///:memory:")]) == 1
    assert "has no schema" in capsys.readouterr().err


async def make_database(server: Postgres) -> str:
    return await empty_database(server, "for_the_command")


def test_postgres(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import asyncio

    url = asyncio.run(make_database(shared(Postgres, request.config))).replace("gateway@", "gateway:secret@")
    config = configured(tmp_path, url)
    assert db("status", config, capsys)[0] == 1
    status, said = db("upgrade", config, capsys)
    assert (status, said["before"], said["schema"]) == (0, None, HEAD)
    assert "secret" not in str(said["database"])
    assert db("status", config, capsys)[0] == 0
