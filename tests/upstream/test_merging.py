"""Calls that become one: who gathers behind whom, who gets what, and what becomes of bad inputs, faults, and those who leave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.errors import (
    GatewayError,
    ProviderFault,
    ProviderRateLimited,
    ProviderRefusedRequest,
    ProviderTimeout,
)
from agent_gateway.core.event import Whole
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.plan import Plan
from agent_gateway.core.pricing import Price
from agent_gateway.core.settings import Batching, Breaker, Concurrency, Fallback, Hedging, Retries, Timeouts
from agent_gateway.protocols.base import codec_of
from agent_gateway.upstream.merging import LEARNT_S
from tests.upstream.stage import Script, Scripts, Stage, deployment, fails, hangs, now, play, route

TOOK_S = 0.1
WAIT_S = 0.02
NO_REPLY = Fallback(reply=None)
ONCE = Retries(max_attempts=1)


def embedding(text: Any, **more: Any) -> Call:
    body = msgspec.json.encode({"model": "chat", "input": text, **more})
    return codec_of("openai_embeddings").read_call(body, {}, "/v1/embeddings")


def completion(prompt: Any, **more: Any) -> Call:
    body = msgspec.json.encode({"model": "chat", "prompt": prompt, **more})
    return codec_of("openai_completions").read_call(body, {}, "/v1/completions")


def asked(call: Call) -> list[Any]:
    """All inputs of a call."""
    members = msgspec.json.decode(call.body)
    given = members["input" if call.dialect == "openai_embeddings" else "prompt"]
    return given if isinstance(given, list) and not isinstance(given[0], int) else [given]  # tokens are one input


def told(call: Call, dialect: Dialect = "openai_embeddings") -> bytes:
    """An answer that says of each input what it was; the last one first."""
    inputs = asked(call)
    tokens = sum(len(str(given)) for given in inputs)
    if call.dialect == "openai_embeddings":
        data = [{"object": "embedding", "index": index, "embedding": [given]} for index, given in enumerate(inputs)]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return msgspec.json.encode({"object": "list", "data": data[::-1], "model": "m", "usage": usage})
    choices = [{"index": index, "text": f"{given}!", "logprobs": None, "finish_reason": "stop"} for index, given in enumerate(inputs)]
    usage = {"prompt_tokens": tokens, "completion_tokens": 2 * len(inputs), "total_tokens": tokens + 2 * len(inputs)}
    return msgspec.json.encode(
        {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "choices": choices, "usage": usage}
    )


def answering(took_s: float = TOOK_S) -> Callable[[Call], Script]:
    return lambda call: Script((took_s,), (told(call),))


def refusing(*bad: Any, most: int = 1000, status: int = 400) -> Callable[[Call], Script]:
    """Finds fault with some inputs, or with more than so many."""

    def script(call: Call) -> Script:
        if len(asked(call)) > most or not {*asked(call)}.isdisjoint(bad):
            return fails(ProviderRefusedRequest("no", status=status, body=b"{}", content_type="application/json"), TOOK_S)
        return Script((TOOK_S,), (told(call),))

    return script


class Asked:
    """One request: its exchange, and its answer or its error."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.body: Any = None
        self.error: GatewayError | None = None
        self.at: float | None = None

    @property
    def said(self) -> list[Any]:
        if self.exchange.call.dialect == "openai_embeddings":
            results = sorted(self.body["data"], key=lambda item: item["index"])
            assert [item["index"] for item in results] == list(range(len(results)))
            return [item["embedding"][0] for item in results]
        return [choice["text"] for choice in self.body["choices"]]


