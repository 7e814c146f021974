"""How batches are asked to go wrong."""

from __future__ import annotations

import pytest

from agent_gateway.simulator.batches.faults import BatchFault, steered, steered_batch


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("batch-refuse", BatchFault("refuse", 429)),
        ("batch-refuse-503", BatchFault("refuse", 503)),
        ("batch-fail", BatchFault("fail")),
        ("batch-expire-5", BatchFault("expire", 5)),
        ("batch-hang", BatchFault("hang")),
        ("batch-error", BatchFault("error", 2)),
        ("batch-miss-10", BatchFault("miss", 10)),
        ("batch-refuse-200", None),
        ("batch-miss-0", None),
        ("batch-nothing", None),
        ("batch", None),
        ("fail-500", None),
    ],
)
def test_names(text: str, fault: BatchFault | None) -> None:
    assert steered_batch(text) == fault


@pytest.mark.parametrize(
    ("model", "name", "fault"),
    [
        ("gpt", "gpt", None),
        ("gpt:batch-fail", "gpt", BatchFault("fail")),
        ("gpt:batch-miss-3:fail-500", "gpt", BatchFault("miss", 3)),
        ("gpt:slow-20:batch-hang", "gpt", BatchFault("hang")),
        ("org/gpt:free", "org/gpt:free", None),
        ("batch-fail", "batch-fail", None),
    ],
)
def test_models(model: str, name: str, fault: BatchFault | None) -> None:
    assert steered(model) == (name, fault)


def test_of_which_items() -> None:
    every_third = BatchFault("error", 3)
    assert [position for position in range(8) if every_third.strikes("error", position)] == [0, 3, 6]
    assert not every_third.strikes("miss", 0)
