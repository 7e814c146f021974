"""Figures of a load test that went so and so."""

from __future__ import annotations

from typing import Any

from agent_gateway.bench.load import Load
from agent_gateway.bench.report import Report
from agent_gateway.bench.tally import Figures, Point
from agent_gateway.bench.targets import PresetName, judged
from agent_gateway.bench.times import Times, Told
from tests.bench.loads import load


def told(*seconds: float) -> Told:
    times = Times()
    for each in seconds:
        times.add(each)
    made = times.told()
    assert made is not None, "there is at least one"
    return made


def point(at_s: float, **changes: Any) -> Point:
    usual = {"requests_per_s": 10.0, "errors_per_s": 0.0, "in_flight": 3, "p50_s": 1.0, "p95_s": 2.0, "p99_s": 3.0}
    return Point(at_s=at_s, **{**usual, **changes})


def figures(**changes: Any) -> Figures:
    usual: dict[str, Any] = {
        "measured_s": 10.0,
        "requests": 1000,
        "answered": 1000,
        "failed": 0,
        "per_s": 100.0,
        "errors": {},
        "statuses": {"success": 1000},
        "input_tokens": 6000,
        "output_tokens": 4000,
        "cost_usd": 2.0,
        "latency": told(*[1.0] * 99, 3.0),
        "service": told(*[1.0] * 99, 2.9),
        "first_token": told(*[0.3] * 1000),
        "gap": told(0.01, 0.02),
        "overhead": told(0.001),
        "degraded": None,
        "late": told(0.0001),
        "timeline": [point(0), point(1, p50_s=None, p95_s=None, p99_s=None), point(2)],
    }
    return Figures(**{**usual, **changes})


def report(of: Load | None = None, preset: PresetName | None = None, at: str = "2026-01-31T08:00:00.000Z", **changes: Any) -> Report:
    of, made = of or load(), figures(**changes)
    return Report(version="1.0", at=at, preset=preset, load=of, figures=made, targets=judged(made, of, preset))
