"""`python -m agent_gateway.control.price_export FILE`: the price package as compact JSON, made in a process of its own.

Importing the package costs 108 MB and half a second, which the serving process must never pay.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
from genai_prices import types
from genai_prices.data import providers


def export() -> dict[str, Any]:
    """Providers in the package's order, which decides between several that match. USD per million tokens, at the base tier."""
    return {"providers": [_provider(provider) for provider in providers]}


def _provider(provider: types.Provider) -> dict[str, Any]:
    return {
        "id": provider.id,
        "address": provider.api_pattern,
        "maker_of": None if provider.model_match is None else clause(provider.model_match),
        "sells_for": provider.fallback_model_providers or [],
        "models": [_model(model) for model in provider.models],
    }


def _model(model: types.ModelInfo) -> dict[str, Any]:
    prices = model.prices
    conditional = [types.ConditionalPrice(prices=prices)] if isinstance(prices, types.ModelPrice) else prices
    return {
        "id": model.id,
        "match": clause(model.match),
        "context": model.context_window,
        "prices": [{**_when(item.constraint), **_rates(item.prices)} for item in conditional],
    }


def _when(constraint: types.StartDateConstraint | types.TimeOfDateConstraint | None) -> dict[str, str]:
    match constraint:
        case types.StartDateConstraint():
            return {"from_date": constraint.start_date.isoformat()}
        case types.TimeOfDateConstraint():
            return {"from_time": constraint.start_time.isoformat(), "to_time": constraint.end_time.isoformat()}
        case None:
            return {}


def _rates(price: types.ModelPrice) -> dict[str, float]:
    rates = {}
    for ours in ("input", "output", "cache_read", "cache_write"):
        value = getattr(price, f"{ours}_mtok")
        if value is not None:
            rates[ours] = float(value.base if isinstance(value, types.TieredPrices) else value)
    per_thousand = price.requests_kcount
    if per_thousand is not None:
        rates["request"] = float(per_thousand.base if isinstance(per_thousand, types.TieredPrices) else per_thousand) / 1000
    return rates


def clause(logic: types.MatchLogic) -> list[Any]:
    """`[operator, operand]`, as `prices.matches` reads it; the texts lower-case, as both sides are compared."""
    match logic:
        case types.ClauseEquals():
            return ["equals", logic.equals.lower()]
        case types.ClauseStartsWith():
            return ["starts_with", logic.starts_with.lower()]
        case types.ClauseEndsWith():
            return ["ends_with", logic.ends_with.lower()]
        case types.ClauseContains():
            return ["contains", logic.contains.lower()]
        case types.ClauseRegex():
            return ["regex", logic.regex]
        case types.ClauseOr():
            return ["or", [clause(part) for part in logic.or_]]
        case types.ClauseAnd():
            return ["and", [clause(part) for part in logic.and_]]


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(msgspec.json.encode(export()))
