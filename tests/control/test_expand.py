"""`${VAR}`: what is replaced, what is refused, what stays."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.control.errors import Findings
from agent_gateway.control.expand import DEPTH_MAX, Expanded, expand

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True)
PLAIN = st.text(st.characters(exclude_characters="${}", exclude_categories=["Cs"]), max_size=12)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def expanded(value: Any, environ: dict[str, str] | None = None) -> tuple[Any, list[str]]:
    findings = Findings()
    return expand(value, environ or {}, findings, "at"), findings.errors


@given(before=PLAIN, name=NAMES, after=PLAIN, value=VALUES)
def test_a_set_variable_is_its_value_whatever_that_holds(before: str, name: str, after: str, value: str) -> None:
    """The value itself is not expanded again."""
    text, errors = expanded(f"{before}${{{name}}}{after}", {name: value})
    assert (text, errors) == (before + value + after, [])
    assert isinstance(text, Expanded)
    assert text.whole is (before == after == "")


@given(name=NAMES, default=PLAIN, value=VALUES)
def test_a_default_stands_in_for_unset_and_for_empty(name: str, default: str, value: str) -> None:
    text = f"${{{name}:-{default}}}"
    assert expanded(text) == (default, [])
    assert expanded(text, {name: ""}) == (default, [])
    assert expanded(text, {name: value}) == (value or default, [])


@given(name=NAMES, other=NAMES)
def test_an_unset_variable_is_named_with_its_path(name: str, other: str) -> None:
    findings = Findings()
    expand({"a": [{"b": f"x${{{name}}}"}]}, {} if name == other else {other: "1"}, findings)
    assert findings.errors == [f"a[0].b: the environment variable {name} is not set; set it, or write ${{{name}:-default}}"]


@given(text=PLAIN)
def test_text_without_a_reference_stays_itself(text: str) -> None:
    value, errors = expanded(text)
    assert value is text
    assert errors == []


@given(st.text(st.sampled_from("${}:-A1 "), max_size=20))
def test_any_text_is_replaced_or_refused_but_never_fails(text: str) -> None:
    value, errors = expanded(text, {"A": "value"})
    assert isinstance(value, str)
    if not errors and "$${" not in text:
        assert "${" not in value


@pytest.mark.parametrize(
    ("text", "value"),
    [("$${A}", "${A}"), ("$$${A}", "$${A}"), ("$A", "$A"), ("$", "$"), ("a$${B}c${A}", "a${B}c1"), ("{A}", "{A}")],
)
def test_what_is_not_a_reference_stays(text: str, value: str) -> None:
    assert expanded(text, {"A": "1"}) == (value, [])


@pytest.mark.parametrize("text", ["${}", "${1A}", "${A", "${A:x}", "${A:-${B}}", "${A-b}"])
def test_a_broken_reference_is_an_error(text: str) -> None:
    _, errors = expanded(text, {"A": "", "B": "b"})
    assert errors == ["at: holds a ${ that is not ${VAR} or ${VAR:-default}; write $${ for a plain ${"]


def test_everything_but_text_is_left_alone() -> None:
    value = {"a": [1, 2.5, True, None, {"b": "c"}]}
    assert expanded(value) == (value, [])


def test_a_name_cannot_hold_a_reference() -> None:
    assert expanded({"${A}": 1}, {"A": "x"})[1] == ["at.${A}: a name cannot hold ${…}; write it out"]


def test_a_mapping_that_holds_itself_ends() -> None:
    endless: dict[str, Any] = {}
    endless["a"] = endless
    (error,) = expanded(endless)[1]
    assert error.endswith(f"is nested more than {DEPTH_MAX} deep")
