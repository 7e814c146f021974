"""Many streams that are open for long: what each costs the gateway, in small. `benchmarks/scaling.py` opens 8,000."""

from __future__ import annotations

from benchmarks.scaling import GOAL_STREAM_BYTES, Case, measure

STREAMS = 500


def test_an_open_stream_takes_little_memory() -> None:
    """They end and begin anew all the time, as they do with users."""
    measured = measure(Case(STREAMS, tokens=3), seconds=5)
    assert measured.figures.errors == {}
    assert measured.figures.answered == measured.figures.requests > STREAMS
    assert max(point.in_flight for point in measured.figures.timeline) == STREAMS
    assert 2 * 1024 < measured.stream_bytes < GOAL_STREAM_BYTES
