"""What the model says: the same for the same prompt and seed, of the length asked for, and as the request's options want it."""

from __future__ import annotations

import statistics
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from agent_gateway.core.call import Dialect
from agent_gateway.core.conversation import Conversation, Text, Turn
from agent_gateway.core.errors import BadRequest
from agent_gateway.simulator.rules import check
from agent_gateway.simulator.settings import SimulatorSettings
from tests.simulator.stage import FUNCTION, STEADY, answer_to, chat, reply_to, said_to, stream_of, tool

SPREAD = SimulatorSettings(output_tokens=50, output_spread=0.5)


def tool_calls(**fields: Any) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = answer_to(chat(**fields))["choices"][0]["message"]["tool_calls"]
    return calls


def test_the_same_prompt_and_seed_give_the_same_answer() -> None:
    assert said_to(chat(), SPREAD) == said_to(chat(), SPREAD)


@pytest.mark.parametrize(
    "other",
    [chat("How do I return two parcels?"), chat(seed=5), chat(model="gpt-4o"), chat("How do I return a parcel? ")],
    ids=["question", "seed", "model", "one space"],
)
def test_another_prompt_gives_another_answer(other: bytes) -> None:
    assert said_to(other, SPREAD) != said_to(chat(), SPREAD)


def test_another_seed_of_the_simulator_gives_another_answer() -> None:
    assert said_to(chat(), SimulatorSettings(seed=1)) != said_to(chat(), SimulatorSettings(seed=2))


def test_lengths_have_the_mean_and_spread_of_the_settings() -> None:
    lengths = [answer_to(chat(seed=seed), SPREAD)["usage"]["completion_tokens"] for seed in range(400)]
    assert statistics.mean(lengths) == pytest.approx(50, rel=0.1)
    assert statistics.stdev(lengths) == pytest.approx(25, rel=0.25)


@pytest.mark.parametrize(
    ("dialect", "field", "value", "most"),
    [
        ("gemini", "n", -1, 8),
        ("gemini", "n", 10**30, 8),
        ("openai_completions", "n", 129, 128),
        ("anthropic", "max_output_tokens", 0, 10**9),
        ("openai_chat", "max_output_tokens", 10**30, 10**9),
    ],
)
def test_what_no_provider_would_do_is_refused_as_they_do(dialect: Dialect, field: str, value: int, most: int) -> None:
    asked: dict[str, Any] = {"model": "m", "turns": (Turn("user", (Text("Hi"),)),), field: value}
    with pytest.raises(BadRequest, match=rf"{value} is not supported; the range is from 1 to {most}\.$"):
        check(Conversation(**asked), dialect)


def test_a_tool_that_takes_whatever_is_called_with_an_object() -> None:
    made = answer_to(chat("Use the tool", tools=[tool(description="takes whatever")], tool_choice="required"))
    assert msgspec.json.decode(made["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]) == {}


def test_usage_counts_the_prompt_and_the_pieces_sent() -> None:
    usage = answer_to(chat("x" * 400))["usage"]
    assert usage["prompt_tokens"] == 3 + 3 + 100
    assert usage["completion_tokens"] == 20
    assert usage["total_tokens"] == 126
    pieces = [event for event in stream_of(chat("x" * 400, stream=True))[:-1] if event["choices"][0]["delta"].get("content")]
    assert len(pieces) == 20


def test_tools_and_images_cost_prompt_tokens() -> None:
    plain = answer_to(chat("Hi"))["usage"]["prompt_tokens"]
    assert answer_to(chat("Hi", tools=[tool()]))["usage"]["prompt_tokens"] > plain + 20
    parts = [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": "data:"}}]
    body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": parts}]})
    assert answer_to(body)["usage"]["prompt_tokens"] > plain + 80


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_a_token_limit_ends_the_answer(field: str) -> None:
    limit: dict[str, Any] = {field: 4}
    answer = answer_to(chat(**limit))
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 4
    assert said_to(chat()).startswith(answer["choices"][0]["message"]["content"])


def test_a_limit_that_is_not_reached_changes_nothing() -> None:
    assert answer_to(chat(max_tokens=20))["choices"][0]["finish_reason"] == "stop"
    assert said_to(chat(max_tokens=20)) == said_to(chat())


@pytest.mark.parametrize("as_list", [False, True])
def test_a_stop_sequence_ends_the_answer_before_it(as_list: bool) -> None:
    whole = said_to(chat())
    stop = whole.split(" ")[3]
    answer = answer_to(chat(stop=["never", stop] if as_list else stop))
    assert answer["choices"][0]["message"]["content"] == whole[: whole.index(stop)]
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] < 20


def test_several_choices_differ_and_are_all_counted() -> None:
    answer = answer_to(chat(n=3))
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in answer["choices"]}) == 3
    assert answer["usage"]["completion_tokens"] == 60


