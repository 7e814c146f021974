"""The tables of docs/configuration.md: settings, what they may be and their defaults from the structs; what they mean, people write."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from agent_gateway.core.settings import FIXED_REPLY, POLICIES, DeploymentSettings, Model, Settings
from agent_gateway.simulator.settings import SimulatorSettings
from agent_gateway.upstream.providers.anthropic import AnthropicSettings
from agent_gateway.upstream.providers.gemini import GeminiSettings
from agent_gateway.upstream.providers.openai import OpenAISettings

_HEAD = "| setting | may be | default | |\n|---|---|---|---|\n"
_TABLE = re.compile(r"^\| setting \|.*\n\|[-|]+\|\n(?:\|.*\n)*", re.MULTILINE)
_ROW = re.compile(r"^\| `([^`]+)` \|(.*)\|$", re.MULTILINE)
#: What no annotation tells.
_MAY_BE = {
    "strategy": "a name or a mapping",
    "providers": "a mapping",
    "monitoring.sinks": "a list of mappings",
    "guards.input": "a list of mappings",
    "guards.output": "a list of mappings",
}


class Setting(msgspec.Struct, frozen=True):
    path: str
    may_be: str
    #: In JSON, or `required`.
    default: str


def settings(struct: type[msgspec.Struct], prefix: str = "", leave_out: Sequence[str] = ()) -> Iterator[Setting]:
    """Every setting of a struct and of those in it."""
    hints = get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        path = f"{prefix}{field.name}"
        if field.name in leave_out:
            continue
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from settings(field.type, f"{path}.")
        elif field.required:
            yield Setting(path, _may_be(path, hints[field.name]), "required")
        else:
            value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
            default = "the text below" if value == FIXED_REPLY else f"`{msgspec.json.encode(value).decode()}`"
            yield Setting(path, _may_be(path, hints[field.name]), default)


#: What a table follows → what it tells of; in the order in which they stand in the page.
TABLES: dict[str, tuple[type[msgspec.Struct], Sequence[str]]] = {
    "## Everything": (Settings, ()),
    "## A model: `models.NAME`": (Model, POLICIES),
    "Of a deployment, `models.NAME.deployments[…]`:": (DeploymentSettings, ()),
    "### `kind: openai`": (OpenAISettings, ("kind",)),
    "### `kind: anthropic`": (AnthropicSettings, ("kind",)),
    "### `kind: gemini`": (GeminiSettings, ("kind",)),
    "### `kind: simulated`": (SimulatorSettings, ("kind",)),
}


def page(before: str) -> str:
    for title, (struct, leave_out) in TABLES.items():
        start, found, rest = before.partition(f"\n{title}\n")
        table = _TABLE.search(rest)
        assert found, f"docs/configuration.md: {title!r} is not there"
        assert table, f"docs/configuration.md: no table of settings follows {title!r}"
        after = _table(table[0], list(settings(struct, leave_out=leave_out)))
        before = start + found + rest[: table.start()] + after + rest[table.end() :]
    return before


def _table(before: str, told: list[Setting]) -> str:
    """Rows stay where they are; new ones come to the end, those of settings that are gone go."""
    meanings = meanings_in(before)
    by_path = {setting.path: setting for setting in told}
    paths = [path for path in meanings if path in by_path] + [path for path in by_path if path not in meanings]
    rows = (f"| `{path}` | {by_path[path].may_be} | {by_path[path].default} | {meanings.get(path, '')} |\n" for path in paths)
    return _HEAD + "".join(rows)


def meanings_in(table: str) -> dict[str, str]:
    """The last cell of each row by its setting; rows of a table without the column `may be` as well."""
    told = {}
    for name, cells in _ROW.findall(table):
        *_, meaning = re.split(r" \| ?", cells.strip(), maxsplit=table.partition("\n")[0].count("|") - 3)
        told[name] = meaning.strip()
    return told


# --- an annotation in words -------------------------------------------------------------------------------------------


def _may_be(path: str, annotation: Any) -> str:
    return _MAY_BE.get(path) or ", or ".join(_kinds(annotation))


def _kinds(annotation: Any) -> list[str]:
    meta: list[msgspec.Meta] = []
    while get_origin(annotation) is Annotated:
        annotation, *extra = get_args(annotation)
        meta += [item for item in extra if isinstance(item, msgspec.Meta)]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return [kind for each in sorted(arguments, key=lambda each: each is NoneType) for kind in _kinds(each)]
    if origin is Literal:
        return [", ".join(f"`{value}`" for value in arguments)]
    if origin in (tuple, list):
        return [_listed(arguments[0])]
    if origin is dict or (isinstance(annotation, type) and issubclass(annotation, msgspec.Struct)):
        return ["a mapping"]
    return [_SCALARS[annotation] + _bounds(meta)]


_SCALARS: dict[Any, str] = {bool: "`true`, `false`", int: "an integer", float: "a number", str: "a text", NoneType: "`null`"}


def _listed(item: Any) -> str:
    kinds = _kinds(item)
    if kinds[0].startswith("`"):
        return f"a list of {kinds[0]}"
    return f"a list of {' or '.join(kind.removeprefix('a ').removeprefix('an ') + 's' for kind in kinds)}"


def _bounds(meta: Sequence[msgspec.Meta]) -> str:
    words = (("from", "ge"), ("above", "gt"), ("to", "le"), ("below", "lt"))
    said = [
        (word, bound)
        for word, name in words
        if (bound := next((value for item in meta if (value := getattr(item, name)) is not None), None)) is not None
    ]
    return "".join(f" {word} {bound:,}" for word, bound in said)
