"""Several requests as one: what of them may differ, whose results are whose, and sums that are the provider's."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion, CreateEmbeddingResponse

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.errors import MalformedReply
from agent_gateway.protocols.base import codec_of
from agent_gateway.protocols.several import BODY_MAX_BYTES, Inputs, merged, read_inputs, share_out, split

encode = msgspec.json.encode


def embedding(given: Any, **more: Any) -> Call:
    return codec_of("openai_embeddings").read_call(encode({"model": "e", "input": given, **more}), {}, "")


def completion(prompt: Any, **more: Any) -> Call:
    return codec_of("openai_completions").read_call(encode({"model": "c", "prompt": prompt, **more}), {}, "")


def inputs_of(*calls: Call) -> list[Inputs]:
    read = [read_inputs(call) for call in calls]
    assert all(read)
    return [inputs for inputs in read if inputs]


# --- the request ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "values"),
    [
        (embedding("ü\n"), ["ü\n"]),
        (embedding(["a", "b"]), ["a", "b"]),
        (embedding([1, 2]), [[1, 2]]),
        (embedding([[1], [2, 3]]), [[1], [2, 3]]),
        (completion("once"), ["once"]),
        (completion(["once"]), ["once"]),
        (completion([7, 8]), [[7, 8]]),
        (completion("x", n=1, best_of=None, seed=None), ["x"]),
    ],
)
def test_the_inputs_of_a_request(call: Call, values: list[Any]) -> None:
    (inputs,) = inputs_of(call)
    assert [msgspec.json.decode(value) for value in inputs.values] == values
    assert msgspec.json.decode(merged(call, [inputs]).body) == msgspec.json.decode(call.body) | {
        "prompt" if call.dialect == "openai_completions" else "input": values
    }


@pytest.mark.parametrize(
    "call",
    [
        completion(["a", "b"]),
        completion("a", n=2),
        completion("a", best_of=3),
        completion("a", seed=1),
        completion("a", stream=True),
        embedding("x" * BODY_MAX_BYTES),
    ],
)
def test_what_goes_alone(call: Call) -> None:
    assert read_inputs(call) is None


def test_what_else_is_asked_has_to_be_the_same() -> None:
    one, same, other = inputs_of(embedding("a", dimensions=2, x=None), embedding("b", x=None, dimensions=2), embedding("c", dimensions=3))
    tokens, text = inputs_of(embedding([1]), embedding("a"))
    assert one.parameters == same.parameters != other.parameters
    assert tokens.parameters != text.parameters, "OpenAI refuses a mixture"


# --- the answer -------------------------------------------------------------------------------------------------------


def embedded(*vectors: bytes, usage: bytes = b'{"prompt_tokens":7,"total_tokens":7}', order: list[int] | None = None) -> bytes:
    items = [b'{"object": "embedding","index":%d,"embedding":%b}' % (index, vector) for index, vector in enumerate(vectors)]
    data = b",".join([items[index] for index in order or range(len(items))])
    return b'{"object":"list","data":[%b],"model":"e-1","new":{"x":1.50},"usage":%b}' % (data, usage)


def test_results_go_to_whom_they_belong_byte_for_byte() -> None:
    vectors = [b"[0.10,-1e-7]", b"[ 2E+1 ]", b"[3]"]
    several = inputs_of(embedding("a"), embedding(["b", "c"]))
    first, second = split(embedded(*vectors, order=[2, 0, 1]), "openai_embeddings", several)
    assert b'"index":0,"embedding":[0.10,-1e-7]' in first
    assert b'"index":0,"embedding":[ 2E+1 ]' in second
    assert b'"index":1,"embedding":[3]' in second
    for part in (first, second):
        assert b'"model":"e-1","new":{"x":1.50}' in part
        CreateEmbeddingResponse.model_validate_json(part)


def test_results_without_an_index_stand_in_order() -> None:
    body = encode({"data": [{"embedding": [1]}, {"embedding": [2]}]})
    parts = [msgspec.json.decode(part) for part in split(body, "openai_embeddings", inputs_of(embedding("a"), embedding("b")))]
    assert [part["data"][0]["embedding"] for part in parts] == [[1], [2]]
    assert not any("usage" in part for part in parts)


@pytest.mark.parametrize(
    "body",
    [
        embedded(b"[1]"),
        embedded(b"[1]", b"[2]", b"[3]"),
        embedded(b"[1]", b"[2]", order=[0, 0]),
        encode({"data": [{"index": 1, "embedding": []}, {"index": 2, "embedding": []}]}),
        b'{"data": {"0": 1}}',
        b'{"data": [[1], [2]]}',
        b"[]",
        b"not json",
    ],
)
def test_an_answer_that_has_not_one_result_for_each_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedReply):
        split(body, "openai_embeddings", inputs_of(embedding("a"), embedding("b")))


def test_completions_are_told_apart() -> None:
    choices = [{"index": index, "text": text, "logprobs": None, "finish_reason": "stop"} for index, text in enumerate(["x" * 40, ""])]
    details = {"cached_tokens": 3, "audio_tokens": None}
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 11,
        "total_tokens": 20,
        "prompt_tokens_details": details,
        "cost": 0.5,
        "is_byok": True,
    }
    body = encode({"id": "cmpl-9", "object": "text_completion", "created": 1, "model": "m", "choices": choices, "usage": usage})
    several = inputs_of(completion("short"), completion("long " * 20))
    parts = split(body, "openai_completions", several)
    told = [Completion.model_validate_json(part) for part in parts]
    assert [(one.id, one.choices[0].index, one.choices[0].text) for one in told] == [("cmpl-9-0", 0, "x" * 40), ("cmpl-9-1", 0, "")]
    usages = [msgspec.json.decode(part)["usage"] for part in parts]
    assert [one["completion_tokens"] for one in usages] == [11, 0]
    assert usages[0]["prompt_tokens"] < usages[1]["prompt_tokens"]
    assert [one["total_tokens"] for one in usages] == [one["prompt_tokens"] + one["completion_tokens"] for one in usages]
    assert sum(one["cost"] for one in usages) == pytest.approx(0.5)
    assert all(one["is_byok"] is True and one["prompt_tokens_details"]["audio_tokens"] is None for one in usages)


# --- sums -------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**9), st.lists(st.integers(0, 10**6), min_size=1, max_size=60))
def test_shares_add_up_and_are_as_near_as_can_be(amount: int, weights: list[int]) -> None:
    shares = share_out(amount, weights)
    assert sum(shares) == amount
    whole = sum(weights) or len(weights)
    for share, weight in zip(shares, weights if sum(weights) else [1] * len(weights), strict=True):
        assert abs(share - amount * weight / whole) < 1


@given(st.lists(st.text(min_size=1, max_size=30), min_size=2, max_size=12), st.data())
def test_whatever_was_counted_adds_up_and_no_one_cached_more_than_it_asked(texts: list[str], data: st.DataObject) -> None:
    prompt = data.draw(st.integers(0, 500))
    cached = data.draw(st.integers(0, prompt))
    written = data.draw(st.integers(0, prompt - cached))
    details = {"cached_tokens": cached, "cache_write_tokens": written, "deep": {"er": prompt}}
    usage = encode({"prompt_tokens": prompt, "total_tokens": prompt, "prompt_tokens_details": details})
    dialect: Dialect = "openai_embeddings"
    parts = split(embedded(*[b"[1]"] * len(texts), usage=usage), dialect, inputs_of(*map(embedding, texts)))
    shares = [msgspec.json.decode(part)["usage"] for part in parts]
    assert sum(share["prompt_tokens"] for share in shares) == prompt
    assert sum(share["prompt_tokens_details"]["deep"]["er"] for share in shares) == prompt
    told = [share["prompt_tokens_details"] for share in shares]
    assert (sum(one["cached_tokens"] for one in told), sum(one["cache_write_tokens"] for one in told)) == (cached, written)
    for share, one in zip(shares, told, strict=True):
        assert share["total_tokens"] == share["prompt_tokens"] >= one["cached_tokens"] + one["cache_write_tokens"]
