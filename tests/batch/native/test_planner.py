"""When items at a provider are given up, so that what is left of the window is enough for live calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_gateway.app import Gateway
from agent_gateway.batch.native.plan import Part, Plan, Target, next_at, plan_of
from agent_gateway.batch.native.planner import Planner, due_at, stop_s
from agent_gateway.control.load import compile_mapping
from agent_gateway.core.clock import SYSTEM_CLOCK
from agent_gateway.stores.base import Owner
from agent_gateway.stores.batches import StoredBatch

DAY_S = 86_400.0
NOW = 1_000_000.0


def batch(window_s: float = DAY_S, total: int = 100, **more: object) -> StoredBatch:
    return StoredBatch("b", Owner(), "/v1/chat/completions", "f", "24h", NOW, NOW + window_s, total=total, **more)  # type: ignore[arg-type]


@pytest.fixture
def planner(tmp_path: Path) -> Planner:
    models = {
        "both": {
            "deployments": [
                {"provider": "openai", "model": "gpt-4o", "price": {"input": 2.5, "output": 10}},
                {"provider": "claude", "model": "claude-haiku-4-5", "price": {"input": 1, "output": 5}},
                {"provider": "local", "model": "tiny", "price": {"input": 0, "output": 0}},
            ]
        },
        "slow": {"deployments": [{"provider": "openai", "model": "gpt-4o"}], "batching": {"concurrency": 1}},
        "local": {"deployments": [{"provider": "local", "model": "tiny"}]},
        "anywhere": {"deployments": [{"provider": "local", "model": "tiny"}], "batching": {"native": "on"}},
        "never": {"deployments": [{"provider": "openai", "model": "gpt-4o"}], "batching": {"native": "off"}},
        "sim": {"deployments": [{"provider": "sim", "model": "small"}], "batching": {"native": "on"}},
    }
    providers = {
        "openai": {"kind": "openai", "api_key": "sk-x"},
        "claude": {"kind": "anthropic", "api_key": "sk-x"},
        "local": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "api_key": "sk-x"},
        "sim": {"kind": "simulated"},
    }
    raw = {"state": {"database": "sqlite:///:memory:"}, "providers": providers, "models": models}
    gateway = Gateway(compile_mapping(raw), environ={})
    return Planner(gateway.live, gateway._keys, gateway._health, SYSTEM_CLOCK)


@pytest.mark.parametrize(
    ("model", "window_s", "deployment"),
    [
        ("both", DAY_S, "claude/claude-haiku-4-5"),  # the cheapest that has batches
        ("both", 3_600.0, None),
        ("local", DAY_S, None),
        ("anywhere", DAY_S, "local/tiny"),
        ("anywhere", 3_600.0, "local/tiny"),
        ("anywhere", 600.0, None),
        ("never", DAY_S, None),
        ("sim", DAY_S, None),
        ("unknown", DAY_S, None),
    ],
)
async def test_where_a_models_items_go(planner: Planner, model: str, window_s: float, deployment: str | None) -> None:
    place = planner.place(batch(window_s), model)
    assert (place.deployment.id if place else None) == deployment


@pytest.mark.parametrize(
    ("modes", "deployment"),
    [
        ({"claude/claude-haiku-4-5": "drain"}, "openai/gpt-4o"),
        ({"openai/gpt-4o": "prefer"}, "openai/gpt-4o"),
        ({"claude/claude-haiku-4-5": "drain", "openai/gpt-4o": "drain"}, None),
    ],
)
async def test_where_they_go_when_an_operator_decides(planner: Planner, modes: dict[str, str], deployment: str | None) -> None:
    planner._health.interventions = modes
    place = planner.place(batch(), "both")
    assert (place.deployment.id if place else None) == deployment
    assert planner.place_at(batch(), "both", "claude/claude-haiku-4-5") is not None, "what it has already is taken in"


async def test_half_the_price_is_halved_in_every_rate(planner: Planner) -> None:
    place = planner.place(batch(), "both")
    assert place is not None
    assert place.price is not None
    assert (place.price.input, place.price.output) == (0.5, 2.5)


@pytest.mark.parametrize(
    ("model", "total", "share_left"),
    [("both", 100, 0.25), ("both", 50_000, 0.25), ("slow", 5_000, 1.2 * 5_000 * 5 / DAY_S), ("slow", 50_000, 0.75)],
)
async def test_a_part_is_given_up_in_time_for_live_calls(planner: Planner, model: str, total: int, share_left: float) -> None:
    asked = batch(total=total)
    place = planner.place(asked, model)
    assert place is not None
    give_up_at = planner.give_up_at(asked, place)
    assert asked.expires_at - give_up_at == pytest.approx(share_left * DAY_S)
    assert give_up_at <= due_at(asked) < due_at(asked) + stop_s(asked) < asked.expires_at


def test_a_plan_says_when_it_is_to_be_looked_at() -> None:
    part = Part(id="a", model="m", deployment="p/m", give_up_at=NOW, stage="waiting", next_at=NOW + 30)
    later = Part(id="b", model="m", deployment="p/m", give_up_at=NOW, stage="stopping", next_at=NOW + 60)
    asked = batch(plan=Plan(parts=[later, part]).written())
    assert plan_of(asked).parts == [later, part]
    assert next_at(asked) == NOW + 30
    assert next_at(batch(status="cancelling", plan=asked.plan)) == 0.0
    assert next_at(batch(status="cancelling", plan=Plan(parts=[later]).written())) == NOW + 60
    assert next_at(batch(plan=Plan(parts=[part], targets=[Target(model="m", deployment="p/m")]).written())) == 0.0
    assert Plan().written() is None
