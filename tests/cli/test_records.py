"""`agent-gateway records export`, as it is typed: on records in SQLite and in PostgreSQL, to JSON lines and to Parquet."""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet  # type: ignore[import-untyped]
import pytest

from agent_gateway.cli.main import main
from agent_gateway.record import export
from agent_gateway.record.row import COMPRESS_MIN_BYTES, Record
from agent_gateway.record.sinks.database import DatabaseSink
from tests.record.exchanges import WALL, records
from tests.stores.stores import fresh_url

Run = Callable[..., tuple[int, str, str]]
LARGE = b'{"messages": ["' + b"again and " * COMPRESS_MIN_BYTES + b'"]}'


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command: status, output, error output."""
    monkeypatch.chdir(tmp_path)

    def typed(url: str, *words: str) -> tuple[int, str, str]:
        model = {"deployments": [{"provider": "sim", "model": "small", "price": {"input": 1, "output": 1}}]}
        config = {"state": {"database": url}, "providers": {"sim": {"kind": "simulated"}}, "models": {"small": model}}
        (tmp_path / "gateway.yaml").write_bytes(msgspec.json.encode(config))
        try:
            status = main(["records", "export", *words])
        except SystemExit as end:
            status = int(end.code or 0)
        told = capsys.readouterr()
        return status, told.out, told.err

    return typed


@pytest.fixture(params=["sqlite", "postgres"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return await fresh_url(request.param, request.config, tmp_path)


@pytest.fixture
async def kept(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Record]:
    monkeypatch.chdir(tmp_path)
    sink = DatabaseSink.for_url(url)
    sink.keep(36_500)
    batch = [*records(230), *records(1, request=LARGE, answer=b'{"content":"a\nb"}'), *records(1, request=b"{cut", cost_usd=None)]
    sink.write(batch)
    await sink.close(20)
    assert sink.written == len(batch)
    return batch


def lines(text: str) -> list[Any]:
    return [msgspec.json.decode(line) for line in text.splitlines()]


def test_every_record_is_a_line(kept: list[Record], url: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    status, out, _ = run(url)
    told = lines(out)
    assert (status, [line["id"] for line in told]) == (0, [record.id for record in kept])
    assert set(told[0]) == set(Record._fields)
    assert told[0]["request"]["model"] == "chat"
    assert told[-2]["request"] == msgspec.json.decode(LARGE)
    assert (told[-1]["request"], told[-1]["cost_usd"]) == ("{cut", None)


def test_a_time_is_exported(kept: list[Record], url: str, run: Run) -> None:
    assert run(url, "--since", "2030-01-01")[:2] == (0, "")
    assert run(url, "--until", "2025-01-01")[:2] == (0, "")
    at = kept[100].started_ms / 1000
    since = str(msgspec.to_builtins(_moment(at)))
    assert [line["id"] for line in lines(run(url, "--since", since)[1])] == [record.id for record in kept[100:]]
    status, _, told = run(url, "--since", "soon")
    assert (status, told.startswith("since: expected a moment")) == (1, True)
    assert at > WALL


def test_parquet_holds_every_record_in_groups_of_rows(
    kept: list[Record], url: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "GROUP_ROWS", 100)
    file = tmp_path / "records.parquet"
    status, out, _ = run(url, "--format", "parquet", "--output", str(file), "--json")
    assert (status, msgspec.json.decode(out)) == (0, {"records": 232, "output": str(file)})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    parquet = pyarrow.parquet.ParquetFile(file)
    assert parquet.num_row_groups == 3
    rows = parquet.read().to_pylist()
    assert [row["id"] for row in rows] == [record.id for record in kept]
    assert rows[0]["started_ms"].timestamp() * 1000 == pytest.approx(kept[0].started_ms)
    assert (rows[-2]["request"], rows[-1]["cost_usd"], rows[0]["stream"]) == (LARGE, None, False)
    first = kept[0]._asdict() | {"stream": False, "tokens_estimated": False}
    assert {name: value for name, value in rows[0].items() if name != "started_ms"} == {
        name: value for name, value in first.items() if name != "started_ms"
    }


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_file_takes_the_place_of_the_one_before_when_it_is_complete(
    kept: list[Record], url: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "records.jsonl"
    file.write_text("the one before")
    with monkeypatch.context() as broken:
        broken.setattr(export, "json_line", lambda record: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            run(url, "--output", str(file))
    assert file.read_text() == "the one before"
    assert run(url, "--output", str(file))[1] == f"232 records are in {file}.\n"
    assert len(lines(file.read_text())) == 232
    assert list(tmp_path.glob("*.part")) == []


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_what_cannot_be_exported_is_told(url: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, _, told = run(url)
    assert (status, told) == (1, f"there is no file {tmp_path}/gateway.records.db; nothing was ever recorded\n")
    status, _, told = run("sqlite:///:memory:")
    assert (status, "in memory" in told) == (1, True)
    (tmp_path / "gateway.records.db").touch()
    assert run(url, "--format", "parquet")[2] == "--format parquet: needs a file; give --output FILE\n"
    status, _, told = run(url, "--output", f"{tmp_path}/nowhere/records.jsonl")
    assert (status, told) == (1, f"--output: {tmp_path}/nowhere/records.jsonl cannot be written: No such file or directory\n")
    for folder in (".", "..", str(tmp_path), ""):
        status, _, told = run(url, f"--output={folder}")
        assert (status, told) == (1, f"--output: {folder} cannot be written: it is a folder; name a file in it\n")
    assert [file.name for file in tmp_path.glob("*part*")] == []
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    status, _, told = run(url, "--format", "parquet", "--output", f"{tmp_path}/records.parquet")
    assert (status, "in a clone: pip install '.[parquet]'" in told) == (1, True)


def test_a_server_that_is_away_is_told(run: Run) -> None:
    status, _, told = run("postgresql://gateway@127.0.0.1:1/none")
    assert (status, told.startswith("The records cannot be read at the moment.")) == (1, True)


def _moment(at: float) -> Any:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at, UTC)
