"""The workers' file. What is exchanged in it is in admission/test_cluster.py and health/test_board.py."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agent_gateway.stores.meeting import Entries, Script
from agent_gateway.stores.shared_file import FileMeeting


def _counted(entries: Entries, names: Sequence[bytes], message: Any) -> int:
    """How often it was asked within the last second."""
    [fields] = entries.of(names)
    count = int(fields.get("count", 0)) + 1
    entries.put(names[0], "count", str(count), 1000)
    return count


async def test_what_is_kept_has_its_time_though_the_wall_clock_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meetings = [FileMeeting(tmp_path / "shared.db", Script(Path("unused"), _counted, int)) for _ in range(2)]
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    counts = []
    for wall in (2e9, 1e9, 3e9):
        monkeypatch.setattr(time, "time", lambda wall=wall: wall)
        counts += [await meeting.exchange([b"name"], None, within_s=5) for meeting in meetings]
    assert counts == [1, 2, 3, 4, 5, 6]
    now += 1
    assert await meetings[0].exchange([b"name"], None, within_s=5) == 1
    for meeting in meetings:
        await meeting.close()
