"""The spill file: what is written comes back, once, whatever happened to the file in between."""

from __future__ import annotations

import errno
import os
import shutil
import zlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_gateway.record import spill as module
from agent_gateway.record.row import Record
from agent_gateway.record.spill import Spill, SpillFull, orphans
from tests.record.exchanges import records


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    return tmp_path / "x.records.spill-"


def left_behind(prefix: Path) -> list[list[Record]]:
    """What another process finds, and takes away."""
    found = []
    for orphan in orphans(prefix):
        with orphan:
            found += list(orphan.batches())
            orphan.remove()
    return found


def files(prefix: Path) -> list[Path]:
    return sorted(prefix.parent.iterdir())


def test_what_is_appended_comes_back_in_order(prefix: Path) -> None:
    spill = Spill(prefix)
    batches = [records(3), records(1)]
    for batch in batches:
        spill.append(batch)
    assert spill.holds_any
    assert list(spill.batches()) == batches
    spill.clear()
    assert list(spill.batches()) == []
    assert files(prefix) == []


def test_the_file_is_private(prefix: Path) -> None:
    spill = Spill(prefix)
    spill.append(records(1))
    [path] = files(prefix)
    assert path.stat().st_mode & 0o777 == 0o600
    spill.close()


def test_a_living_owners_file_is_nobody_elses(prefix: Path) -> None:
    spill = Spill(prefix)
    batch = records(2)
    spill.append(batch)
    assert left_behind(prefix) == []
    spill.close()
    assert left_behind(prefix) == [batch]
    assert files(prefix) == []


def test_an_orphan_that_was_not_removed_is_there_for_the_next(prefix: Path) -> None:
    spill = Spill(prefix)
    batch = records(2)
    spill.append(batch)
    spill.close()
    for orphan in orphans(prefix):
        with orphan:
            assert list(orphan.batches()) == [batch]
    assert left_behind(prefix) == [batch]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_torn_or_damaged_entry_costs_only_itself(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    prefix = tmp_path_factory.mktemp("torn") / "spill-"
    spill = Spill(prefix)
    batches = [records(2) for _ in range(3)]
    ends = []
    for batch in batches:
        spill.append(batch)
        ends.append(files(prefix)[0].stat().st_size)
    spill.close()
    [path] = files(prefix)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans(), "cut"):
        cut = data.draw(st.integers(0, len(content)), "at")
        path.write_bytes(content[:cut])
        assert left_behind(prefix) == [batch for batch, end in zip(batches, ends, strict=True) if end <= cut]
    else:
        place = data.draw(st.integers(0, len(content) - 1), "flipped")
        content[place] ^= 0xFF
        path.write_bytes(content)
        hit = next(index for index, end in enumerate(ends) if place < end)
        assert left_behind(prefix) == [batch for index, batch in enumerate(batches) if index != hit]


def test_an_entry_of_another_version_is_read_by_its_columns(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [record] = records(1)
    spill = Spill(prefix)
    spill.append([record])
    [path] = files(prefix)
    spill.close()
    columns = [*reversed(Record._fields[:5]), "of_the_future"]
    payload = msgspec.msgpack.encode([columns, [[*reversed(record[:5]), 1]]])
    path.write_bytes(module._HEAD.pack(module._MAGIC, len(payload), zlib.crc32(payload)) + payload)
    [[back]] = left_behind(prefix)
    assert back[:5] == record[:5]
    assert set(back[5:]) == {None}


def test_it_is_bounded(prefix: Path) -> None:
    spill = Spill(prefix, max_bytes=4000)
    kept = [records(1) for _ in range(3)]
    for batch in kept:
        spill.append(batch)
    with pytest.raises(SpillFull):
        spill.append(records(3))
    assert sum(path.stat().st_size for path in files(prefix)) <= 4000
    assert list(spill.batches()) == kept
    spill.clear()
    spill.append(records(1))
    spill.close()


def test_a_write_that_fails_half_way_leaves_no_torn_entry(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spill = Spill(prefix)
    first, second, third = records(1), records(1), records(1)
    spill.append(first)
    write = os.write
    written: list[int] = []

    def disk_with_ten_bytes_left(file: int, data: memoryview) -> int:
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(write(file, data[:10]))
        return 10

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", disk_with_ten_bytes_left)
        with pytest.raises(OSError, match="No space"):
            spill.append(second)
    assert written == [10]
    spill.append(third)
    assert list(spill.batches()) == [first, third]
    spill.clear()


def test_a_file_deleted_under_its_owner_is_written_anew(prefix: Path) -> None:
    spill = Spill(prefix)
    first, second = records(1), records(1)
    spill.append(first)
    shutil.rmtree(prefix.parent)
    spill.append(second)
    spill.close()
    assert left_behind(prefix) == [first, second]


def test_a_missing_folder_holds_no_orphans(tmp_path: Path) -> None:
    assert left_behind(tmp_path / "none" / "spill-") == []
