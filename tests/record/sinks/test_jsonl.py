"""Records as lines of JSON: whole lines whatever happens to the file, and JSON inside them whatever clients send."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent_gateway.record import shipping
from agent_gateway.record.base import Tools
from agent_gateway.record.row import REQUEST_MAX_BYTES, Record, packed
from agent_gateway.record.sinks.jsonl import JsonlSettings, JsonlSink
from tests.kit.eventually import eventually
from tests.record.exchanges import records


def lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_bytes()
    assert text.endswith(b"\n")
    return [msgspec.json.decode(line) for line in text.splitlines()]


def sink_at(path: Path) -> JsonlSink:
    return JsonlSink(JsonlSettings(path=str(path)), Tools())


async def written(path: Path, *rows: Record) -> list[dict[str, Any]]:
    sink = sink_at(path)
    sink.write(rows)
    await sink.close(10)
    assert (sink.written, sink.dropped) == (len(rows), 0)
    return lines(path)


async def test_a_line_holds_every_column_and_bodies_as_json(tmp_path: Path) -> None:
    (row,) = records(1)
    (line,) = await written(tmp_path / "records.jsonl", row)
    assert list(line) == list(Record._fields)
    assert line["request"]["messages"][0]["role"] == "user"
    assert line["answer"] == {"content": "Hello there", "finish_reason": "stop"}
    assert line["attempts"][0]["deployment"] == "local/small"
    assert line["stream"] is False
    assert [line[name] for name in ("id", "cost_usd", "input_tokens")] == [row.id, row.cost_usd, 30]
    assert (tmp_path / "records.jsonl").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"a":\n  "b",\r\n "c": [1,\n2]}', {"a": "b", "c": [1, 2]}),
        (packed(b'{"a": "%b"}' % (b"x" * 100_000)), {"a": "x" * 100_000}),
        (b'{"a": "' + b"x" * REQUEST_MAX_BYTES, '{"a": "' + "x" * REQUEST_MAX_BYTES),
        (b'{"a":\n"cut', '{"a":\n"cut'),
        (b'{"a": "\xff"}', '{"a": "\ufffd"}'),
        (b"", ""),
        (None, None),
    ],
)
async def test_whatever_was_asked_is_in_one_line(tmp_path: Path, body: bytes | None, shown: object) -> None:
    (line,) = await written(tmp_path / "records.jsonl", records(1)[0]._replace(request=body))
    assert line["request"] == shown


async def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path, old = tmp_path / "logs" / "records.jsonl", tmp_path / "old.jsonl"
    sink = sink_at(path)
    sink.write(records(2))
    await eventually(lambda: sink.written == 2, "two lines")
    path.rename(old)
    sink.write(records(3))
    await sink.close(10)
    assert (len(lines(old)), len(lines(path))) == (2, 3)


async def test_a_line_that_a_death_tore_is_ended_first(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(b'{"id":"torn')
    sink = sink_at(path)
    sink.write(records(1))
    await sink.close(10)
    torn, whole = path.read_bytes().splitlines()
    assert torn == b'{"id":"torn'
    assert msgspec.json.decode(whole)["model"] == "chat"


async def test_what_a_full_disk_cut_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "RETRY_FIRST_S", 0.01)
    room = 1000
    write = os.write

    def bounded(file: int, data: memoryview) -> int:
        nonlocal room
        if room == 0:
            raise OSError(28, "No space left on device")
        count = write(file, data[:room])
        room -= count
        return count

    monkeypatch.setattr(os, "write", bounded)
    sink = sink_at(tmp_path / "records.jsonl")
    sink.write(records(5))
    await eventually(lambda: room == 0, "a full disk")
    assert sink.written == 0
    room = 1_000_000
    await sink.close(10)
    assert (sink.written, sink.dropped) == (5, 0)
    assert len({line["id"] for line in lines(tmp_path / "records.jsonl")}) == 5


async def test_what_cannot_be_written_until_the_end_is_counted(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    settings = JsonlSettings(path=str(tmp_path / "folder" / "x"))
    (tmp_path / "folder" / "x").mkdir()
    sink = JsonlSink(settings, Tools())
    sink.write(records(4))
    await sink.close(0.5)
    await eventually(lambda: sink.dropped == 4, "the loss")  # its thread may take longer than it is waited for
    assert sink.written == 0


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"path: {tmp_path} is a folder; name a file in it"):
        JsonlSettings(path=str(tmp_path))


def test_lines_go_to_the_standard_output() -> None:
    code = (
        "import asyncio\n"
        "from agent_gateway.record.base import Tools\n"
        "from agent_gateway.record.sinks.jsonl import JsonlSettings, JsonlSink\n"
        "from tests.record.exchanges import records\n"
        "async def go():\n"
        "    sink = JsonlSink(JsonlSettings(), Tools())\n"
        "    sink.write(records(3))\n"
        "    await sink.close(10)\n"
        "asyncio.run(go())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, check=True, env={**os.environ, "PYTHONPATH": "."})
    assert [msgspec.json.decode(line)["dialect"] for line in done.stdout.splitlines()] == ["openai_chat"] * 3
