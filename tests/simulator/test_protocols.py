"""One model behind every protocol: the same words, times and faults, whichever it is asked in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.core.call import Dialect
from agent_gateway.core.delta import (
    ArgumentsDelta,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallStarted,
    Used,
)
from agent_gateway.core.errors import EmptyReply, MalformedReply, ProviderError
from agent_gateway.protocols.base import codec_of
from agent_gateway.simulator.settings import SimulatorSettings
from agent_gateway.simulator.simulator import Reply, Simulator
from tests.simulator.stage import FUNCTION, STEADY, Time, body_of

Ask = Callable[..., dict[str, Any]]


def openai_chat(question: str, *, thinks: bool = False, tools: bool = False) -> dict[str, Any]:
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": question}]}
    body |= {"reasoning_effort": "low"} if thinks else {}
    return body | ({"tools": [{"type": "function", "function": FUNCTION}]} if tools else {})


def openai_responses(question: str, *, thinks: bool = False, tools: bool = False) -> dict[str, Any]:
    body: dict[str, Any] = {"model": "m", "input": [{"role": "user", "content": question}]}
    body |= {"reasoning": {"effort": "low", "summary": "auto"}} if thinks else {}
    return body | ({"tools": [{"type": "function", **FUNCTION}]} if tools else {})


def anthropic(question: str, *, thinks: bool = False, tools: bool = False) -> dict[str, Any]:
    body: dict[str, Any] = {"model": "m", "max_tokens": 4096, "messages": [{"role": "user", "content": question}]}
    body |= {"thinking": {"type": "enabled", "budget_tokens": 1024}} if thinks else {}
    return body | ({"tools": [{"name": "get_weather", "input_schema": FUNCTION["parameters"]}]} if tools else {})


def gemini(question: str, *, thinks: bool = False, tools: bool = False) -> dict[str, Any]:
    body: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": question}]}]}
    thinking = {"thinkingConfig": {"thinkingBudget": 1024, "includeThoughts": True}}
    body |= {"generationConfig": thinking} if thinks else {}
    declared = {"name": "get_weather", "parametersJsonSchema": FUNCTION["parameters"]}
    return body | ({"tools": [{"functionDeclarations": [declared]}]} if tools else {})


ASKS: dict[Dialect, Ask] = {
    "openai_chat": openai_chat,
    "openai_responses": openai_responses,
    "anthropic": anthropic,
    "gemini": gemini,
}
every_protocol = pytest.mark.parametrize("dialect", ASKS)
thinking = pytest.mark.parametrize("thinks", [False, True], ids=["at once", "after a thought"])
calling = pytest.mark.parametrize("tools", [False, True], ids=["text", "tools"])
both_ways = pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])


def reply(
    dialect: Dialect,
    question: str = "How do I return a parcel?",
    *,
    stream: bool = False,
    steering: str = "",
    settings: SimulatorSettings = STEADY,
    thinks: bool = False,
    tools: bool = False,
) -> Reply:
    body = ASKS[dialect](question, thinks=thinks, tools=tools)
    if stream and dialect != "gemini":
        body |= {"stream": True} | ({"stream_options": {"include_usage": True}} if dialect == "openai_chat" else {})
    path = f"/v1beta/models/m:{'streamGenerateContent?alt=sse' if stream else 'generateContent'}" if dialect == "gemini" else ""
    return Simulator(settings, Time().clock).reply(dialect, msgspec.json.encode(body), steering, path)


def told(dialect: Dialect, reply: Reply, *, stream: bool) -> list[Any]:
    """The deltas, by the codec's provider side."""
    codec = codec_of(dialect)
    if not stream:
        return list(codec.read_answer(body_of(reply)))
    reader = codec.stream_reader()
    deltas = [delta for frame in reply.frames for delta in reader.feed(frame.data)]
    reader.finish()
    return list(deltas)


def words(deltas: list[Any]) -> tuple[str, str, str, list[str]]:
    """Thought, text, arguments, and the names of the tools."""
    return (
        "".join([delta.text for delta in deltas if isinstance(delta, ReasoningDelta)]),
        "".join([delta.text for delta in deltas if isinstance(delta, TextDelta)]),
        "".join([delta.arguments for delta in deltas if isinstance(delta, ArgumentsDelta)]),
        [delta.name for delta in deltas if isinstance(delta, ToolCallStarted)],
    )


def usage_of(deltas: list[Any]) -> Any:
    return [delta.usage for delta in deltas if isinstance(delta, Used)][-1]


