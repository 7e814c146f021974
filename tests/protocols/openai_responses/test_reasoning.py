"""A native thought comes back as it was, a foreign one with its origin, and neither goes where it means nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from msgspec import structs

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.conversation import Conversation, Reasoning, Text, Turn
from agent_gateway.core.delta import Finished, ReasoningDelta, Started
from agent_gateway.core.route import Deployment
from agent_gateway.protocols.base import AnswerHead
from agent_gateway.protocols.fold import fold
from agent_gateway.protocols.openai_responses.codec import OpenAIResponses
from agent_gateway.protocols.openai_responses.reasoning import BREAK, DIALECT, read_item, write_item
from agent_gateway.protocols.signature import read_signature, shown_signature
from agent_gateway.wire import openai_responses as wire
from tests.protocols.openai_responses.strategies import native_items

codec = OpenAIResponses()
DEPLOYMENT = Deployment("openai/gpt-5", "openai", "gpt-5")
HEAD = AnswerHead("abc", 1, "m")
CALL = Call("openai_responses", "m", b'{"model":"m","input":"Hi"}')


def as_json(value: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def given_back(thought: Reasoning) -> list[Any]:
    """What a provider gets of it."""
    conversation = Conversation(model="m", turns=(Turn("assistant", (thought, Text("So."))),))
    items: list[Any] = msgspec.json.decode(codec.write_request(conversation, DEPLOYMENT))["input"]
    assert items[-1]["content"] == "So."
    return items[:-1]


def wire_form(item: wire.ReasoningItem) -> dict[str, Any]:
    told = {"type": "reasoning", **as_json(item)}
    if told["content"] is None:
        del told["content"]
    return told


def through_another_client(thought: Reasoning, client: Dialect) -> Reasoning:
    """All that a client of another protocol keeps: the text, and a signature that it does not understand."""
    shown = shown_signature(thought.signature or "", thought.origin, client)
    signature, origin = read_signature(shown, client)
    return Reasoning(thought.text, signature, origin=origin)


@given(native_items)
def test_a_native_item_comes_back_exactly_through_a_client_of_any_protocol(item: wire.ReasoningItem) -> None:
    thought = read_item(item)
    assert (thought.id, thought.origin) == (item.id, DIALECT)
    items = [] if item.encrypted_content is None and not item.content else [wire_form(item)]
    assert given_back(thought) == items
    assert given_back(through_another_client(thought, "anthropic")) == items
    assert as_json(write_item(thought, "rs_ours")) == wire_form(item)


@given(native_items)
def test_a_native_item_of_an_answer_is_read_as_one_of_a_request(item: wire.ReasoningItem) -> None:
    body = {"id": "resp_1", "model": "m", "status": "completed", "output": [wire_form(item)]}
    parts = fold(codec.read_answer(msgspec.json.encode(body))).choices[0].parts
    assert parts == (read_item(item),)


def test_a_client_that_cut_the_text_does_not_lose_the_seal() -> None:
    thought = read_item(
        wire.ReasoningItem(
            [wire.ReasoningText("summary_text", "one"), wire.ReasoningText("summary_text", "two")], "rs_1", None, "ENC"
        )
    )
    assert thought.text == f"one{BREAK}two"
    for text, summary in (("", []), ("on", [{"type": "summary_text", "text": "on"}])):
        cut = structs.replace(thought, text=text)
        assert given_back(cut) == [{"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": "ENC"}]


def test_a_signature_that_was_not_sealed_here_is_the_encrypted_content() -> None:
    thought = Reasoning("Hm.", "ENC", origin=DIALECT)
    assert given_back(thought) == [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}], "encrypted_content": "ENC"}
    ]


FOREIGN_THOUGHTS = [
    Reasoning("Hm.", "SIG==", origin="anthropic"),
    Reasoning("", "SIG", origin="gemini"),
    Reasoning(redacted="DATA", origin="anthropic"),
    Reasoning("Hm.", origin="openai_chat"),
    Reasoning("Hm."),
]


@pytest.mark.parametrize("thought", FOREIGN_THOUGHTS)
def test_a_foreign_thought_is_shown_and_read_back_with_its_origin(thought: Reasoning) -> None:
    delta = ReasoningDelta(thought.text, thought.signature, thought.redacted, thought.origin)
    answer = msgspec.json.decode(codec.write_answer(HEAD, [Started(), delta, Finished("stop")], CALL))
    [item] = answer["output"]
    assert item["id"] == "rs_abc_0"
    assert item["summary"] == ([{"type": "summary_text", "text": thought.text}] if thought.text else [])
    returned = msgspec.json.encode({"model": "m", "input": [item]})
    assert codec.read_conversation(structs.replace(CALL, body=returned)).turns == (Turn("assistant", (thought,)),)


@pytest.mark.parametrize("thought", FOREIGN_THOUGHTS)
def test_a_foreign_thought_does_not_go_to_a_provider_of_this_protocol(thought: Reasoning) -> None:
    assert given_back(thought) == []
    item = as_json(write_item(thought, "rs_abc_0"))
    body = msgspec.json.encode({"model": "gpt-5", "input": [item, {"role": "user", "content": "Hi"}]})
    passed = msgspec.json.decode(codec.pass_request(structs.replace(CALL, model="gpt-5", body=body), DEPLOYMENT))
    assert passed["input"] == [{"role": "user", "content": "Hi"}]
