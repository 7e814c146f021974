"""The texts of requests in every protocol: all of them are found, with whose they are, and nothing else is touched."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_gateway.core.call import Dialect
from agent_gateway.core.errors import BadRequest
from agent_gateway.guard.passages import TEXTS_MAX, passages, rewritten
from agent_gateway.guard.shapes import SHAPES

CHAT = rb"""{ "model" : "gpt",
  "messages": [ {"role":"system", "content":"T:system"},
    {"content": [{"type":"text","text":"T:user"},
      {"type":"image_url","image_url":{"url":"data:image/png;base64,T"}}], "role":"user", "name":"ann"},
    {"role":"assistant","content":null,"reasoning_content":"T:thought","tool_calls":[
       {"id":"c","type":"function","function":{"name":"f",
       "arguments":"{\"to\": \"T:arguments\", \"n\": 1.50, \"deep\": [{\"T:arguments\": true}]}"}}]},
    {"role":"tool","tool_call_id":"c","content":"T:tool \ud83d\ude00 \n"} ],
  "tools":[{"type":"function","function":{"name":"f","description":"not a text","parameters":{"type":"object"}}}],
  "x-unknown": {"text": "no"} }"""

RESPONSES = rb"""{"model":"m","instructions":"T:system","input":[
  {"role":"user","content":"T:user"},
  {"type":"message","role":"assistant","content":[{"type":"output_text","text":"T:assistant","annotations":[]}]},
  {"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"T:thought"}],"encrypted_content":"xx"},
  {"type":"function_call","call_id":"c","name":"f","arguments":"{\"a\":\"T:arguments\"}"},
  {"type":"function_call_output","call_id":"c","output":"T:tool"},
  {"type":"function_call_output","call_id":"c","output":[{"type":"input_text","text":"T:tool"}]},
  {"type":"custom_tool_call","call_id":"c","name":"f","input":"T:arguments"},
  {"type":"file_search_call","id":"fs_1","queries":["T:arguments"],"results":[{"file_id":"f","filename":"a","text":"T:arguments"}]},
  {"type":"custom_tool_call_output","call_id":"c","output":"T:tool"}]}"""

ANTHROPIC = rb"""{"model":"m","max_tokens":9,"system":[{"type":"text","text":"T:system","cache_control":{"type":"ephemeral"}}],"messages":[
  {"role":"user","content":"T:user"},
  {"role":"assistant","content":[{"type":"thinking","thinking":"T:thought","signature":"sig"},{"type":"redacted_thinking","data":"xx"},
    {"type":"text","text":"T:assistant"},
    {"type":"tool_use","id":"t","name":"f","input":{"type":"thinking","T:arguments":["T:arguments", 1, true]}}]},
  {"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"T:tool"},
    {"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"T:tool"},
      {"type":"image","source":{"type":"base64","media_type":"image/png","data":"QUJD"}}]},
    {"type":"document","title":"T:user","source":{"data":"T:user","media_type":"text/plain","type":"text"}},
    {"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"QUJD"}}]}],
  "metadata":{"user_id":"not a text"},"tools":[{"name":"f","input_schema":{"type":"object"}}]}"""

GEMINI = rb"""{"systemInstruction":{"parts":[{"text":"T:system"}]},"contents":[
  {"role":"user","parts":[{"text":"T:user"},{"inlineData":{"mimeType":"image/png","data":"QUJD"}}]},
  {"parts":[{"text":"T:thought","thought":true},
    {"functionCall":{"name":"f","args":{"a":"T:arguments","thought":true}},"thoughtSignature":"xx"}],"role":"model"},
  {"role":"user","parts":[{"function_response":{"name":"f","response":{"out":"T:tool"}}}]}]}"""

BODIES: dict[str, tuple[Dialect, bytes]] = {
    "chat": ("openai_chat", CHAT),
    "completions": ("openai_completions", rb'{"model":"m","prompt":["T:user","T:user"],"suffix":"T:user","stop":"no"}'),
    "embeddings": ("openai_embeddings", rb'{"model":"m","input":["T:user","T:user"]}'),
    "embeddings of tokens": ("openai_embeddings", rb'{"model":"m","input":[[1,2],[3]]}'),
    "responses": ("openai_responses", RESPONSES),
    "responses, plain": ("openai_responses", rb'{"model":"m","input":"T:user"}'),
    "anthropic": ("anthropic", ANTHROPIC),
    "anthropic count": ("anthropic_count", ANTHROPIC),
    "gemini": ("gemini", GEMINI),
}
every_body = pytest.mark.parametrize(("dialect", "body"), BODIES.values(), ids=list(BODIES))


@every_body
def test_every_text_is_found_with_whose_it_is(dialect: Dialect, body: bytes) -> None:
    said = [each for passage in passages(body, SHAPES[dialect]) for each in passage.texts()]
    marked = [text.split()[0].removeprefix("T:") for text, _ in said if text.startswith("T:")]
    assert [role for text, role in said if text.startswith("T:")] == marked
    assert len(marked) == body.count(b"T:")
    assert {text for text, role in said if not text.startswith("T:")} <= {"to", "n", "deep", "a", "out", "type", "thinking", "thought"}


@every_body
def test_only_what_changes_is_touched(dialect: Dialect, body: bytes) -> None:
    found = passages(body, SHAPES[dialect])
    assert rewritten(body, found, lambda text: text) is body
    changed = rewritten(body, found, lambda text: text.replace("T:user", '<"U">'))
    assert changed == body.replace(b"T:user", rb"<\"U\">")
    everything = rewritten(body, found, lambda text: text.replace("T:", "<M>"))
    thoughts = body.count(b"T:thought")
    assert everything.count(b"T:") == thoughts
    assert msgspec.json.decode(everything) == _replaced(msgspec.json.decode(body))


def _replaced(value: Any) -> Any:
    """Every text marked, in the way in which a reader of the JSON would do it."""
    if isinstance(value, str):
        return value if value.startswith("T:thought") else value.replace("T:", "<M>")
    if isinstance(value, list):
        return [_replaced(item) for item in value]
    if isinstance(value, dict):
        return {_replaced(key): _replaced(item) for key, item in value.items()}
    return value


def test_arguments_keep_their_own_spelling_around_what_changes() -> None:
    body = rb'{"messages":[{"role":"assistant","tool_calls":[{"function":{"arguments":"{ \"a\" : 1.50, \"b\":\"x\\ny\" }"}}]}]}'
    found = passages(body, SHAPES["openai_chat"])
    assert rewritten(body, found, lambda text: text.replace("y", "z")) == body.replace(b"y", b"z")


def test_a_member_that_stands_there_twice_is_seen_twice() -> None:
    body = b'{"messages":[{"role":"user","content":"first","content":"second"}],"messages":[{"role":"user","content":"third"}]}'
    found = passages(body, SHAPES["openai_chat"])
    assert [passage.text for passage in found] == ["first", "second", "third"]


def test_a_text_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(BadRequest):
        passages(rb'{"messages":[{"content":"\ud83d"}]}', SHAPES["openai_chat"])


@pytest.mark.parametrize("body", [b'{"messages":[{"content":[%b]}]}', b'{"messages":[{"tool_calls":[{"function":{"arguments":"[%b]"}}]}]}'])
def test_more_texts_than_can_be_looked_at_are_refused(body: bytes) -> None:
    text = rb'\"a\"' if b"arguments" in body else b'"a"'
    assert passages(body % b",".join([text] * 1_000), SHAPES["openai_chat"])
    with pytest.raises(BadRequest, match="texts"):
        passages(body % b",".join([text] * (TEXTS_MAX + 2)), SHAPES["openai_chat"])


members = st.sampled_from(
    ["content", "text", "type", "role", "messages", "input", "tool_calls", "function", "arguments", "parts", "thought", "x"]
)
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["thinking", "tool_use", "{}", '["a"]']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(members, inner, max_size=4),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(body=st.dictionaries(members, anything, max_size=4), dialect=st.sampled_from(sorted(SHAPES)))
def test_any_body_is_read_and_written(body: dict[str, Any], dialect: Dialect) -> None:
    data = msgspec.json.encode(body)
    found = passages(data, SHAPES[dialect])
    assert rewritten(data, found, lambda text: text) is data
    written = rewritten(data, found, lambda text: f"«{text}»")
    msgspec.json.decode(written)
    again = passages(written, SHAPES[dialect])
    assert rewritten(written, again, lambda text: text) is written
