"""Reports: kept, read again, and set beside each other."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from agent_gateway.bench.report import Unreadable, compared, read_report
from tests.bench.figures import report, told


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    written = report(preset="support")
    file.write_bytes(msgspec.json.encode(written))
    assert read_report(file) == written


@pytest.mark.parametrize(("text", "said"), [(None, "No such file"), ("{", "is no report"), ('{"version": "1"}', "missing required field")])
def test_what_is_no_report_is_told(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "other.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(Unreadable, match=said) as raised:
        read_report(file)
    assert str(file) in str(raised.value)


def test_two_are_compared_by_what_both_have() -> None:
    now = report(per_s=120.0, failed=10, latency=told(0.5), gap=None)
    then = report(per_s=100.0, failed=0, latency=told(1.0))
    rows = {row.what: row for row in compared(now, then)}
    assert not any("gap" in what for what in rows)
    faster = rows["time of an answer, p50"]
    assert (faster.figure, faster.other, faster.better) == (now.figures.latency["p50"], 1.0, True)  # type: ignore[index]
    assert faster.change == pytest.approx(-0.5, abs=0.01)
    assert (rows["requests answered a second"].better, rows["requests that failed"].better) == (True, False)
    assert rows["requests that failed"].change is None, "of nothing, no share can be told"
    assert rows["cost of a request"].better is None, "it did not move"


def test_a_target_that_is_missed_is_the_answer_no() -> None:
    assert report().met
    assert not report(latency=told(20)).met
