"""A member of a JSON object is replaced where it stands, and not a byte around it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.protocols import json_edit
from agent_gateway.protocols.json_edit import replace_member, replace_string

_texts = st.text(alphabet='ab"\\{}[]:, \n\u00fc', max_size=6) | st.sampled_from(["model", '"model":"old"'])
_leaves = st.none() | st.booleans() | st.integers(-9, 9) | _texts
_values = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts | st.just("model"), inner, max_size=3), max_leaves=8
)
_objects = st.dictionaries(_texts, _values, max_size=4)


@given(before=_objects, after=_objects, old=_leaves, indent=st.sampled_from([None, 1]), spaced=st.booleans())
def test_the_member_of_the_top_is_replaced_wherever_it_stands(
    before: dict[str, Any], after: dict[str, Any], old: Any, indent: int | None, spaced: bool
) -> None:
    before.pop("model", None)
    members = before | {"model": old} | {name: value for name, value in after.items() if name not in before and name != "model"}
    text = json.dumps(members, indent=indent, separators=(", ", ": ") if spaced else (",", ":")).encode()
    edited = replace_member(text, b"model", b'"new"')
    assert json.loads(edited) == members | {"model": "new"}
    assert len(edited) - len(text) == len('"new"') - len(json.dumps(old))
    if isinstance(old, str):
        assert replace_string(text, b"model", json.dumps(old).encode(), b'"new"') == edited


@given(_objects)
def test_where_there_is_none_nothing_is_touched(members: dict[str, Any]) -> None:
    members.pop("model", None)
    text = json.dumps(members).encode()
    assert replace_member(text, b"model", b"1") is text


@pytest.mark.parametrize(
    "text",
    [
        b'{"x": [{"model": 1}], "model": {"model": 1}}',
        b'{"x": [{"model": 1}], "model": [1]}',
    ],
)
def test_what_is_not_simple_stays(text: bytes) -> None:
    assert replace_member(text, b"model", b"2") == text


def test_a_key_that_stands_twice_is_replaced_where_it_stands_first() -> None:
    assert replace_member(b'{"x":[],"model":1,"model":2}', b"model", b"3") == b'{"x":[],"model":3,"model":2}'


def test_what_stands_before_it_is_not_gone_through_token_by_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(json_edit, "_find_path")
    text = b'{ "messages" : [{"model":"a","b":["model"]}] , "model" : "a" , "tools":[{}]}'
    assert replace_string(text, b"model", b'"a"', b'"b"') == text.replace(b'"model" : "a"', b'"model" : "b"')