class Merged(Stage):
    """Requests that come at given times."""

    def __init__(self, *names: Any, script: Scripts | None = None, **policies: Any) -> None:
        names = names or ("a",)
        super().__init__(route(*names, **{"fallback": NO_REPLY, "retries": ONCE, **policies}))
        self.script(a=script or answering())
        self.tasks: list[asyncio.Task[Asked]] = []

    async def answer(self, call: Call, timeout_s: float | None = None) -> Asked:
        exchange = self.exchange(call, timeout_s=timeout_s)
        result = Asked(exchange)
        plan = Plan(self.asked, self.planner.plan(exchange, self.asked).candidates)
        try:
            async with aclosing(self.loop.answer(exchange, plan)) as events:
                async for event in events:
                    assert isinstance(event, Whole)
                    result.body = msgspec.json.decode(event.body)
        except GatewayError as error:
            result.error = error
        result.at = now()
        return result

    def ask(self, *calls: Call, timeout_s: float | None = None) -> None:  # type: ignore[override]
        self.tasks += [asyncio.create_task(self.answer(call, timeout_s)) for call in calls]

    def run(self, story: Callable[[], Coroutine[Any, Any, None]]) -> list[Asked]:
        """What became of those that did not leave; nothing is left of any."""

        async def played() -> list[Asked]:
            self.tasks.clear()
            await story()
            ended = await asyncio.gather(*self.tasks, return_exceptions=True)
            await asyncio.sleep(WAIT_S)
            left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            assert not left, "nothing is called for nobody"
            return [asked for asked in ended if isinstance(asked, Asked)]

        asked = play(played)
        assert [known.load.in_flight for _, known in self.health.deployments()] == [0] * len(self.health.deployments())
        assert not self.loop._merging._lanes
        return asked

    def all_at_once(self, *calls: Call) -> list[Asked]:
        async def story() -> None:
            self.ask(*calls)

        return self.run(story)

    @property
    def sizes(self) -> list[int]:
        """Inputs of each call."""
        return [len(asked(received.call)) for received in self.provider.calls]


def embeddings(count: int, **more: Any) -> list[Call]:
    return [embedding(f"text {number}", **more) for number in range(count)]


# --- who gathers ------------------------------------------------------------------------------------------------------


def test_a_call_that_finds_nobody_goes_out_at_once_and_as_it_is() -> None:
    stage = Merged()
    call = embedding("alone", dimensions=3)
    (answered,) = stage.all_at_once(call)
    (received,) = stage.provider.calls
    assert (received.at, msgspec.json.decode(received.call.body)) == (0, msgspec.json.decode(call.body))
    assert answered.said == ["alone"]
    assert answered.exchange.attempts[0].shared_by == 1


def test_a_thousand_at_once_are_few_calls_and_everyone_has_its_own() -> None:
    stage = Merged()
    answered = stage.all_at_once(*embeddings(1000))
    assert stage.sizes == [1, *[50] * 19, 49]
    assert [one.said for one in answered] == [[f"text {number}"] for number in range(1000)]
    assert {one.exchange.attempts[0].shared_by for one in answered} == {1, 49, 50}
    assert {one.body["model"] for one in answered} == {"chat"}


def test_who_comes_while_one_is_under_way_waits_until_it_is_back() -> None:
    stage = Merged(script=answering(0.01))

    async def story() -> None:
        for call in embeddings(4):
            stage.ask(call)
            await asyncio.sleep(0.003)

    answered = stage.run(story)
    assert [received.at for received in stage.provider.calls] == pytest.approx([0, 0.01])
    assert stage.sizes == [1, 3]
    assert [one.at for one in answered] == pytest.approx([0.01, 0.02, 0.02, 0.02])


def test_and_not_longer_than_max_wait_ms() -> None:
    stage = Merged(script=answering(1.0))

    async def story() -> None:
        for call in embeddings(6):
            stage.ask(call)
            await asyncio.sleep(0.009)

    stage.run(story)
    # The second came at 9 ms, the fifth at 36 ms.
    assert [received.at for received in stage.provider.calls] == pytest.approx([0, 0.009 + WAIT_S, 0.036 + WAIT_S], abs=1e-4)
    assert stage.sizes == [1, 3, 2]


def test_a_call_is_as_large_as_max_size_allows() -> None:
    stage = Merged(batching=Batching(max_size=3))
    stage.all_at_once(*embeddings(8))
    assert stage.sizes == [1, 3, 3, 1]
    assert [received.at for received in stage.provider.calls] == pytest.approx([0, 0, 0, WAIT_S])


@pytest.mark.parametrize("batching", [Batching(max_wait_ms=0), Batching(max_size=1)])
def test_it_can_be_switched_off(batching: Batching) -> None:
    stage = Merged(batching=batching)
    stage.all_at_once(*embeddings(5))
    assert stage.sizes == [1] * 5
    assert {received.at for received in stage.provider.calls} == {0}