@thinking
@calling
@both_ways
def test_the_same_is_said_in_every_protocol(thinks: bool, tools: bool, stream: bool) -> None:
    answers = {
        dialect: told(dialect, reply(dialect, stream=stream, thinks=thinks, tools=tools), stream=stream) for dialect in ASKS
    }
    thought, text, arguments, names = words(answers["anthropic"])
    assert (bool(thought), bool(text), bool(names)) == (thinks, not tools, tools)
    for dialect, deltas in answers.items():
        said = words(deltas)
        assert said[1] == text, dialect
        assert said[3] == names, dialect
        assert (msgspec.json.decode(said[2]) if said[2] else None) == (msgspec.json.decode(arguments) if arguments else None), (
            dialect
        )
        assert said[0] == thought, dialect


@thinking
@calling
@every_protocol
def test_usage_is_the_same_streamed_and_whole(dialect: Dialect, thinks: bool, tools: bool) -> None:
    whole = usage_of(told(dialect, reply(dialect, thinks=thinks, tools=tools), stream=False))
    assert whole == usage_of(told(dialect, reply(dialect, stream=True, thinks=thinks, tools=tools), stream=True))
    assert whole.output > whole.reasoning >= 0
    assert (whole.reasoning > 0) == thinks


@every_protocol
@both_ways
def test_it_takes_the_same_time(dialect: Dialect, stream: bool) -> None:
    answer = reply(dialect, stream=stream)
    assert answer.opens_at_s == pytest.approx(0.1 if stream else 0.1 + 19 * 0.01)
    assert [*answer.frames][-1].at_s == pytest.approx(0.1 + 19 * 0.01)


@every_protocol
@both_ways
@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 429, 500, 503, 529])
def test_a_failure_has_its_status_and_an_error_body(dialect: Dialect, stream: bool, status: int) -> None:
    failed = reply(dialect, stream=stream, steering=f"fail-{status}")
    assert (failed.status, failed.ending) == (status, "complete")
    error = msgspec.json.decode(body_of(failed))["error"]
    assert "simulated" in error["message"]
    if dialect == "gemini":
        assert error["code"] == status
    waits = dict(failed.headers).get("retry-after")
    assert waits == ("1" if status == 429 and dialect != "gemini" else None)


@every_protocol
@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_cut_counts_frames_and_leaves_no_end(dialect: Dialect, after: int) -> None:
    whole = [frame.data for frame in reply(dialect, stream=True).frames]
    cut = reply(dialect, stream=True, steering=f"cut-{after}")
    assert [frame.data for frame in cut.frames] == whole[:after]
    assert cut.ending == "cut"
    assert all(data.endswith(b"\n\n") and data.count(b"\n\n") == 1 for data in whole)


@every_protocol
@calling
def test_chance_cuts_before_the_end(dialect: Dialect, tools: bool) -> None:
    settings = msgspec.structs.replace(STEADY, cut_rate=1)
    for seed in range(40):
        cut = reply(dialect, stream=True, tools=tools, settings=msgspec.structs.replace(settings, seed=seed))
        with pytest.raises((MalformedReply, EmptyReply)):
            told(dialect, cut, stream=True)


@every_protocol
@both_ways
def test_garbage_is_of_no_protocol(dialect: Dialect, stream: bool) -> None:
    with pytest.raises(MalformedReply):
        told(dialect, reply(dialect, stream=stream, steering="garbage"), stream=stream)


@every_protocol
@both_ways
def test_an_error_inside_an_answer_is_one_to_the_codec(dialect: Dialect, stream: bool) -> None:
    with pytest.raises(ProviderError) as caught:
        told(dialect, reply(dialect, stream=stream, steering="error-in-stream-4"), stream=stream)
    assert not isinstance(caught.value, MalformedReply)


@every_protocol
@both_ways
def test_an_empty_answer_says_nothing(dialect: Dialect, stream: bool) -> None:
    try:
        deltas = told(dialect, reply(dialect, stream=stream, steering="empty"), stream=stream)
    except EmptyReply:
        return
    said = [delta for delta in deltas if not isinstance(delta, Started | Used | Finished)]
    assert all(isinstance(delta, TextDelta | RefusalDelta) and not delta.text for delta in said)


@every_protocol
@given(question=st.text(min_size=1, max_size=40))
def test_any_question_is_answered(dialect: Dialect, question: str) -> None:
    answer = reply(dialect, question)
    assert answer.status == 200, body_of(answer)
    assert words(told(dialect, answer, stream=False))[1]


def test_a_path_that_is_no_method_of_geminis_is_not_found() -> None:
    body = msgspec.json.encode(gemini("Hi"))
    refused = Simulator(STEADY, Time().clock).reply("gemini", body, path="/v1beta/models/m:forgetContent")
    assert (refused.status, msgspec.json.decode(body_of(refused))["error"]["status"]) == (404, "NOT_FOUND")
