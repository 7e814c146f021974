"""Settling: who is billed for what, and what is guessed where the provider did not say."""

from __future__ import annotations

import msgspec
import pytest

from agent_gateway.core.call import Call
from agent_gateway.core.errors import ClientLeft, ConnectionCut
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.estimate import TOKENS_PER_MEDIUM, TOKENS_PER_MESSAGE, estimate_input_tokens
from agent_gateway.protocols.transcript import Transcript
from agent_gateway.record.cost import estimate, settle
from tests.record.exchanges import attempt, chunk, exchange


def asked(body: bytes) -> Call:
    return Call("openai_chat", "chat", body)


def test_what_upstream_settled_stays() -> None:
    usage = Usage(input=1, output=1)
    made = exchange(attempts=[attempt(usage=usage, cost_usd=0.5)], usage=usage)
    settle(made)
    assert (made.usage, made.cost_usd) == (usage, 0.5)


def test_settling_twice_changes_nothing() -> None:
    made = exchange()
    settle(made)
    first = (made.usage, made.cost_usd, made.attempts[0].usage, made.attempts[0].cost_usd)
    settle(made)
    assert (made.usage, made.cost_usd, made.attempts[0].usage, made.attempts[0].cost_usd) == first
    assert made.cost_usd == pytest.approx((30 * 1.0 + 12 * 2.0) / 1e6)


def test_a_cut_stream_is_billed_by_an_estimate() -> None:
    cut = attempt(outcome="provider_connection_cut", first_token=10.2)
    made = exchange(answer=[chunk("x" * 400)], stream=True, attempts=[cut], usage=None, error=ConnectionCut("cut"))
    settle(made)
    assert made.usage is not None
    assert made.usage.estimated
    assert made.usage.output == 100
    assert 0 < made.usage.input < 50
    assert made.cost_usd == pytest.approx((made.usage.input + 200) / 1e6)


def test_a_client_that_left_before_any_content_is_billed_nothing() -> None:
    made = exchange(answer=[], attempts=[attempt(outcome="cancelled")], usage=None, error=ClientLeft("left"))
    settle(made)
    assert (made.usage, made.cost_usd) == (None, None)


def test_the_answers_own_usage_goes_before_an_estimate() -> None:
    told = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}\n\n'
    made = exchange(answer=[chunk("Hi"), told], stream=True, usage=None)
    settle(made)
    assert made.usage == Usage(input=7, output=3)


def test_costs_of_all_attempts_are_summed_and_tokens_are_those_of_the_answer() -> None:
    first = attempt(outcome="provider_connection_cut", first_token=10.1, usage=Usage(input=10, output=5))
    made = exchange(attempts=[attempt(outcome="provider_error"), first, attempt(10.6, 11)], usage=Usage(input=30, output=10))
    settle(made)
    assert [one.cost_usd for one in made.attempts] == [None, pytest.approx(20e-6), pytest.approx(50e-6)]
    assert made.cost_usd == pytest.approx(70e-6)
    assert made.usage == Usage(input=30, output=10)


def test_tokens_of_attempts_are_summed_when_the_answer_has_none_of_its_own() -> None:
    usages = (Usage(input=1, output=2, cache_read=1), Usage(input=3, output=4, reasoning=2, estimated=True))
    failed = [attempt(usage=usage, outcome="provider_error") for usage in usages]
    made = exchange(attempts=failed, usage=None, error=ConnectionCut("x"))
    settle(made)
    assert made.usage == Usage(input=4, output=6, cache_read=1, reasoning=2, estimated=True)


def test_an_unknown_price_is_no_cost() -> None:
    made = exchange(attempts=[attempt(price=None)])
    settle(made)
    assert (made.usage, made.cost_usd) == (Usage(input=30, output=12), None)


def test_no_attempt_costs_nothing() -> None:
    made = exchange(attempts=[], answer=[])
    settle(made)
    assert (made.usage, made.cost_usd) == (None, None)


def test_a_prompt_is_estimated_by_what_the_model_reads() -> None:
    image = "A" * 100_000
    parts = [{"type": "text", "text": "你好吗"}, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}]
    messages = [{"role": "system", "content": "a" * 40}, {"role": "user", "content": parts}]
    body = msgspec.json.encode({"model": "chat", "messages": messages})
    assert estimate_input_tokens(asked(body)) == 2 * TOKENS_PER_MESSAGE + 10 + 3 + TOKENS_PER_MEDIUM


@pytest.mark.parametrize("body", [b"", b"not json!", b'{"messages":7}', b"[" * 5000, b'{"messages":[{"content":"\xff"}]}'])
def test_a_prompt_that_cannot_be_read_is_estimated_by_its_length(body: bytes) -> None:
    assert estimate_input_tokens(asked(body)) == -(-len(body) // 4)


def test_what_was_not_kept_of_an_answer_counts_too() -> None:
    transcript = Transcript(kept_max_chars=100)
    transcript.read(chunk("x" * 400))
    assert estimate(asked(b"{}"), transcript).output == 100