def test_a_tool_is_called_with_valid_arguments() -> None:
    answer = answer_to(chat("What is the weather?", tools=[tool()]))
    choice = answer["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    (call,) = choice["message"]["tool_calls"]
    assert (call["type"], call["function"]["name"]) == ("function", "get_weather")
    assert call["id"].startswith("call_")
    Draft202012Validator(FUNCTION["parameters"]).validate(msgspec.json.decode(call["function"]["arguments"]))


def test_a_tool_without_parameters_is_called_with_none() -> None:
    (call,) = tool_calls(tools=[{"type": "function", "function": {"name": "now"}}])
    assert call["function"]["arguments"] == "{}"


@pytest.mark.parametrize(
    ("question", "fields", "called"),
    [
        ("Use book_hotel please", {}, ["book_hotel"]),
        ("get_weather, then book_hotel", {}, ["get_weather", "book_hotel"]),
        ("Do everything in parallel", {}, ["get_weather", "book_hotel"]),
        ("Do everything in parallel", {"parallel_tool_calls": False, "tool_choice": "required"}, None),
        ("get_weather", {"tool_choice": {"type": "function", "function": {"name": "book_hotel"}}}, ["book_hotel"]),
        (
            "Hi",
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {
                        "mode": "required",
                        "tools": [{"type": "function", "function": {"name": name}} for name in ("book_hotel", "get_weather")],
                    },
                }
            },
            None,
        ),
    ],
)
def test_which_tools_are_called(question: str, fields: dict[str, Any], called: list[str] | None) -> None:
    calls = tool_calls(question=question, tools=[tool(), tool("book_hotel")], **fields)
    if called is None:
        assert len(calls) == 1
    else:
        assert [call["function"]["name"] for call in calls] == called
    assert len({call["id"] for call in calls}) == len(calls)


def test_one_tool_is_called_twice_in_parallel() -> None:
    calls = tool_calls(question="Paris and London in parallel", tools=[tool()])
    assert [call["function"]["name"] for call in calls] == ["get_weather", "get_weather"]


@pytest.mark.parametrize(
    ("fields", "last"),
    [({"tool_choice": "none"}, []), ({}, [{"role": "tool", "tool_call_id": "call_1", "content": "Sunny"}])],
    ids=["forbidden", "after the result"],
)
def test_words_instead_of_a_tool_call(fields: dict[str, Any], last: list[dict[str, str]]) -> None:
    messages = [{"role": "user", "content": "What is the weather?"}, *last]
    body = msgspec.json.encode({"model": "m", "messages": messages, "tools": [tool()], **fields})
    assert answer_to(body)["choices"][0]["finish_reason"] == "stop"
    assert said_to(body)


def after_calls(*names: str, question: str = "What is the weather?", **fields: Any) -> dict[str, Any]:
    """The message that answers results of these tools, all called since the question."""
    calls = [{"id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": "{}"}} for name in names]
    results = [{"role": "tool", "tool_call_id": call["id"], "content": f"{call['id']} is done"} for call in calls]
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": None, "tool_calls": calls}, *results]
    tools = [tool(), tool("book_hotel"), tool("final_result")]
    message: dict[str, Any] = answer_to(msgspec.json.encode({"model": "m", "messages": messages, "tools": tools, **fields}))[
        "choices"
    ][0]["message"]
    return message


def test_results_are_told_again() -> None:
    said = after_calls("get_weather", "book_hotel")["content"]
    assert said.startswith("get_weather says: call_get_weather is done. book_hotel says: call_book_hotel is done. ")


