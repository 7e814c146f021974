"""Turns taken out of requests and answers of every protocol, and put back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.conversation import Turn
from agent_gateway.core.delta import (
    ArgumentsDelta,
    Delta,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallStarted,
    Used,
)
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.base import AnswerHead, codec_of
from agent_gateway.protocols.turns import TURNS, Turns, turns_of

HEAD = AnswerHead("abc123", 1_700_000_000, "m")
ANSWER: list[Delta] = [
    Started(),
    ReasoningDelta("Let me ", origin="anthropic"),
    ReasoningDelta("think.", origin="anthropic"),
    ReasoningDelta(signature="c2lnbmVk", origin="anthropic"),
    TextDelta("I ask "),
    TextDelta("a tool."),
    ToolCallStarted(0, "call_1", "look_up"),
    ArgumentsDelta(0, '{"name": '),
    ArgumentsDelta(0, '"gate\\"way"}'),
    Finished("tool_calls"),
    Used(Usage(input=3, output=4)),
]
#: Spacing and members that nobody here knows, to be kept as they are.
BODIES: dict[Dialect, tuple[str, list[str]]] = {
    "openai_chat": (
        '{"model": "m",  "new_field": {"messages": 1}, "messages": [%s], "temperature": 0.10 }',
        ['{"role":  "system", "content": "be brief"}', '{"role": "user","content":"ü \\u00fc", "x": 1.50}'],
    ),
    "openai_responses": (
        '{"model": "m", "input": [%s], "new_field": [1,  2]}',
        ['{"role": "developer", "content": "be brief"}', '{"type": "message",  "role": "user", "content": "ü"}'],
    ),
    "anthropic": (
        '{"model": "m", "max_tokens": 5, "messages": [%s], "system": "be  brief"}',
        ['{"role": "user", "content": [{"type": "text",  "text": "ü"}]}'],
    ),
    "gemini": (
        '{"contents": [%s], "generationConfig": {"topK": 4.0}}',
        ['{"role": "user", "parts": [{"text":  "ü"}]}'],
    ),
}
PATH = "/v1beta/models/m:streamGenerateContent?alt=sse"

every_dialect = pytest.mark.parametrize("dialect", TURNS.table)


def turns(dialect: Dialect) -> Turns:
    found = turns_of(dialect)
    assert found is not None
    return found


def call(dialect: Dialect, *turns: str) -> Call:
    return codec_of(dialect).read_call((BODIES[dialect][0] % ", ".join(turns)).encode(), {}, PATH)


def said(one: Call, answer: Sequence[bytes]) -> tuple[Turn, ...]:
    """What a provider of another protocol is told when the answer is sent again."""
    again = codec_of(one.dialect).read_conversation(turns(one.dialect).put(one, [*turns(one.dialect).of(one), *answer]))
    assert not again.beyond
    return again.turns


@every_dialect
def test_the_turns_of_a_request_are_its_own_bytes_and_so_are_those_put_back(dialect: Dialect) -> None:
    asked = BODIES[dialect][1]
    one = call(dialect, *asked)
    assert turns(dialect).of(one) == [turn.encode() for turn in asked]
    put = turns(dialect).put(one, [*turns(dialect).of(one), turns(dialect).said("and so on")])
    assert turns(dialect).of(put)[:-1] == [turn.encode() for turn in asked]
    before, after = msgspec.json.decode(one.body, type=dict[str, msgspec.Raw]), msgspec.json.decode(put.body, type=dict[str, msgspec.Raw])
    (changed,) = [name for name in before if before[name] != after[name]]
    assert changed in ("messages", "input", "contents")
    assert list(before) == list(after)


@every_dialect
def test_the_kinds_of_turns(dialect: Dialect) -> None:
    kinds = [turns(dialect).kind(turn) for turn in turns(dialect).of(call(dialect, *BODIES[dialect][1]))]
    assert kinds[-1] == "user"
    assert kinds[:-1] == ["system"] * (len(kinds) - 1)
    assert turns(dialect).kind(turns(dialect).said("hello")) == "assistant"


@pytest.mark.parametrize(
    ("dialect", "turn"),
    [
        ("openai_chat", '{"role":"tool","tool_call_id":"a","content":"7"}'),
        ("openai_responses", '{"type":"function_call_output","call_id":"a","output":"7"}'),
        ("anthropic", '{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"7"}]}'),
        ("gemini", '{"role":"user","parts":[{"functionResponse":{"name":"a","response":{}}}]}'),
        ("gemini", '{"parts":{"function_response":{"name":"a","response":{}}}}'),
    ],
)
def test_results_of_tools_are_told_from_what_users_say(dialect: Dialect, turn: str) -> None:
    assert turns(dialect).kind(turn.encode()) == "results"


@pytest.mark.parametrize(
    ("dialect", "turn"),
    [
        ("anthropic", '{"role":"user","content":"what is a \\"tool_result\\"?"}'),
        ("gemini", '{"role":"user","parts":[{"text":"\\"functionResponse\\""}]}'),
    ],
)
def test_words_are_no_results(dialect: Dialect, turn: str) -> None:
    assert turns(dialect).kind(turn.encode()) == "user"


@pytest.mark.parametrize(("dialect", "needs"), [("openai_chat", '[{"type":"image_url","image_url":{"url":"https://x/y.png"}}]')])
def test_a_call_needs_what_the_turns_put_in_need(dialect: Dialect, needs: str) -> None:
    one = call(dialect, '{"role":"user","content":"hi"}')
    assert not one.needs
    assert turns(dialect).put(one, [f'{{"role":"user","content":{needs}}}'.encode()]).needs == {"vision"}


@every_dialect
@pytest.mark.parametrize("framing", ["sse", "json_array"])
@given(data=st.data())
def test_a_stream_gives_the_turns_that_the_whole_answer_gives(dialect: Dialect, framing: Any, data: st.DataObject) -> None:
    if framing == "json_array" and dialect != "gemini":
        return
    one = msgspec.structs.replace(call(dialect, BODIES[dialect][1][-1]), framing=framing, stream=True)
    whole = turns(dialect).answer(codec_of(dialect).write_answer(HEAD, ANSWER, one))
    writer = codec_of(dialect).stream_writer(HEAD, one)
    stream = writer.write(ANSWER) + writer.end()
    collector = turns(dialect).collector(one)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        assert not collector.done or start == len(stream)
        collector.feed(stream[start:end])
    assert collector.done == (dialect != "gemini" or framing == "json_array")
    assert said(one, collector.turns()) == said(one, whole)
    if dialect != "gemini":  # whose parts come and stay apart
        assert [msgspec.json.decode(turn) for turn in collector.turns()] == [msgspec.json.decode(turn) for turn in whole]
    assert collector.text() == "I ask a tool."


@every_dialect
def test_an_answer_that_is_sent_again_says_what_it_said(dialect: Dialect) -> None:
    one = call(dialect, BODIES[dialect][1][-1])
    answer = turns(dialect).answer(codec_of(dialect).write_answer(HEAD, ANSWER, one))
    reasoning, text, use = said(one, answer)[-1].parts
    assert (reasoning.text, reasoning.signature, reasoning.origin) == ("Let me think.", "c2lnbmVk", "anthropic")  # type: ignore[union-attr]
    assert text.text == "I ask a tool."  # type: ignore[union-attr]
    assert msgspec.json.decode(use.arguments) == {"name": 'gate"way'}  # type: ignore[union-attr]


@every_dialect
def test_an_answer_that_says_nothing_is_no_turn(dialect: Dialect) -> None:
    one = call(dialect, BODIES[dialect][1][-1])
    body = codec_of(dialect).write_answer(HEAD, [Started(), Finished("stop")], one)
    assert turns(dialect).answer(body) == []


def test_members_that_a_provider_added_stay_in_a_chat_answer_but_not_what_nobody_takes_back() -> None:
    tool = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": {"google": {"sig": "x"}}}
    message = {"role": "assistant", "content": None, "refusal": None, "annotations": [1], "tool_calls": [tool]}
    (turn,) = turns("openai_chat").answer(msgspec.json.encode({"choices": [{"index": 0, "message": message}]}))
    assert msgspec.json.decode(turn) == {"role": "assistant", "content": None, "tool_calls": [tool]}
    collector = turns("openai_chat").collector(call("openai_chat", BODIES["openai_chat"][1][-1]))
    for delta in (
        {"role": "assistant", "tool_calls": [{"index": 0, **tool}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": " "}}]},
    ):
        collector.feed(b"data: %b\n\n" % msgspec.json.encode({"choices": [{"index": 0, "delta": delta}]}))
    assert msgspec.json.decode(collector.turns()[0])["tool_calls"] == [{**tool, "function": {"name": "f", "arguments": "{} "}}]


def test_thoughts_in_plain_words_go_back_only_with_calls_of_tools() -> None:
    def kept(**more: Any) -> dict[str, Any]:
        message = {"role": "assistant", "content": "x", "reasoning_content": "hm", **more}
        (turn,) = turns("openai_chat").answer(msgspec.json.encode({"choices": [{"index": 0, "message": message}]}))
        told: dict[str, Any] = msgspec.json.decode(turn)
        return told

    assert "reasoning_content" not in kept()
    assert kept(tool_calls=[{"id": "a"}])["reasoning_content"] == "hm"


def test_blocks_of_every_kind_stay_in_an_anthropic_answer() -> None:
    blocks = [
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"encrypted_content": "abc"}]},
        {"type": "text", "text": ""},
        {"type": "text", "text": "", "citations": []},
    ]
    deltas: list[tuple[int, dict[str, Any]]] = [
        (0, {"type": "input_json_delta", "partial_json": '{"query": 1.'}),
        (0, {"type": "input_json_delta", "partial_json": "0}"}),
        (3, {"type": "citations_delta", "citation": {"url": "u"}}),
        (3, {"type": "text_delta", "text": "found"}),
    ]
    events = [{"type": "content_block_start", "index": index, "content_block": block} for index, block in enumerate(blocks)]
    events += [{"type": "content_block_delta", "index": index, "delta": delta} for index, delta in deltas]
    collector = turns("anthropic").collector(call("anthropic", BODIES["anthropic"][1][-1]))
    for event in [*events, {"type": "message_stop"}]:
        collector.feed(b"event: x\ndata: %b\n\n" % msgspec.json.encode(event))
    assert collector.done
    (turn,) = collector.turns()
    assert b'"input":{"query": 1.0}' in turn
    assert [block["type"] for block in msgspec.json.decode(turn)["content"]] == ["server_tool_use", "web_search_tool_result", "text"]
    assert msgspec.json.decode(turn)["content"][-1] == {"type": "text", "text": "found", "citations": [{"url": "u"}]}


def test_protocols_without_conversations_have_no_turns() -> None:
    without = set(get_args(Dialect)) - set(TURNS.table)
    assert without == {"openai_completions", "openai_embeddings", "anthropic_count"}
    assert all(turns_of(dialect) is None for dialect in without)


def test_no_more_marks_for_the_cache_are_put_than_anthropic_takes_and_the_newest_stay() -> None:
    def marked(text: str) -> bytes:
        block = {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}
        return msgspec.json.encode({"role": "user", "content": [block]})

    one = call("anthropic", BODIES["anthropic"][1][-1])
    few, many = ([marked(f"{n}") for n in range(number)] for number in (4, 6))
    spoken = turns("anthropic")
    assert spoken.of(spoken.put(one, few)) == few
    put = spoken.of(spoken.put(one, many))
    assert put[2:] == many[2:]
    assert [msgspec.json.decode(turn) for turn in put[:2]] == [
        {"role": "user", "content": [{"type": "text", "text": text}]} for text in "01"
    ]