def test_a_provider_that_takes_one_input_gets_one() -> None:
    stage = Merged()
    stage.provider.merges = False
    stage.all_at_once(*embeddings(5))
    assert stage.sizes == [1] * 5


@pytest.mark.parametrize(
    "calls",
    [
        [embedding("a"), embedding("b", dimensions=8), embedding("c", dimensions=9)],
        [embedding("a", user="x"), embedding("b", user="y")],
        [embedding("a"), embedding([1, 2, 3])],
        [embedding("a"), completion("b")],
        [completion("a", seed=1), completion("b", seed=1)],
        [completion("a", n=2), completion("b", n=2)],
        [completion("a", best_of=2), completion("b", best_of=2)],
        [completion(["a", "b"]), completion(["c", "d"])],
    ],
    ids=["parameters", "users", "kinds", "endpoints", "seeds", "choices", "best of", "prompts"],
)
def test_what_differs_in_more_than_its_input_goes_alone(calls: list[Call]) -> None:
    stage = Merged()
    stage.all_at_once(*calls)
    assert len(stage.provider.calls) == len(calls)


@pytest.mark.parametrize("parameters", [{"default": {"n": 2}}, {"override": {"seed": 1}}])
def test_a_deployment_whose_parameters_forbid_it_gets_single_calls(parameters: dict[str, Any]) -> None:
    stage = Merged(deployment("a", **parameters))
    stage.all_at_once(completion("x"), completion("y"), completion("z"))
    assert stage.sizes == [1, 1, 1]


def test_requests_with_several_inputs_are_merged_too() -> None:
    stage = Merged(batching=Batching(max_size=6))
    inputs: list[Any] = ["first", ["a", "b"], "c", ["d", "e", "f"], ["g"] * 6]
    answered = stage.all_at_once(*map(embedding, inputs))
    assert sorted(stage.sizes) == [1, 6, 6]
    assert [one.said for one in answered] == [["first"], ["a", "b"], ["c"], ["d", "e", "f"], ["g"] * 6]


def test_tokens_are_one_input() -> None:
    answered = (stage := Merged()).all_at_once(embedding([1]), embedding([2, 3]), embedding([[4, 5], [6]]))
    assert stage.sizes == [1, 3]
    assert [one.said for one in answered] == [[[1]], [[2, 3]], [[4, 5], [6]]]


def test_completions_keep_their_texts_and_have_ids_of_their_own() -> None:
    answered = (stage := Merged()).all_at_once(*[completion(text, max_tokens=5) for text in "abc"])
    assert stage.sizes == [1, 2]
    assert [one.said for one in answered] == [["a!"], ["b!"], ["c!"]]
    assert [one.body["id"] for one in answered] == ["cmpl-1", "cmpl-1-0", "cmpl-1-1"]
    assert all(one.exchange.finish_reason == "stop" for one in answered)


# --- usage and cost ---------------------------------------------------------------------------------------------------


def test_usage_and_cost_are_shared_out_to_the_last_token() -> None:
    price = Price(input=1.0, output=2.0, request=0.001)
    stage = Merged(deployment("a", price=price))
    texts = ["x" * length for length in (1, 3, 50, 400, 7, 7)]
    answered = stage.all_at_once(*map(embedding, texts))
    shared = answered[1:]
    usages = [one.exchange.usage for one in shared]
    assert all(usages)
    assert sum(usage.input for usage in usages if usage) == sum(map(len, texts[1:]))
    assert [usage.input for usage in usages if usage] == [one.body["usage"]["prompt_tokens"] for one in shared]
    costs = [one.exchange.attempts[0].cost_usd or 0 for one in shared]
    assert sum(costs) == pytest.approx(sum(map(len, texts[1:])) / 1e6 + 0.001)


# --- bad inputs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 413, 422])
def test_one_bad_input_fails_alone(status: int) -> None:
    stage = Merged(script=refusing("text 33", status=status))
    answered = stage.all_at_once(*embeddings(51))
    assert [one.exchange.call.body for one in answered if one.error] == [embedding("text 33").body]
    assert isinstance(answered[33].error, ProviderRefusedRequest)
    assert all(one.said == [f"text {number}"] for number, one in enumerate(answered) if not one.error)
    assert len(stage.sizes) <= 2 + 2 * 6
    assert stage.loop._merging._learnt == {}


