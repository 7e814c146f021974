"""`agent-gateway check`: says what a configuration comes to, or everything that is wrong with it. Starts and calls nothing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent_gateway.control.presets import PresetSetting
    from agent_gateway.control.snapshot import Configuration
    from agent_gateway.core.route import Deployment, Route

HELP = "checks a configuration and prints the routes it comes to"
EXAMPLE = "agent-gateway check --config gateway.yaml"

#: Columns where the output is not a terminal, which would wrap.
PLAIN_WIDTH = 160

_POLICIES = ("timeouts", "retries", "hedging", "breaker", "streaming", "fallback", "concurrency")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE", help="the configuration (default: $GATEWAY_CONFIG, ./gateway.yaml, the environment's keys)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    import msgspec

    from agent_gateway.control.errors import ConfigurationError
    from agent_gateway.control.load import load

    try:
        configuration = load(arguments.config)
    except ConfigurationError as error:
        if arguments.json:
            print(msgspec.json.encode({"ok": False, "errors": error.errors}).decode())
        else:
            print("\n".join(error.errors), file=sys.stderr)
        return 1
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(report(configuration)), indent=2).decode())
    else:
        _print(configuration)
    return 0


def report(configuration: Configuration) -> dict[str, Any]:
    """What `--json` prints. Prices are USD per million tokens; `policies` holds what differs from the defaults, by path."""
    settings = configuration.settings
    return {
        "ok": True,
        "source": configuration.source,
        "providers": {name: _provider(provider) for name, provider in settings.providers.items()},
        "routes": [
            {
                "name": route.name,
                "strategy": route.strategy,
                "deployments": [
                    {
                        "id": item.id,
                        "weight": item.weight,
                        "price": item.price,
                        "context_window": item.context_window,
                        "lacks": sorted(item.lacks),
                    }
                    for item in route.deployments
                ],
                "fallbacks": route.fallbacks,
                "policies": differing(route),
            }
            for route in configuration.routes.values()
        ],
        "preset": _preset(configuration),
        "warnings": configuration.warnings,
    }


def _preset(configuration: Configuration) -> dict[str, Any] | None:
    if configuration.settings.preset is None:
        return None
    return {
        "name": configuration.settings.preset,
        "settings": [
            {"path": item.path, "preset": item.value, "value": _in_force(configuration, item.place), "overridden_by": item.overridden_by}
            for item in configuration.preset
        ],
    }


def _in_force(configuration: Configuration, place: Sequence[str]) -> Any:
    value: Any = configuration.settings
    for name in place:
        value = value[name] if isinstance(value, dict) else getattr(value, name)
    return value


def differing(route: Route) -> dict[str, Any]:
    """The route's policies that are not the defaults, by path; the fallback model is among its fallbacks."""
    found: dict[str, Any] = {}
    for section in _POLICIES:
        policy = getattr(route, section)
        _compare(section, policy, type(policy)(), found)
    found.pop("fallback.model", None)
    return found


def _compare(path: str, value: Any, default: Any, found: dict[str, Any]) -> None:
    if value == default:
        return
    if hasattr(value, "__struct_fields__"):
        for name in value.__struct_fields__:
            _compare(f"{path}.{name}", getattr(value, name), getattr(default, name), found)
    else:
        found[path] = value


def _provider(provider: Any) -> dict[str, Any]:
    """Never the keys: how many there are."""
    keys = ([provider.api_key] if getattr(provider, "api_key", None) else []) + list(getattr(provider, "api_keys", ()))
    return {"kind": provider.kind, "base_url": getattr(provider, "base_url", None), "keys": len(keys)}


def _print(configuration: Configuration) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PLAIN_WIDTH)
    console.print(f"[green]✓[/] {escape(configuration.source or 'the environment')} is right", soft_wrap=True)
    console.print(f"providers: {escape(', '.join(_named_providers(configuration)))}", soft_wrap=True)
    if configuration.routes:
        console.print(_table(configuration))
    else:
        console.print("models: every model of these providers, as its bare name or as provider/model")
    of_preset = {item.path: _in_force(configuration, item.place) for item in configuration.preset}
    for item in configuration.preset:
        console.print(f"preset {configuration.settings.preset}: {escape(_told(item, of_preset[item.path]))}", soft_wrap=True)
    for route in configuration.routes.values():
        for path, value in differing(route).items():
            if path in of_preset and of_preset[path] == value:
                continue
            console.print(escape(f"models.{route.name}.{path} = {_value(value)}"), soft_wrap=True)
    for warning in configuration.warnings:
        console.print(f"[yellow]warning[/] {escape(warning)}", soft_wrap=True)


def _told(item: PresetSetting, in_force: Any) -> str:
    told = f"{item.path} = {_value(in_force)}"
    return told if item.overridden_by is None else f"{told}, by {item.overridden_by} (the preset's: {_value(item.value)})"


def _named_providers(configuration: Configuration) -> list[str]:
    named = []
    for name, provider in configuration.settings.providers.items():
        said = _provider(provider)
        address = f" at {said['base_url']}" if said["base_url"] else ""
        named.append(f"{name} ({said['kind']}{address})")
    return named


def _table(configuration: Configuration) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("model", "strategy", "deployment"):
        table.add_column(title, overflow="fold")
    for title in ("weight", "$ per M in", "$ per M out", "context"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("fallbacks", overflow="fold")
    for route in configuration.routes.values():
        for index, deployment in enumerate(route.deployments):
            ahead = (route.name, route.strategy) if index == 0 else ("", "")
            behind = " → ".join(route.fallbacks) if index == 0 else ""
            table.add_row(*(Text(cell) for cell in (*ahead, *_cells(deployment), behind)))
    return table


def _cells(deployment: Deployment) -> tuple[str, str, str, str, str]:
    price, context = deployment.price, deployment.context_window
    return (
        deployment.id,
        f"{deployment.weight:g}",
        f"{price.input:g}" if price else "?",
        f"{price.output:g}" if price else "?",
        f"{context:,}" if context else "?",
    )


def _value(value: Any) -> str:
    import msgspec

    return f"{value:g}" if isinstance(value, float) else msgspec.json.encode(value).decode()
