"""A stream that broke off is carried on as if nothing had been: the same text, one id, one model, all of it billed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.core.call import Call
from agent_gateway.core.errors import ConnectionCut, LowQuality, ProviderError, ProviderFault
from agent_gateway.core.exchange import Attempt, Exchange
from agent_gateway.core.route import Deployment
from agent_gateway.core.settings import Fallback, Quality, Retries, Streaming
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.base import codec_of
from agent_gateway.protocols.estimate import estimate_input_tokens, text_tokens
from agent_gateway.upstream.hedge import LOST_RACE
from agent_gateway.upstream.recovery import OVERLAP_MAX, OVERLAP_MIN, Overlap, used_so_far
from agent_gateway.wire.sse import DONE, data_frame
from tests.upstream.stage import Outcome, Script, Stage, answers, call, deployment, fails, frame, frames, route, streams, wire_usage

CUT = ConnectionCut("cut")
TOKENS = [f"tok{number} " for number in range(200)]
TEXT = "".join(TOKENS)


# --- the overlap ------------------------------------------------------------------------------------------------------


def trimmed(text: str, pieces: list[str]) -> str:
    overlap = Overlap(text)
    return "".join([*map(overlap.feed, pieces), overlap.end()])


def longest_repetition(text: str, more: str) -> int:
    """As the promise reads: the longest beginning of `more` with which `text` ends."""
    lengths = range(OVERLAP_MIN, min(len(text), len(more), OVERLAP_MAX) + 1)
    return max((length for length in lengths if text.endswith(more[:length])), default=0)


words = st.text(alphabet="ab ", min_size=1, max_size=60)


@given(words, words)
def test_what_is_repeated_is_taken_away_and_nothing_else(text: str, more: str) -> None:
    assert trimmed(text, [more]) == more[longest_repetition(text, more) :]


@given(st.text(alphabet="abc ", min_size=1, max_size=600), st.integers(0, 500), st.text(max_size=40), st.data())
def test_piece_by_piece_is_the_same_as_whole(text: str, back: int, fresh: str, data: st.DataObject) -> None:
    more = (text[-back:] if back else "") + fresh
    cuts = sorted(data.draw(st.lists(st.integers(0, len(more)), max_size=8)))
    pieces = [more[start:end] for start, end in zip([0, *cuts], [*cuts, len(more)], strict=True)]
    assert trimmed(text, pieces) == trimmed(text, [more]) == more[longest_repetition(text, more) :]


@given(st.text(alphabet="abcdefghij", min_size=OVERLAP_MIN, max_size=80), st.integers(OVERLAP_MIN, 80), st.text(alphabet="XYZ"))
def test_a_repetition_of_ten_characters_or_more_is_never_seen(text: str, back: int, fresh: str) -> None:
    assert trimmed(text, [text[-back:] + fresh]) == fresh


def test_less_may_be_chance_and_stays() -> None:
    assert trimmed("and so it goes", [" it goes", " on"]) == " it goes on"


def test_nothing_is_held_longer_than_it_may_be_a_repetition() -> None:
    overlap = Overlap("the quick brown fox")
    assert overlap.feed("something else") == "something else"
    assert overlap.feed("brown fox") == "brown fox"


# --- the call ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("style", "turn", "extra"),
    [
        ("plain", {}, {}),
        ("prefix", {"prefix": True}, {}),
        ("continue_final_message", {}, {"continue_final_message": True, "add_generation_prompt": False}),
    ],
)
def test_the_answer_so_far_is_told_in_the_deployments_way(style: Any, turn: dict[str, Any], extra: dict[str, Any]) -> None:
    asked = call(stream=True, max_tokens=100, temperature=0.5)
    told = codec_of("openai_chat").continued(asked, "x" * 40, Deployment("p/m", "p", "m", prefill=style))
    members = msgspec.json.decode(told.body)
    assert members["messages"] == [{"role": "user", "content": "hi there"}, {"role": "assistant", "content": "x" * 40, **turn}]
    assert members["max_tokens"] == 90
    assert members["temperature"] == 0.5
    assert {name: members[name] for name in extra} == extra
    assert msgspec.json.decode(asked.body)["max_tokens"] == 100


def test_a_limit_that_is_used_up_leaves_one_token() -> None:
    told = codec_of("openai_chat").continued(call(max_completion_tokens=5), "x" * 400, Deployment("p/m", "p", "m"))
    assert msgspec.json.decode(told.body)["max_completion_tokens"] == 1


# --- the whole way ----------------------------------------------------------------------------------------------------


def stage(*, fallback: bool = False, **policies: Any) -> Stage:
    if fallback:
        spare = route(deployment("b", prefill="plain"), name="spare")
        return Stage(route("a", fallbacks=("spare",), **policies), spare)
    return Stage(route("a", deployment("b", prefill="plain"), **policies))


def broken(sent: int, error: Exception = CUT) -> Script:
    """So many tokens of the answer, then the end."""
    return Script((), (*frames(TOKENS)[: sent + 1], error))


def carries_on(repeats: int = 0, *, until: int | None = None, whole_reads: bool = False) -> Callable[[Call], Script]:
    """A model that completes the last message, perhaps saying the last few tokens again; perhaps it breaks off itself."""

    def script(asked: Call) -> Script:
        last = msgspec.json.decode(asked.body)["messages"][-1]
        assert last["role"] == "assistant"
        said = len(last["content"].split())
        assert last["content"] == "".join(TOKENS[:said])
        pieces = TOKENS[max(said - repeats, 0) : until]
        told = frames(pieces, usage=(30, len(pieces)), answer_id="b")
        if until is not None:
            return Script((), (*told[: len(pieces) + 1], CUT))
        return Script((), (b"".join(told),) if whole_reads else tuple(told))

    return script


def tell(stage: Stage, **members: Any) -> Outcome:
    return stage.tell(call(stream=True, stream_options={"include_usage": True}, **members))


def assert_one_answer(outcome: Outcome) -> None:
    assert outcome.text == TEXT
    assert outcome.done
    assert (outcome.error, outcome.failure) == (None, None)
    assert {(chunk["id"], chunk["model"]) for chunk in outcome.chunks} == {("a", "chat")}
    roles = [choice["delta"]["role"] for chunk in outcome.chunks for choice in chunk["choices"] if choice["delta"].get("role")]
    assert roles == ["assistant"]
    ends = [choice["finish_reason"] for chunk in outcome.chunks for choice in chunk["choices"] if choice.get("finish_reason")]
    assert ends == ["stop"]


@pytest.mark.parametrize(("repeats", "whole_reads"), [(0, False), (3, False), (50, True)])
def test_a_stream_cut_at_each_position_is_one_answer(repeats: int, whole_reads: bool) -> None:
    # One token alone is shorter than a repetition that is looked for.
    for sent in range(2 if repeats else 1, len(TOKENS) + 1):
        outcome = tell(stage().script(a=broken(sent), b=carries_on(repeats, whole_reads=whole_reads)))
        assert_one_answer(outcome)
        first, second = outcome.exchange.attempts
        assert (first.outcome, second.outcome) == ("provider_connection_cut", "success")
        assert (outcome.exchange.status, outcome.exchange.reason) == ("success", "recovered")
        assert first.usage is not None
        assert second.usage is not None
        assert first.usage.estimated
        assert first.usage.output == text_tokens("".join(TOKENS[:sent]))
        used = first.usage + second.usage
        assert outcome.chunks[-1]["usage"]["prompt_tokens"] == used.input
        assert outcome.chunks[-1]["usage"]["completion_tokens"] == used.output
        assert outcome.chunks[-1]["usage"]["total_tokens"] == used.total
        assert outcome.exchange.usage == used


def test_a_second_break_is_carried_on_too() -> None:
    for sent in range(2, 120, 7):
        chain = route("a", deployment("b", prefill="plain"), deployment("c", prefill="plain"))
        outcome = tell(Stage(chain).script(a=broken(sent), b=carries_on(2, until=130), c=carries_on(2)))
        assert_one_answer(outcome)
        used = sum((attempt.usage for attempt in outcome.exchange.attempts if attempt.usage), Usage())
        assert len(outcome.exchange.attempts) == 3
        assert outcome.exchange.usage == used
        first, second, _ = outcome.exchange.attempts
        assert first.usage is not None
        assert second.usage is not None
        assert first.usage.output + second.usage.output == text_tokens("".join(TOKENS[:130]))


def test_the_one_that_broke_off_may_carry_on_itself() -> None:
    alone = Stage(route(deployment("a", prefill="plain")))
    first, rest = [broken(50)], carries_on()
    outcome = tell(alone.script(a=lambda asked: first.pop() if first else rest(asked)))
    assert_one_answer(outcome)


def test_a_fallback_that_carries_on_is_told() -> None:
    outcome = tell(stage(fallback=True).script(a=broken(9), b=carries_on()))
    assert_one_answer(outcome)
    assert (outcome.exchange.status, outcome.exchange.reason) == ("fallback", "recovered")


def test_a_continuation_that_fails_to_begin_leaves_it_to_the_next() -> None:
    chain = route("a", deployment("b", prefill="plain"), deployment("c", prefill="plain"))
    outcome = tell(Stage(chain).script(a=broken(9), b=fails(ProviderFault("down")), c=carries_on()))
    assert_one_answer(outcome)


def test_an_error_that_comes_with_the_last_text_in_one_read_loses_none_of_it() -> None:
    error = data_frame(b'{"error": {"message": "boom"}}')
    told = frames(TOKENS)
    for sent in range(2, 12):
        script = Script((), (*told[:sent], b"".join([told[sent], told[sent + 1], error])))
        assert_one_answer(tell(stage().script(a=script, b=carries_on())))


def test_frames_that_carry_more_than_text_are_continued_under_their_id() -> None:
    """Some servers tell the usage so far in every chunk."""
    told = [frame({"content": token}, usage=wire_usage(10, number)) for number, token in enumerate(TOKENS[:5])]
    outcome = tell(stage().script(a=Script((), (frames([])[0], *told, CUT)), b=carries_on()))
    assert_one_answer(outcome)


def test_a_begun_json_answer_is_continued_though_the_rest_does_not_begin_as_json() -> None:
    script = Script((), (*frames(['{"name": ', '"x", '])[:3], CUT))
    outcome = tell(stage().script(a=script, b=streams('"age"', ": 3}", answer_id="b")), response_format={"type": "json_object"})
    assert (outcome.text, outcome.done) == ('{"name": "x", "age": 3}', True)


def test_what_is_held_back_as_a_possible_repetition_is_not_lost_without_a_finish_reason() -> None:
    said = "".join(TOKENS[:30])
    told = [frame({"content": said[20:40]}, answer_id="b"), DONE]
    outcome = tell(stage().script(a=broken(30), b=Script((), tuple(told))))
    assert outcome.text == said + said[20:40]
    assert {chunk["id"] for chunk in outcome.chunks} == {"a"}


# --- what is not continued --------------------------------------------------------------------------------------------


def tool(arguments: str) -> bytes:
    function = {"name": "f", "arguments": arguments}
    return frame({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]})


@pytest.mark.parametrize(
    "told",
    [
        [tool('{"a"')],
        [frame({"content": "Let me see."}), tool('{"a"')],
        [frame({"content": "Let me see."}), frame({"refusal": "no"})],
        [frame({"reasoning_content": "hm"}), frame({"content": "So"})],
        [frame({"content": "All."}), frame({}, finish="stop")],
    ],
    ids=["tool call", "text and tool call", "refusal", "reasoning", "ended"],
)
def test_only_text_that_has_not_ended_is_continued(told: list[bytes]) -> None:
    outcome = tell(stage().script(a=Script((), (*told, CUT)), b=streams("never")))
    assert (outcome.tried, outcome.failure, outcome.done) == (["a"], CUT, False)


def test_two_choices_at_once_are_not_continued() -> None:
    other = data_frame(msgspec.json.encode({"id": "a", "model": "m", "choices": [{"index": 1, "delta": {"content": "x"}}]}))
    outcome = tell(stage().script(a=Script((), (*frames(["one"])[:2], other, CUT)), b=streams("never")))
    assert (outcome.tried, outcome.failure) == (["a"], CUT)


@pytest.mark.parametrize(
    ("policies", "prefill"),
    [
        ({"streaming": Streaming(recovery="error")}, "plain"),
        ({"streaming": Streaming(recovery="restart")}, "plain"),
        ({"retries": Retries(max_attempts=1)}, "plain"),
        ({}, None),
    ],
    ids=["error", "restart", "no attempt left", "none that could"],
)
def test_where_it_may_not_or_cannot_be_the_error_is_told(policies: dict[str, Any], prefill: Any) -> None:
    chain = route("a", deployment("b", prefill=prefill), **policies)
    outcome = tell(Stage(chain).script(a=broken(9), b=carries_on()))
    assert (outcome.tried, outcome.text, outcome.done, outcome.failure) == (["a"], "".join(TOKENS[:9]), False, CUT)


def test_a_model_whose_streaming_is_off_is_not_asked() -> None:
    spare = route(deployment("b", prefill="plain"), name="spare", streaming=Streaming(enabled=False))
    outcome = tell(Stage(route("a", fallbacks=("spare",)), spare).script(a=broken(9), b=answers("never")))
    assert (outcome.tried, outcome.failure) == (["a"], CUT)


def test_when_nobody_carries_on_the_first_error_is_told() -> None:
    outcome = tell(stage().script(a=broken(9), b=fails(ProviderFault("down"))))
    assert (outcome.tried, outcome.failure, outcome.done) == (["a", "b"], CUT, False)


# --- billing ----------------------------------------------------------------------------------------------------------


def test_only_attempts_whose_text_was_sent_are_counted_into_the_answer() -> None:
    exchange = Exchange(id="req_1", call=call(stream=True), started=0, started_wall=0, attempts=[])
    exchange.attempts += [
        Attempt("a", 0, first_token=1, outcome=LowQuality.code),
        Attempt("b", 0, first_token=1, outcome=LOST_RACE, usage=Usage(input=99)),
        Attempt("c", 0, outcome=ProviderError.code),
        Attempt("d", 0, first_token=1, outcome=ConnectionCut.code),
    ]
    used = used_so_far(exchange, "x" * 40)
    assert used == Usage(input=estimate_input_tokens(exchange.call), output=10, estimated=True)
    assert exchange.attempts[3].usage == used
    assert exchange.attempts[0].usage is None


def test_an_answer_that_was_rejected_before_is_not_billed_as_the_one_that_broke() -> None:
    chain = route("a", "b", deployment("c", prefill="plain"), fallback=Fallback(quality=Quality()))
    asked = {"response_format": {"type": "json_object"}}
    script = Script((), (*frames(['{"a": ', "1, "])[:3], CUT))
    outcome = tell(Stage(chain).script(a=streams("Sure"), b=script, c=streams('"b": 2}', answer_id="b", usage=(30, 4))), **asked)
    assert (outcome.text, outcome.tried) == ('{"a": 1, "b": 2}', ["a", "b", "c"])
    assert outcome.exchange.attempts[1].usage is not None
    assert outcome.exchange.attempts[1].usage.output == text_tokens('{"a": 1, ')
