"""A call on its way to a provider of another protocol."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent_gateway.core.call import Dialect
from agent_gateway.core.route import Deployment
from agent_gateway.protocols.base import codec_of
from agent_gateway.upstream.outgoing import outgoing

THINKING = msgspec.json.encode(
    {
        "model": "m",
        "max_tokens": 9000,
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "messages": [{"role": "user", "content": "Hi"}],
    }
)


@pytest.mark.parametrize(
    ("spoken", "told"),
    [
        ("openai_chat", ("reasoning_effort",)),
        ("openai_responses", ("reasoning", "include")),
        ("gemini", ("generationConfig", "thinkingConfig")),
    ],
)
def test_a_model_that_does_not_reason_is_not_told_how_much(spoken: Dialect, told: tuple[str, ...]) -> None:
    call = codec_of("anthropic").read_call(THINKING, {}, "/v1/messages")
    assert "reasoning" in call.needs

    def names(deployment: Deployment) -> set[str]:
        body: dict[str, Any] = msgspec.json.decode(outgoing(call, spoken, deployment))
        return {*body, *body.get("generationConfig", {})}

    able, unable = Deployment("p/m", "p", "m"), Deployment("p/m", "p", "m", lacks=frozenset({"reasoning"}))
    assert names(able) >= set(told)
    assert names(able) - names(unable) == {name for name in told if name != "generationConfig"}


def test_bytes_that_pass_through_are_left_alone() -> None:
    call = codec_of("anthropic").read_call(THINKING, {}, "/v1/messages")
    assert outgoing(call, "anthropic", Deployment("p/m", "p", "m", lacks=frozenset({"reasoning"}))) == THINKING
