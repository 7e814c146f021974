"""`agent-gateway drill`: incidents and quiet hours, played to the gateway in virtual time, and how right its alerts are."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agent_gateway.cli.progress import progress
from agent_gateway.cli.store_command import answered, print_json, print_table, refuse

if TYPE_CHECKING:
    from agent_gateway.control.snapshot import Configuration
    from agent_gateway.rehearsal.drill import Make, Played
    from agent_gateway.rehearsal.scenario import Scenario
    from agent_gateway.rehearsal.verdict import OfKind, Reaction, Verdict

HELP = "plays incidents and quiet hours to the gateway in virtual time; exits 1 where its alerts are not right"
EXAMPLE = "agent-gateway drill --scenarios 200 --only slow,errors,steady"

#: Drilled where no file is named: a model with two providers and a fallback, that fallback, and a model that has neither.
CONFIGURATION: Mapping[str, Any] = {
    "providers": {name: {"kind": "simulated"} for name in ("east", "west", "north", "south")},
    "models": {
        "assistant": {
            "deployments": [
                {"provider": "east", "model": "large", "price": {"input": 2.5, "output": 10}},
                {"provider": "west", "model": "large", "price": {"input": 2, "output": 8}},
            ],
            "fallbacks": ["small"],
        },
        "small": {"deployments": [{"provider": "north", "model": "small", "price": {"input": 0.15, "output": 0.6}}]},
        "code": {"deployments": [{"provider": "south", "model": "code", "price": {"input": 1, "output": 4}}]},
    },
}
_SCENARIOS_MAX = 10_000
_COLUMNS = (
    *("kind", "scenarios", "incidents", "told", "after", "p90", "alerts", "false"),
    *("breakers", "after", "back", "controllers", "after", "back"),
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="the configuration to drill (default: one of its own, with four providers)")
    parser.add_argument("--scenarios", type=_number, default=200, metavar="N", help="an hour each, half of them quiet (default: 200)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the same seed gives the same scenarios (default: 0)")
    parser.add_argument("--only", type=_kinds, metavar="KIND,…", help="only of these kinds, such as slow,errors,steady (default: all)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    return answered(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    import logging

    from agent_gateway.control.load import compile_mapping, load
    from agent_gateway.rehearsal.kinds import KINDS
    from agent_gateway.rehearsal.verdict import judge

    configuration = compile_mapping(dict(CONFIGURATION)) if arguments.config is None else load(arguments.config)
    if not configuration.routes:
        return refuse(f"models: {configuration.source} names none, so there is nothing to drill; put at least one under `models`")
    if not configuration.settings.alerts.enabled:
        return refuse(f"alerts.enabled: is false in {configuration.source}, so nothing would be told; leave it out to drill it")
    drawn = scenarios(configuration, arguments.scenarios, arguments.seed, arguments.only or list(KINDS))
    if not drawn:
        return refuse("--only: what costs too much can only be drilled where a model has a price; give it one (models.NAME.deployments)")
    logging.disable(logging.CRITICAL)  # what happens there has not happened
    try:
        verdict = judge(list(_played(configuration, drawn, shown=not arguments.json)), arguments.seed)
    finally:
        logging.disable(logging.NOTSET)
    if arguments.json:
        print_json(verdict)
    else:
        print_table(_COLUMNS, [_row(of_kind) for of_kind in verdict.kinds], fold=("kind",))
        print("\n".join(_summary(verdict)))
    return 0 if verdict.passed else 1


def scenarios(configuration: Configuration, number: int, seed: int, kinds: Sequence[str]) -> list[Scenario]:
    from agent_gateway.core.settings import AlertRule
    from agent_gateway.record.alerting.rules import RULES
    from agent_gateway.rehearsal.scenario import Draw

    wanted = configuration.settings.alerts.rules.get("cost", AlertRule())
    usual = next(rule for rule in RULES if rule.name == "cost")
    cost_usd = usual.threshold if wanted.threshold is None else wanted.threshold
    return Draw(configuration.routes, cost_usd, seed).several(number, kinds)


def made(configuration: Configuration) -> Make:
    """Gateways of this configuration, whose providers are all simulated."""
    from agent_gateway.app import Gateway
    from agent_gateway.rehearsal import drill

    def make(clock: Any, recorder: Any, provider: Any, store: Any, random: Any) -> drill.Gateway:
        providers = {name: provider(random.getrandbits(32)) for name in configuration.settings.providers}
        gateway = Gateway.rehearsal(configuration, clock, recorder=recorder, providers=providers, store=store, random=random)
        return drill.Gateway(gateway.live.runtime, gateway.alerts, gateway.health)

    return make


def _played(configuration: Configuration, drawn: Sequence[Scenario], *, shown: bool) -> Iterator[Played]:
    from agent_gateway.rehearsal.drill import play

    make = made(configuration)
    with progress("drilling", shown=shown) as advance:
        for number, scenario in enumerate(drawn, 1):
            yield play(scenario, make)
            advance(number, len(drawn))


def _row(of: OfKind) -> tuple[str, ...]:
    quiet = f"{of.kind} (quiet)" if of.quiet else of.kind
    counts = (str(of.scenarios), *(("", "") if of.quiet else (str(of.incidents), str(of.detected))))
    found = (_seconds(of.detection_s), _seconds(of.detection_p90_s), str(of.alerts), str(of.false_alarms))
    return (quiet, *counts, *found, *_reaction(of.breakers), *_reaction(of.controllers))


def _reaction(reaction: Reaction) -> tuple[str, ...]:
    return (str(reaction.scenarios or ""), _seconds(reaction.after_s), _seconds(reaction.back_after_s))


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.0f} s"


def _summary(verdict: Verdict) -> Iterator[str]:
    from agent_gateway.rehearsal.verdict import DETECTED_S, RIGHT

    yield (
        f"{verdict.scenarios} scenarios of an hour ({verdict.quiet} quiet), {verdict.requests:,} requests, seed {verdict.seed}: "
        f"{verdict.incidents} incidents, {verdict.alerts} alerts."
    )
    yield (
        f"Precision {_share(verdict.precision)}, recall {_share(verdict.recall)} (at least {RIGHT:.0%} each); told after "
        f"{_seconds(verdict.detection_s) or '–'} in the median (less than {DETECTED_S:.0f} s), {_seconds(verdict.detection_p90_s) or '–'} "
        f"at the 90th percentile; {verdict.quiet_false_alarms} alerts in quiet scenarios: {'PASSED' if verdict.passed else 'FAILED'}."
    )
    if verdict.missed:
        yield f"Not told: {', '.join(verdict.missed)}."
    for false in verdict.false:
        yield f"False alarm: {false.scenario}, after {false.alert.at_s:.0f} s: {false.alert.rule}: {false.alert.text}"


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _kinds(text: str) -> list[str]:
    from agent_gateway.rehearsal.kinds import KINDS

    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in KINDS]:
        raise argparse.ArgumentTypeError(f"there is no kind {unknown[0]!r}; there are {', '.join(KINDS)}")
    return names


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _SCENARIOS_MAX:
        raise argparse.ArgumentTypeError(f"expected 1 to {_SCENARIOS_MAX}; not {text!r}")
    return int(text)