def test_who_leaves_is_not_taken_for_one_with_whom_nothing_was_wrong() -> None:
    stage = Merged(script=refusing("text 1"))

    async def story() -> None:
        stage.ask(*embeddings(3))
        await asyncio.sleep(WAIT_S + TOOK_S / 2)
        stage.tasks[1].cancel()

    answered = stage.run(story)
    assert [one.said for one in answered] == [["text 0"], ["text 2"]]
    assert stage.sizes == [1, 2, 1]
    assert stage.loop._merging._learnt == {}


def test_all_may_leave_at_any_moment() -> None:
    for tenth in range(60):
        stage = Merged(script=refusing("text 1", "text 4"))

        async def story(stage: Merged = stage, after_s: float = tenth * TOOK_S / 10) -> None:
            stage.ask(*embeddings(8))
            await asyncio.sleep(after_s)
            for task in stage.tasks:
                task.cancel()

        stage.run(story)


def test_each_error_is_ones_own() -> None:
    answered = Merged(script=fails(ProviderFault("down"), TOOK_S)).all_at_once(*embeddings(3))
    errors = [one.error for one in answered]
    assert all(isinstance(error, ProviderFault) for error in errors)
    assert len({id(error) for error in errors}) == 3


def test_how_many_a_deployment_takes_is_learnt_and_forgotten() -> None:
    stage = Merged(script=refusing(most=8))

    async def story() -> None:
        stage.ask(*embeddings(51))
        await asyncio.gather(*stage.tasks)
        assert stage.sizes[:4] == [1, 50, 25, 25]
        assert max(size for size in stage.sizes if size not in (50, 25, 12, 13)) <= 8
        stage.provider.calls.clear()
        stage.ask(*embeddings(51))
        await asyncio.gather(*stage.tasks)
        assert max(stage.sizes) <= 7
        await asyncio.sleep(LEARNT_S)
        stage.provider.calls.clear()
        stage.ask(*embeddings(51))

    answered = stage.run(story)
    assert not any(one.error for one in answered)
    assert max(stage.sizes) == 50


def test_a_provider_that_does_not_answer_every_input_is_asked_for_one_each_from_then_on() -> None:
    def first_only(call: Call) -> Script:
        return Script((TOOK_S,), (told(embedding(asked(call)[:1])),))

    stage = Merged(script=first_only, retries=Retries(max_attempts=2))
    answered = stage.all_at_once(*embeddings(10))
    assert stage.sizes == [1, 9, *[1] * 9]
    assert [one.said for one in answered] == [[f"text {number}"] for number in range(10)]


# --- faults -----------------------------------------------------------------------------------------------------------


def test_everyone_tries_again_after_a_fault_and_they_meet_again() -> None:
    turns = [answering()(embedding("text 0")), fails(ProviderFault("down"))]

    def script(call: Call) -> Script:
        return turns.pop(0) if turns else answering()(call)

    stage = Merged(script=script, retries=Retries(max_attempts=2))
    answered = stage.all_at_once(*embeddings(51))
    assert [one.said for one in answered] == [[f"text {number}"] for number in range(51)]
    assert [len(one.exchange.attempts) for one in answered] == [1, *[2] * 50]
    assert len(stage.sizes) < 20


def test_they_go_to_another_deployment() -> None:
    stage = Merged("a", "b", retries=Retries(max_attempts=2), script=fails(ProviderFault("down"), TOOK_S))
    stage.script(b=answering())
    answered = stage.all_at_once(*embeddings(51))
    assert not any(one.error for one in answered)
    assert {one.exchange.deployment for one in answered} == {"fake/b"}


def test_the_breaker_counts_calls_and_not_who_waits_for_them() -> None:
    stage = Merged(script=fails(ProviderFault("down"), TOOK_S), breaker=Breaker(consecutive_failures=3))
    stage.all_at_once(*embeddings(51))
    assert stage.sizes == [1, 50]
    assert stage.health.of("fake/a").breaker.state == "closed"
    stage.all_at_once(embedding("one more"))
    assert stage.health.of("fake/a").breaker.state == "open"


