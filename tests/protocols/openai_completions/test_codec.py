"""Legacy completions: read and written for the SDK, and translated where one prompt of text is all that is asked."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, structs
from openai.types import Completion

from agent_gateway.core.call import Call
from agent_gateway.core.conversation import (
    Conversation,
    Image,
    JsonFormat,
    Media,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    Turn,
)
from agent_gateway.core.delta import (
    ArgumentsDelta,
    Delta,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallStarted,
    Used,
)
from agent_gateway.core.errors import BadRequest, EmptyReply, GatewayError, MalformedReply, NotExpressible, ProviderFault
from agent_gateway.core.route import Deployment
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.base import AnswerHead, codec_of
from agent_gateway.protocols.openai_completions.codec import DROPPED, REFUSED
from agent_gateway.wire.sse import DONE, FrameSplitter, frame_data
from tests.kit.samples import sse
from tests.protocols.conversations import Expressible, answers, cut, fold

codec = codec_of("openai_completions")
HEAD = AnswerHead("abc123", 1_700_000_000, "the-model", "fp_1")
CALL = Call("openai_completions", "the-model", b"{}", wants_usage=True)
DEPLOYMENT = Deployment("p/m", "p", "m")


def asked(**members: Any) -> Call:
    return codec.read_call(msgspec.json.encode({"model": "m", "prompt": "Once", **members}), {}, "/v1/completions")


def read(**members: Any) -> Conversation:
    return codec.read_conversation(asked(**members))


def written(conversation: Conversation) -> dict[str, Any]:
    request: dict[str, Any] = msgspec.json.decode(codec.write_request(conversation, DEPLOYMENT))
    return request


# --- requests ---------------------------------------------------------------------------------------------------------


def test_what_the_gateway_acts_on() -> None:
    call = asked(stream=True, stream_options={"include_usage": True}, max_tokens=5, user="u", echo="odd")
    assert (call.dialect, call.model, call.stream, call.wants_usage) == ("openai_completions", "m", True, True)
    assert (call.max_output_tokens, call.user, call.conversational) == (5, "u", True)
    assert asked(max_tokens=0).max_output_tokens is None


@pytest.mark.parametrize("prompt", ["a", "", ["a"], ["a", "b"], [1, 2], [[1], [2]]])
def test_every_form_of_prompt_passes(prompt: Any) -> None:
    call = asked(prompt=prompt, suffix="b", best_of=3, echo=True)
    assert msgspec.json.decode(codec.pass_request(call, Deployment("p/n", "p", "n"))) == {
        **msgspec.json.decode(call.body),
        "model": "n",
    }


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"model": ""}, "model"),
        ({"stream": 1}, "stream"),
    ],
)
def test_a_bad_request_names_its_field(members: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        asked(**members)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1]]}, "prompt"),
        ({"suffix": "b"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"echo": True}, "echo"),
        ({"logit_bias": {"1": 1}}, "logit_bias"),
    ],
)
def test_what_only_completions_have_is_named(members: dict[str, Any], path: str) -> None:
    assert read(**members).beyond == (path,)


def test_what_asks_for_nothing_special_is_not() -> None:
    assert read(prompt=["a"], suffix="", best_of=1, echo=False, logit_bias={}).beyond == ()


PARAMETERS = {
    "temperature": st.sampled_from([0.0, 0.5]),
    "top_p": st.sampled_from([0.0, 0.5]),
    "presence_penalty": st.sampled_from([0.0, 0.5]),
    "frequency_penalty": st.sampled_from([0.0, 0.5]),
    "seed": st.integers(0, 9),
    "n": st.integers(1, 9),
    "max_output_tokens": st.integers(1, 99),
    "stream": st.booleans(),
    "user": st.text(max_size=3),
    "stop": st.lists(st.text(min_size=1, max_size=3), max_size=4).map(tuple),
    "logprobs": st.just(True),
}


@given(st.text(), st.fixed_dictionaries({}, optional=PARAMETERS), st.none() | st.integers(1, 5))
def test_a_conversation_of_one_prompt_keeps_its_meaning(
    prompt: str, parameters: dict[str, Any], top_logprobs: int | None
) -> None:
    if "logprobs" in parameters:
        parameters["top_logprobs"] = top_logprobs
    conversation = Conversation(model="m", turns=(Turn("user", (Text(prompt),)),), **parameters)
    body = codec.write_request(conversation, DEPLOYMENT)
    again = codec.read_conversation(Call("openai_completions", "m", body))
    assert structs.replace(again, paths={}) == conversation
    assert again.path("turns") == "prompt"


HI = Turn("user", (Text("Hi"),))
PLAIN = Conversation(model="m", turns=(HI,))
TOOL = Tool("f")
REFUSED_FOR = {
    "turns": structs.replace(PLAIN, turns=(HI, Turn("assistant", (Text("Hello"),)))),
    "tools": structs.replace(PLAIN, tools=(TOOL,)),
    "tool_choice": structs.replace(PLAIN, tool_choice=ToolChoice("required")),
    "format": structs.replace(PLAIN, format=JsonFormat()),
    "top_k": structs.replace(PLAIN, top_k=3),
    "stop": structs.replace(PLAIN, stop=tuple("abcde")),
    "beyond": structs.replace(PLAIN, beyond=("x",)),
}
DROPPED_BY = {
    "metadata": structs.replace(PLAIN, metadata={"a": "b"}),
    "cache_for": structs.replace(PLAIN, turns=(Turn("user", (Text("Hi", "5m"),)),)),
    "thinking": structs.replace(PLAIN, thinking=Thinking("high")),
    "Turn.name": structs.replace(PLAIN, turns=(Turn("user", (Text("Hi"),), "Ada"),)),
    "parallel_tools": structs.replace(PLAIN, parallel_tools=True),
}


def test_the_tables_are_complete() -> None:
    assert REFUSED.keys() == REFUSED_FOR.keys()
    assert DROPPED.keys() == DROPPED_BY.keys()
    told = {"model", "paths", "top_logprobs", *PARAMETERS}
    assert set(Conversation.__struct_fields__) - told == {field for field in (*REFUSED, *DROPPED) if hasattr(PLAIN, field)} - {
        "stop"
    }


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_refused_is_named(name: str) -> None:
    with pytest.raises(NotExpressible) as caught:
        written(structs.replace(REFUSED_FOR[name], paths={name: "the.clients.name"}))
    assert caught.value.param == ("x" if name == "beyond" else "the.clients.name")


@pytest.mark.parametrize("name", sorted(DROPPED))
def test_what_is_dropped_leaves_no_trace(name: str) -> None:
    assert DROPPED_BY[name] != PLAIN
    assert written(DROPPED_BY[name]) == written(PLAIN) == {"model": "m", "prompt": "Hi"}


def test_a_picture_is_no_prompt() -> None:
    with pytest.raises(NotExpressible):
        written(structs.replace(PLAIN, turns=(Turn("user", (Text("Hi"), Image(Media(url="x")))),)))


def test_the_deployments_parameters_are_in_it() -> None:
    body = codec.write_request(PLAIN, Deployment("p/m", "p", "m", default={"top_p": 0.5}, override={"seed": 1}))
    assert msgspec.json.decode(body) == {"model": "m", "prompt": "Hi", "top_p": 0.5, "seed": 1}


@pytest.mark.parametrize("prompt", ["Once", ["Once"]])
def test_an_answer_is_carried_on_from_a_longer_prompt(prompt: Any) -> None:
    call = codec.continued(asked(prompt=prompt, max_tokens=9, odd=1), " upon a", DEPLOYMENT)
    assert msgspec.json.decode(call.body) == {"model": "m", "prompt": "Once upon a", "max_tokens": 7, "odd": 1}
    with pytest.raises(NotExpressible):
        codec.continued(asked(prompt=[1, 2]), " upon a", DEPLOYMENT)


def test_the_same_call_in_one_piece() -> None:
    whole = codec.as_unary(asked(stream=True, stream_options={"include_usage": True}))
    assert (whole.stream, msgspec.json.decode(whole.body)) == (False, {"model": "m", "prompt": "Once"})


# --- answers ----------------------------------------------------------------------------------------------------------

ALL = Expressible(
    tools=False, choices_max=3, finish_reasons=("stop", "length", "content_filter"), cache_write=True, reasoning_tokens=True
)


@given(st.data(), answers(ALL))
def test_answers_say_the_same_whole_and_streamed_however_they_are_split(data: st.DataObject, deltas: list[Delta]) -> None:
    writer, reader = codec.stream_writer(HEAD, CALL), codec.stream_reader()
    stream = b"".join([writer.write([delta]) for delta in deltas]) + writer.end()
    streamed = [delta for piece in data.draw(cut(stream)) for delta in reader.feed(piece)]
    reader.finish()
    whole = codec.write_answer(HEAD, deltas, CALL)
    meant = structs.replace(fold(deltas), started=Started("cmpl-abc123", "the-model", 1_700_000_000, "fp_1"))
    assert fold(streamed) == fold(codec.read_answer(whole)) == meant
    Completion.model_validate_json(whole)
    for frame in FrameSplitter.split(stream)[:-1]:
        chunk = msgspec.json.decode(frame_data(frame) or b"")
        for choice in chunk["choices"]:  # the SDK's one type is that of whole answers, which have a reason
            choice["finish_reason"] = choice["finish_reason"] or "stop"
        Completion.model_validate(chunk)


def test_what_has_no_place_is_left_out_and_every_word_is_told() -> None:
    deltas: list[Delta] = [
        Started(),
        ReasoningDelta("Hm"),
        TextDelta("a"),
        ToolCallStarted(0, "x", "f"),
        ArgumentsDelta(0, "{}"),
        RefusalDelta(" no"),
        Finished("refusal"),
    ]
    choice = msgspec.json.decode(codec.write_answer(HEAD, deltas, CALL))["choices"][0]
    assert choice == {"index": 0, "text": "a no", "logprobs": None, "finish_reason": "stop"}
    writer = codec.stream_writer(HEAD, CALL)
    (streamed,) = fold(_read(writer.write(deltas) + writer.end())).choices
    assert (streamed.text, streamed.finish_reason) == ("a no", "stop")


def _read(stream: bytes) -> list[Delta]:
    reader = codec.stream_reader()
    deltas = reader.feed(stream)
    reader.finish()
    return deltas


LOGPROBS = {
    "tokens": ["On", "ce"],
    "token_logprobs": [-0.5, -1.0],
    "top_logprobs": [{"On": -0.5, "A": -2.0}, {}],
    "text_offset": [0, 2],
}
#: The same in chat's way, which completions know less of.
TOKENS: list[dict[str, Any]] = [
    {
        "token": "On",
        "logprob": -0.5,
        "bytes": None,
        "top_logprobs": [{"token": "On", "logprob": -0.5, "bytes": None}, {"token": "A", "logprob": -2.0, "bytes": None}],
    },
    {"token": "ce", "logprob": -1.0, "bytes": None, "top_logprobs": []},
]


def test_logprobs_are_told_in_both_ways() -> None:
    body = msgspec.json.encode({"choices": [{"index": 0, "text": "Once", "logprobs": LOGPROBS, "finish_reason": "stop"}]})
    deltas = codec.read_answer(body)
    assert fold(deltas).choices[0].logprobs == tuple([Raw(msgspec.json.encode(token)) for token in TOKENS])
    assert msgspec.json.decode(codec.write_answer(HEAD, deltas, CALL))["choices"][0]["logprobs"] == LOGPROBS
    writer = codec.stream_writer(HEAD, CALL)
    texts: list[Delta] = [TextDelta(token["token"], logprobs=Raw(msgspec.json.encode([token]))) for token in TOKENS]
    offsets = [
        msgspec.json.decode(frame_data(frame) or b"")["choices"][0]["logprobs"]["text_offset"]
        for frame in FrameSplitter.split(writer.write(texts))
    ]
    assert offsets == [[0], [2]]


def test_the_first_token_of_an_echo_has_no_probability() -> None:
    told = {"tokens": ["On"], "token_logprobs": [None], "top_logprobs": None, "text_offset": [0]}
    body = msgspec.json.encode({"choices": [{"text": "On", "logprobs": told, "finish_reason": "stop"}]})
    assert fold(codec.read_answer(body)).choices[0].logprobs == (
        Raw(b'{"token":"On","logprob":0.0,"bytes":null,"top_logprobs":[]}'),
    )


def test_usage_is_told_to_those_who_asked() -> None:
    deltas: list[Delta] = [TextDelta("a"), Finished("stop"), Used(Usage(input=1, output=2))]
    for call, told in ((CALL, True), (structs.replace(CALL, wants_usage=False), False)):
        writer = codec.stream_writer(HEAD, call)
        stream = writer.write(deltas) + writer.end()
        assert (b'"usage"' in stream) is told
        assert (b'"total_tokens":3' in stream) is told


FRAME = sse({"id": "cmpl-1", "model": "m", "choices": [{"index": 0, "text": "a", "finish_reason": None}]})


def test_only_the_name_changes() -> None:
    assert codec.renamed(FRAME, "new") == FRAME.replace(b'"m"', b'"new"')


def test_a_reason_that_was_left_out_is_made_up_at_the_end() -> None:
    assert _read(FRAME + DONE)[-1] == Finished("stop")


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (b"", EmptyReply),
        (FRAME, MalformedReply),
        (FRAME + sse({"error": {"message": "no"}}), ProviderFault),
        (FRAME + b"data: {nope\n\n", MalformedReply),
    ],
)
def test_what_is_no_answer_is_refused(stream: bytes, error: type[GatewayError]) -> None:
    with pytest.raises(error):
        _read(stream)


@pytest.mark.parametrize(
    ("body", "error"),
    [(b'{"error":{"message":"no"}}', ProviderFault), (b'{"choices":[]}', EmptyReply), (b"<html>", MalformedReply)],
)
def test_a_body_that_is_no_answer_is_refused(body: bytes, error: type[GatewayError]) -> None:
    with pytest.raises(error):
        codec.read_answer(body)


def test_errors_are_openais() -> None:
    assert msgspec.json.decode(codec.write_error(BadRequest("no", param="prompt"), "req_1"))["error"]["param"] == "prompt"
    frame = codec.write_stream_error(ProviderFault("no"), "req_1", "small")
    assert msgspec.json.decode(frame_data(frame) or b"")["error"]["fallback_model"] == "small"