@pytest.mark.parametrize(
    ("called", "fields", "calls"),
    [
        (["get_weather"], {"question": "First get_weather, then book_hotel"}, ["book_hotel"]),
        (["get_weather", "book_hotel"], {"question": "First get_weather, then book_hotel"}, None),
        (["get_weather"], {"question": "get_weather again and again"}, None),
        (["get_weather"], {"question": "All of them in parallel"}, None),
        (["get_weather", "book_hotel"], {"tool_choice": "required"}, ["final_result"]),
        (["get_weather"], {"tool_choice": "required", "question": "get_weather, book_hotel"}, ["book_hotel"]),
        (
            ["get_weather"],
            {"tool_choice": {"type": "function", "function": {"name": "get_weather"}}},
            ["get_weather"],
        ),
    ],
)
def test_what_is_called_after_results(called: list[str], fields: dict[str, Any], calls: list[str] | None) -> None:
    message = after_calls(*called, **fields)
    assert [call["function"]["name"] for call in message.get("tool_calls", ())] == (calls or [])
    assert bool(message["content"]) == (calls is None)


@pytest.mark.parametrize("length", [1, 10, 40])
def test_an_answer_that_was_begun_is_carried_on(length: int) -> None:
    whole = said_to(chat())
    messages = [{"role": "user", "content": "How do I return a parcel?"}, {"role": "assistant", "content": whole[:length]}]
    assert whole[:length] + said_to(msgspec.json.encode({"model": "gpt-4o-mini", "messages": messages})) == whole


def test_streamed_tool_calls_add_up_to_the_whole_answer() -> None:
    fields: dict[str, Any] = {"tools": [tool(), tool("book_hotel")], "question": "Both in parallel"}
    streamed: dict[int, dict[str, str]] = {}
    for event in stream_of(chat(stream=True, **fields))[:-1]:
        for delta in event["choices"][0]["delta"].get("tool_calls", ()):
            call = streamed.setdefault(delta["index"], {"name": "", "arguments": ""})
            call["name"] += delta["function"].get("name", "")
            call["arguments"] += delta["function"].get("arguments", "")
    assert list(streamed.values()) == [call["function"] for call in tool_calls(**fields)]


def test_json_mode_gives_an_object() -> None:
    assert set(msgspec.json.decode(said_to(chat(response_format={"type": "json_object"})))) == {"answer", "confidence", "tags"}


def test_a_json_schema_is_kept_to() -> None:
    schema = {
        "type": "object",
        "properties": {"steps": {"type": "array", "items": {"type": "string"}, "minItems": 2}, "done": {"type": "boolean"}},
        "required": ["steps", "done"],
        "additionalProperties": False,
    }
    response_format = {"type": "json_schema", "json_schema": {"name": "plan", "strict": True, "schema": schema}}
    Draft202012Validator(schema).validate(msgspec.json.decode(said_to(chat(response_format=response_format))))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "strnig"}}}},
            "response_format",
        ),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"tools": [tool(), tool("odd", type="object", required=["a"], additionalProperties=False)], "question": "odd"}, None),
        ({"tools": [tool()], "tool_choice": {"type": "function", "function": {"name": "nope"}}}, "tool_choice"),
        ({"n": 0}, "n"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_field(fields: dict[str, Any], param: str | None) -> None:
    reply = reply_to(chat(**fields))
    error = msgspec.json.decode(next(iter(reply.frames)).data)["error"]
    assert reply.status == 400
    assert error["type"] == "invalid_request_error"
    assert error["param"] == (param or "tools[1].function.parameters")


def test_answers_end_as_sentences_do() -> None:
    for tokens in range(2, 120):
        text = said_to(chat(), SimulatorSettings(output_tokens=tokens, output_spread=0))
        assert text.endswith("."), (tokens, text)
        assert answer_to(chat(), SimulatorSettings(output_tokens=tokens, output_spread=0))["usage"]["completion_tokens"] == tokens


def test_the_answer_is_about_the_question() -> None:
    assert "parcel" in said_to(chat("Where is my parcel?"), SimulatorSettings(output_tokens=200, output_spread=0))


def test_identity_of_an_answer() -> None:
    answers = [answer_to(chat(seed=seed)) for seed in (1, 2)]
    assert {answer["created"] for answer in answers} == {1_700_000_000}
    assert all(answer["id"].startswith("chatcmpl-") and answer["system_fingerprint"].startswith("fp_") for answer in answers)
    events = stream_of(chat(stream=True))[:-1]
    assert len({event["id"] for event in events}) == 1
    assert said_to(chat()) == "".join([event["choices"][0]["delta"].get("content", "") for event in events])
    assert STEADY.output_tokens == 20