def test_a_refusal_for_load_is_told_once() -> None:
    stage = Merged(script=fails(ProviderRateLimited("slow down"), TOOK_S))
    answered = stage.all_at_once(*embeddings(51))
    assert all(isinstance(one.error, ProviderRateLimited) for one in answered)
    assert stage.health.of("fake/a").concurrency.limit is None, "two calls are no crowd"


# --- deadlines and those who leave ------------------------------------------------------------------------------------


def test_each_has_its_own_deadline_and_the_call_the_latest() -> None:
    stage = Merged(script=answering(1.0))

    async def story() -> None:
        stage.ask(embedding("first"))
        await asyncio.sleep(0.001)
        stage.ask(embedding("hasty"), timeout_s=0.5)
        stage.ask(embedding("patient"), timeout_s=30)

    _, hasty, patient = stage.run(story)
    assert isinstance(hasty.error, ProviderTimeout)
    assert hasty.error.kind == "total"
    assert hasty.at == pytest.approx(0.501)
    assert patient.said == ["patient"]
    usage = hasty.exchange.attempts[0].usage
    assert usage is not None
    assert usage.estimated, "it was asked for, and is billed"


def test_a_provider_that_hangs_is_told_to_its_breaker() -> None:
    stage = Merged(script=hangs(), timeouts=Timeouts(attempt_s=2), breaker=Breaker(consecutive_failures=2))
    answered = stage.all_at_once(*embeddings(10))
    assert all(isinstance(one.error, ProviderTimeout) for one in answered)
    assert stage.health.of("fake/a").breaker.state == "open"


def test_one_that_leaves_does_not_end_the_others() -> None:
    stage = Merged()

    async def story() -> None:
        stage.ask(*embeddings(4))
        await asyncio.sleep(WAIT_S + TOOK_S / 2)
        stage.tasks[2].cancel()

    answered = stage.run(story)
    assert [one.said for one in answered] == [["text 0"], ["text 1"], ["text 3"]]


def test_when_all_have_left_the_call_is_cancelled() -> None:
    stage = Merged(script=hangs())

    async def story() -> None:
        stage.ask(*embeddings(4))
        await asyncio.sleep(1)
        for task in stage.tasks:
            task.cancel()

    assert stage.run(story) == []
    assert stage.sizes == [1, 3]
    assert stage.health.of("fake/a").breaker.state == "closed"


def test_nothing_is_called_for_those_who_left_while_they_gathered() -> None:
    stage = Merged(script=answering(1.0))

    async def story() -> None:
        stage.ask(*embeddings(4))
        await asyncio.sleep(WAIT_S / 2)
        for task in stage.tasks[1:]:
            task.cancel()

    (first,) = stage.run(story)
    assert first.said == ["text 0"]
    assert stage.sizes == [1]


# --- room, hedges, other stages ---------------------------------------------------------------------------------------


def test_a_merged_call_takes_one_slot() -> None:
    stage = Merged(concurrency=Concurrency(max=2, queue_max=0))
    answered = stage.all_at_once(*embeddings(51))
    assert stage.sizes == [1, 50]
    assert not any(one.error for one in answered)


def test_a_hedge_is_merged_with_what_goes_to_the_other_deployment() -> None:
    stage = Merged("a", "b", retries=Retries(max_attempts=2), hedging=Hedging(enabled=True, max_share=1.0), script=answering())
    stage.script(b=answering())
    stage.all_at_once(*embeddings(30))
    stage.script(a=hangs())
    answered = stage.all_at_once(*embeddings(10))
    assert {one.exchange.deployment for one in answered} == {"fake/b"}
    assert [one.said for one in answered] == [[f"text {number}"] for number in range(10)]


def test_budgets_of_repeats_count_calls_and_not_who_waits_for_them() -> None:
    stage = Merged(script=fails(ProviderFault("down"), TOOK_S), retries=Retries(max_attempts=2))
    answered = stage.all_at_once(*embeddings(51))
    assert {len(one.exchange.attempts) for one in answered} == {2}
    total, repeats = stage.health.of("fake/a").repeats.counts(1.0)
    assert total == 2, "the lone call, and the shared one"
    assert repeats == pytest.approx(2)
