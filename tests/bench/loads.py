"""Loads of the tests: short, of a model at a scripted provider, in the place of a gateway."""

from __future__ import annotations

from typing import Any

from agent_gateway.bench.load import Load

HERE = "http://127.0.0.1:9"


def load(url: str = HERE, **changes: Any) -> Load:
    usual = {"concurrency": 1, "duration_s": 0.3, "warm_up_s": 0, "timeout_s": 5}
    return Load(url=url, model="m", **{**usual, **changes})
