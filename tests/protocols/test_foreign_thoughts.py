"""A client that spoke with one provider and goes on with another: what the first signed never reaches the second, who would refuse it."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.route import Deployment
from agent_gateway.protocols.base import codec_of

DEPLOYMENT = Deployment("p/theirs", "p", "theirs")
GEMINI_3 = Deployment("g/gemini-3-pro", "g", "gemini-3-pro")
ARGUMENTS = {"a": 1.50}
TOOL = {"type": "tool_use", "id": "t", "name": "f", "input": ARGUMENTS}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "agw^ no"}]}
FOREIGN = {"type": "thinking", "thinking": "hm", "signature": "agw^openai_chat:"}
OWN = {"type": "thinking", "thinking": "hm", "signature": "EqQB"}
HIDDEN = {"type": "redacted_thinking", "data": "agw^openai_responses:x"}


def passed(dialect: Dialect, body: dict[str, Any], deployment: Deployment = DEPLOYMENT) -> dict[str, Any]:
    call = Call(dialect, "ours", msgspec.json.encode(body))
    read: dict[str, Any] = msgspec.json.decode(codec_of(dialect).pass_request(call, deployment))
    return read


def anthropic(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return passed("anthropic", {"model": "ours", "max_tokens": 9, "messages": [{"role": "user", "content": "agw^ hi"}, *messages], **more})


def assistant(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": [*blocks]}


def test_anthropic_gets_its_own_thoughts_only() -> None:
    sent = anthropic(assistant(FOREIGN, HIDDEN, TOOL), RESULT, assistant(OWN, TOOL), RESULT, assistant(FOREIGN))
    assert sent["messages"][1:] == [assistant(TOOL), RESULT, assistant(OWN, TOOL), RESULT]
    assert sent["model"] == "theirs"


@pytest.mark.parametrize(
    ("blocks", "kept"),
    [
        ([FOREIGN, TOOL], False),
        ([FOREIGN, OWN, TOOL], True),
    ],
)
def test_a_budget_is_left_out_where_the_turn_then_begins_without_a_thought(blocks: list[dict[str, Any]], kept: bool) -> None:
    budget = {"type": "enabled", "budget_tokens": 1024}
    sent = anthropic(assistant(*blocks), RESULT, thinking=budget)
    assert sent.get("thinking") == (budget if kept else None)
    assert anthropic(assistant(*blocks), RESULT, thinking={"type": "adaptive"})["thinking"] == {"type": "adaptive"}
    assert anthropic(assistant(*blocks), RESULT, {"role": "user", "content": "And?"}, thinking=budget)["thinking"] == budget


@pytest.mark.parametrize("messages", ["agw^", [1], [{"role": 1, "content": [{"signature": "agw^x:y"}]}]])
def test_what_is_anthropics_to_refuse_goes_there_as_it_came(messages: Any) -> None:
    mark = {"type": "thinking", "signature": "agw^openai_chat:"}
    assert passed("anthropic", {"model": "ours", "messages": messages, "x": mark})["messages"] == messages


def test_gemini_gets_its_own_thoughts_only() -> None:
    seal = base64.b64encode(b'agw^anthropic:["sig",null,null]').decode()
    own = {"text": "x", "thoughtSignature": "c2ln"}
    contents: list[dict[str, Any]] = [
        {"role": "user", "parts": [{"text": "YWd3X"}]},
        {"role": "model", "parts": [{"text": "hm", "thought": True, "thoughtSignature": seal}, own]},
        {"role": "model", "parts": [{"thought": True, "thought_signature": seal}]},
    ]
    sent = passed("gemini", {"contents": contents, "generationConfig": {"topK": 2}})
    assert sent == {"contents": [contents[0], {"role": "model", "parts": [own]}], "generationConfig": {"topK": 2}}
    lone = {"contents": {"role": "user", "parts": {"text": "YWd3X", "thoughtSignature": seal}}}
    assert passed("gemini", lone) == lone


@pytest.mark.parametrize("name", ["functionCall", "function_call"])
def test_gemini_3_gets_no_unsigned_calls(name: str) -> None:
    """Of the calls of one turn it signs the first."""
    text = {"text": '"functionCall": '}
    call, other = {name: {"name": "f", "args": {"a": 1.50}}}, {name: {"name": "g", "args": {}}}
    result = {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"functionCall": 1}}}]}
    signed = {"role": "model", "parts": [text, call | {"thoughtSignature": "c2ln"}, other]}
    turn: dict[str, Any] = {"role": "model", "parts": [text, call, other]}
    contents = [{"role": "user", "parts": [text]}, turn, result, signed, result]
    body = {"contents": contents, "generationConfig": {"topK": 2}}
    stands_in = call | {"thoughtSignature": "skip_thought_signature_validator"}
    expected = [contents[0], {"role": "model", "parts": [text, stands_in, other]}, *contents[2:]]
    assert passed("gemini", body, GEMINI_3) == body | {"contents": expected}
    assert passed("gemini", body) == body
    turn["parts"][1] = call | {"thought_signature": None}
    assert passed("gemini", body, GEMINI_3) == body | {"contents": expected}


@pytest.mark.parametrize(
    "contents",
    [
        b'{"role": "user", "parts": {"functionCall": {"name": "f"}}}',
        b'[{"role": "model", "parts": {"functionCall": {"name": "f"}}}]',
        b'[{"role": "model", "parts": [7, {"functionCall": 1.50}]}]',
        b'[ {"role": "model", "parts": [{"functionCall": {"args": 1.50}, "thoughtSignature": "c2ln"}]} ]',
    ],
)
def test_what_gemini_3_signed_or_is_its_to_refuse_goes_there_byte_for_byte(contents: bytes) -> None:
    body = b'{ "contents": %b, "x": 1.50 }' % contents
    assert codec_of("gemini").pass_request(Call("gemini", "ours", body), GEMINI_3) == body


def test_chat_providers_get_no_details_of_others() -> None:
    foreign = {"type": "reasoning.text", "text": "Hm", "signature": "agw^anthropic:s", "index": 0}
    hidden = {"type": "reasoning.encrypted", "data": "agw^openai_responses:s", "index": 1}
    own = {"type": "reasoning.encrypted", "data": "s", "index": 2}
    said = {"role": "assistant", "content": "agw^ so", "reasoning_content": "Hm"}
    messages = [
        {"role": "user", "content": "agw^"},
        said | {"reasoning_details": [foreign, hidden]},
        said | {"reasoning_details": [foreign, own]},
    ]
    sent = passed("openai_chat", {"model": "ours", "messages": messages})
    assert sent["messages"] == [messages[0], said, said | {"reasoning_details": [own]}]
