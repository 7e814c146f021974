"""What is asked has the size that was asked for, and is never the same."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent_gateway.bench.workload import Workload
from tests.bench.loads import load


def body(workload: Workload) -> dict[str, Any]:
    return msgspec.json.decode(workload.body(), type=dict[str, Any])


@pytest.mark.parametrize("tokens", [1, 20, 200, 5000])
def test_a_prompt_has_its_length(tokens: int) -> None:
    asked = body(Workload(load(prompt_tokens=tokens, output_tokens=7), "run"))
    said = asked["messages"][0]["content"]
    assert len(said) / 4 == pytest.approx(tokens, rel=0.05, abs=6)
    assert asked["max_tokens"] == 7
    assert "stream" not in asked


def test_a_stream_asks_for_its_usage() -> None:
    asked = body(Workload(load(mode="stream"), "run"))
    assert (asked["stream"], asked["stream_options"]) == (True, {"include_usage": True})


def test_no_two_questions_are_the_same() -> None:
    one, other = Workload(load(), "one"), Workload(load(), "other")
    assert len({workload.body() for workload in (one, other) for _ in range(50)}) == 100


def test_a_batch_holds_so_many_questions() -> None:
    requests = body(Workload(load(mode="batch", batch_size=3), "run"))["requests"]
    assert [request["custom_id"] for request in requests] == ["0", "1", "2"]
    assert len({request["body"]["messages"][0]["content"] for request in requests}) == 3


def test_a_conversation_has_its_turns_one_after_the_other() -> None:
    workload = Workload(load(turns=2), "run")
    first, second = workload.conversation(), workload.conversation()
    assert first is not None
    assert second is not None
    assert first.id != second.id, "the first waits for its answer"
    workload.answered(first)
    assert workload.conversation() is first
    workload.answered(first)
    third = workload.conversation()
    assert third is not None
    assert third not in (first, second), "both turns of the first are over"


def test_requests_that_stand_for_themselves_have_no_conversation() -> None:
    assert Workload(load(), "run").conversation() is None
