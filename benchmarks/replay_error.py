"""How far `agent-gateway replay` is off: recorded hours, replayed as they were and under other configurations, against really running
those over the same simulated providers. Prints the table of docs/replay.md.

    PYTHONPATH=. python benchmarks/replay_error.py --hours 5
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from agent_gateway.cli.replaying import compiled
from agent_gateway.control.load import compile_mapping
from agent_gateway.rehearsal.behaviour import Behaviour
from agent_gateway.rehearsal.figures import Figures, Tally, mean
from agent_gateway.rehearsal.replay import rehearse
from agent_gateway.rehearsal.traffic import Traffic, read
from tests.rehearsal.hour import CHAT, RECORDED, changed, each, hour

RUNS = 3
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "as recorded": RECORDED,
    "weights 1 : 5": changed(deployments=[{**CHAT[0], "weight": 1}, {**CHAT[1], "weight": 5}]),
    "priority, west first": changed(strategy="priority", deployments=[CHAT[1], CHAT[0]]),
    "lowest_latency, no fallback": changed(strategy="lowest_latency", fallbacks=[]),
    "hedged": changed(hedging={"enabled": True, "max_share": 0.3}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=int, default=5)
    parser.add_argument("--per-s", type=float, default=1.0)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    requests = 0
    errors: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for seed in range(1, arguments.hours + 1):
        recorded = hour(RECORDED, seed, arguments.per_s)
        traffic = asyncio.run(read(each(recorded)))
        requests += len(recorded)
        for name, raw in CONFIGURATIONS.items():
            real = Tally()
            real.add(recorded if raw is RECORDED else hour(raw, seed, arguments.per_s))
            errors[name].append(_error(_forecast(traffic, raw, seed), real.all()))
    print(f"{arguments.hours} hours, {requests:,} requests; mean error, and in brackets the largest\n")
    print("| configuration | cost | p95 | first token p95 | fallback rate |")
    print("|---|---|---|---|---|")
    for name, several in errors.items():
        told = [f"{fmean(map(abs, values)):.1%} ({max(map(abs, values)):.1%})" for values in list(zip(*several, strict=True))[:3]]
        points = [abs(values[3]) * 100 for values in several]
        print(f"| {name} | {' | '.join(told)} | {fmean(points):.2f} ({max(points):.2f}) points |")


def _forecast(traffic: Traffic, raw: Mapping[str, Any], seed: int) -> Figures:
    """The mean of as many runs as the command makes."""
    behaviour, configuration = Behaviour(traffic.done), compiled(compile_mapping(dict(raw)))
    return mean([rehearse(traffic, {}, behaviour, configuration, seed + number)[0].all() for number in range(RUNS)])


def _error(forecast: Figures, real: Figures) -> tuple[float, ...]:
    relative = [getattr(forecast, name) / getattr(real, name) - 1 for name in ("cost_usd", "p95_s", "ttft_p95_s")]
    return (*relative, forecast.fallback_rate - real.fallback_rate)


if __name__ == "__main__":
    main()
