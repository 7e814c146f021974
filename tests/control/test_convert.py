"""Conversion of what only a third party's plug-in uses; the project's own settings are tested in test_load.py."""

from __future__ import annotations

import enum
from datetime import timedelta
from typing import Annotated, Literal

import msgspec
import pytest

from agent_gateway.control.convert import to_struct
from agent_gateway.control.errors import Findings
from agent_gateway.control.expand import Expanded


class Colour(enum.Enum):
    RED = "red"


class Inner(msgspec.Struct, frozen=True, kw_only=True):
    size: Annotated[int, msgspec.Meta(ge=1, lt=10)] = 1


class Plugin(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    mode: Literal["on", "off"] = "off"
    colour: Colour = Colour.RED
    wait: timedelta | None = None
    either: int | str = 0
    inner: Inner = Inner()
    maybe: Inner | None = None
    many: list[Inner] = []
    named: dict[str, Annotated[float, msgspec.Meta(gt=0)]] = {}

    def __post_init__(self) -> None:
        if self.either == 13:
            raise ValueError("13 brings no luck")


def convert(**raw: object) -> tuple[Plugin | None, list[str]]:
    findings = Findings()
    return to_struct(Plugin, {"kind": "x", **raw}, "p", findings), findings.errors


def test_types_beyond_the_projects_own() -> None:
    plugin, errors = convert(
        colour="red",
        wait="PT5S",
        either="a",
        inner={"size": 2},
        maybe={"size": 3},
        many=[{"size": 4}, None],
        named={"a": 1},
        mode=True,
    )
    assert errors == []
    assert plugin == Plugin(
        kind="x",
        mode="on",
        wait=timedelta(seconds=5),
        either="a",
        inner=Inner(size=2),
        maybe=Inner(size=3),
        many=[Inner(size=4), Inner()],
        named={"a": 1.0},
    )


@pytest.mark.parametrize(
    ("raw", "errors"),
    [
        ({"colour": "sk-secret"}, ["p.colour: is not right: not of its type"]),
        ({"wait": "soon"}, ["p.wait: is not right: not of its type"]),
        ({"either": [1]}, ["p.either: is not right: Expected `int | str`"]),
        ({"either": 13}, ["p: 13 brings no luck"]),
        ({"inner": {"size": 10}}, ["p.inner.size: 10 is too large; less than 10"]),
        (
            {"many": [{"size": 0}, {"sise": 1}]},
            ["p.many[0].size: 0 is too small; at least 1", "p.many[1].sise: is not a setting; did you mean size?"],
        ),
        ({"many": {}}, ["p.many: a mapping is not a list; write [a, b]"]),
        (
            {"named": {"a": 0, 2: 1}},
            ["p.named.a: 0 is too small; more than 0", "p.named.2: names are texts; write it in quotes: '2'"],
        ),
        ({"named": "a"}, ["p.named: 'a' is not a mapping"]),
        ({"mode": Expanded("nope", "${MODE}")}, ["p.mode: the value of ${MODE} is not one of on, off"]),
    ],
)
def test_mistakes_have_their_path(raw: dict[str, object], errors: list[str]) -> None:
    assert convert(**raw)[1] == errors


def test_a_struct_is_made_in_spite_of_mistakes_that_it_can_do_without() -> None:
    plugin, errors = convert(mode="nope", either=7)
    assert len(errors) == 1
    assert plugin == Plugin(kind="x", either=7)


def test_what_is_left_out_comes_from_the_base() -> None:
    findings = Findings()
    base = {"kind": "base", "inner": Inner(size=5), "either": 3}
    assert to_struct(Plugin, {"inner": None}, "p", findings, base) == Plugin(kind="base", inner=Inner(size=5), either=3)
    assert findings.errors == []


def test_a_list_may_come_in_one_variable() -> None:
    class Keys(msgspec.Struct):
        api_keys: tuple[str, ...] = ()

    assert to_struct(Keys, {"api_keys": Expanded("a, b,", "${KEYS}")}, "p", Findings()) == Keys(("a", "b"))
