"""Raw values → the structs of `core.settings`, all mistakes at once and each with its exact path.

`msgspec.convert` stops at its first error and cannot say where a default comes from; this walks the same annotations.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping
from datetime import date
from difflib import get_close_matches
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from agent_gateway.control.environment import FALSE, TRUE
from agent_gateway.control.errors import Findings
from agent_gateway.control.expand import Expanded
from agent_gateway.core.settings import DeploymentSettings

#: Stands for a value that is already reported.
WRONG: Final = object()
#: A text longer than this is not shown in an error.
SHOWN_MAX = 40
#: What is counted or measured (it has a smallest value) and has no largest one of its own. More fits no database once it is in ms or bytes.
NUMBER_MAX = 10**12

_SECRET = re.compile(r"(key|keys|token|secret|password|database|redis|webhooks|endpoint|url)$")
#: What needs no quotes in a YAML list.
_PLAIN = re.compile(r"[A-Za-z][\w./-]*")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")

S = TypeVar("S", bound=msgspec.Struct)


def to_struct(cls: type[S], raw: Any, path: str, findings: Findings, base: Mapping[str, Any] | None = None) -> S | None:
    """`raw` as `cls`. Fields left out come from `base`, else the struct; None when one that must be there is missing or wrong.

    A struct is made even when other fields are wrong, so that what depends on it can be looked at in the same run.
    """
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        # A text in a section's place may be the secret that belongs inside it.
        what = f"{'a text' if isinstance(raw, str) else shown(raw, path)} is not a mapping"
        findings.error(path, f"{what}; write {_form(cls, raw, path)}" if cls is DeploymentSettings else f"{what} of settings")
        return None
    annotations = _annotations(cls)
    for name in raw:
        if name not in annotations:
            findings.error(_join(path, name), _unknown(name, list(annotations)))
    values = dict(base or {})
    required = {field.name for field in msgspec.structs.fields(cls) if field.required}
    whole = True
    for name, annotation in annotations.items():
        if name in raw:
            value = to_value(annotation, raw[name], _join(path, name), findings, values.get(name))
            if value is not WRONG:
                values[name] = value
            elif name in required:
                whole = False
        elif name in required and name not in values:
            findings.error(_join(path, name), "is missing; it has no default")
            whole = False
    if not whole:
        return None
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:  # a plug-in's own __post_init__; it may name the field: `pattern: …`
        name, _, said = str(error).partition(": ")
        findings.error(*((_join(path, name), said) if name in annotations else (path, str(error))))
        return None


def to_value(annotation: Any, raw: Any, path: str, findings: Findings, base: Any = None) -> Any:
    """`raw` as `annotation`, or `WRONG` once the mistake is in `findings`."""
    meta: list[msgspec.Meta] = []
    while get_origin(annotation) is Annotated:
        annotation, *extra = get_args(annotation)
        meta += [item for item in extra if isinstance(item, msgspec.Meta)]
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return _optional(annotation, raw, path, findings, base)
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        defaults = {name: getattr(base, name) for name in base.__struct_fields__} if isinstance(base, annotation) else None
        made = to_struct(annotation, raw, path, findings, defaults)
        return WRONG if made is None else made
    if origin in (tuple, list):
        return _items(annotation, raw, path, findings, meta)
    if origin is dict:
        return _entries(annotation, raw, path, findings)
    try:
        value = _scalar(annotation, origin, raw, path)
        _bounds(value, raw, path, meta)
    except _Mistake as mistake:
        findings.error(path, str(mistake))
        return WRONG
    return value


def shown(value: Any, path: str) -> str:
    """How an error names a value: never a secret, and what came from the environment as it was written."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case Expanded():
            return f"the value of {value.written}" if _safe(value.written, path, 80) else "the value"
        case str():
            return repr(value) if _safe(value, path, SHOWN_MAX) else "the text"
        case _:
            return str(value) if _safe(str(value), path, SHOWN_MAX) else "the value"


class _Mistake(Exception):
    """What is wrong with one value."""


def _safe(text: str, path: str, length_max: int) -> bool:
    return len(text) <= length_max and not text.startswith("sk-") and not _SECRET.search(path.rpartition("[")[0] or path)


def _join(path: str, name: Any) -> str:
    return f"{path}.{name}" if path else str(name)


@cache
def _annotations(cls: type[msgspec.Struct]) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    return {name: hints[name] for name in cls.__struct_fields__}


def _unknown(name: Any, known: list[str]) -> str:
    close = get_close_matches(str(name), known, n=1, cutoff=0.6)
    return f"is not a setting; did you mean {close[0]}?" if close else f"is not a setting; here there are {', '.join(known)}"


def _optional(annotation: Any, raw: Any, path: str, findings: Findings, base: Any) -> Any:
    members = [member for member in get_args(annotation) if member is not NoneType]
    nullable = len(members) < len(get_args(annotation))
    # An empty variable, and an empty secret however it is written, count as not set.
    if nullable and (raw is None or (raw == "" and (isinstance(raw, Expanded) or _SECRET.search(path)))):
        return None
    if len(members) == 1:
        return to_value(members[0], raw, path, findings, base)
    if isinstance(raw, dict):  # a name, or a mapping that says more
        members = [member for member in members if isinstance(member, type) and issubclass(member, msgspec.Struct)] or members
        if len(members) == 1:
            return to_value(members[0], raw, path, findings, base)
    return _foreign(annotation, raw, path, findings)


def _items(annotation: Any, raw: Any, path: str, findings: Findings, meta: list[msgspec.Meta]) -> Any:
    if isinstance(raw, Expanded):  # a list in one variable: a,b,c
        raw = [Expanded(part.strip(), raw.written) for part in raw.split(",") if part.strip()]
    if not isinstance(raw, list):
        findings.error(path, f"{shown(raw, path)} is not a list; write [{_form(get_args(annotation)[0], raw, path)}]")
        return WRONG
    if not raw and any(item.min_length for item in meta):
        findings.error(path, "is empty; it needs at least one")
        return WRONG
    item_type = get_args(annotation)[0]
    items = [to_value(item_type, item, f"{path}[{index}]", findings) for index, item in enumerate(raw)]
    right = [item for item in items if item is not WRONG]
    if not right and items:
        return WRONG
    return tuple(right) if get_origin(annotation) is tuple else right


def _form(annotation: Any, raw: Any, path: str) -> str:
    """How `raw`, one thing where a list or a mapping belongs, is written there; without its text where that may be a secret."""
    text = raw if isinstance(raw, str) and not isinstance(raw, Expanded) and _safe(raw, path, SHOWN_MAX) else ""
    if annotation is DeploymentSettings:
        provider, _, model = text.partition("/")
        return f"{{provider: {provider or '…'}, model: {model or '…'}}}"
    return text if _PLAIN.fullmatch(text) else "a, b"


def _entries(annotation: Any, raw: Any, path: str, findings: Findings) -> Any:
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        findings.error(path, f"{shown(raw, path)} is not a mapping")
        return WRONG
    entries = {}
    for key, item in raw.items():
        if not isinstance(key, str):
            findings.error(_join(path, key), f"names are texts; write it in quotes: '{key}'")
            continue
        value = to_value(get_args(annotation)[1], item, _join(path, key), findings)
        if value is not WRONG:
            entries[key] = value
    return entries


def _scalar(annotation: Any, origin: Any, raw: Any, path: str) -> Any:
    if annotation is Any:
        return _json_value(raw)
    if annotation is bool:
        return _boolean(raw, path)
    if annotation is int:
        return _integer(raw, path)
    if annotation is float:
        return _float(raw, path)
    if annotation is str:
        if not isinstance(raw, str):
            raise _Mistake(f"{shown(raw, path)} is not a text; write it in quotes")
        return str(raw)
    if origin is Literal:
        return _word(get_args(annotation), raw, path)
    return _converted(annotation, raw)


def _word(words: tuple[Any, ...], raw: Any, path: str) -> Any:
    if isinstance(raw, bool):  # YAML 1.1 writers mean the word
        raw = next((word for word in (("on", "true") if raw else ("off", "false")) if word in words), raw)
    if raw not in words:
        raise _Mistake(f"{shown(raw, path)} is not one of {', '.join(str(word) for word in words)}")
    return str(raw) if isinstance(raw, str) else raw


def _boolean(raw: Any, path: str) -> bool:
    if isinstance(raw, str):  # YAML 1.2 leaves yes and on as words; they can mean only one thing here
        word = raw.strip().lower()
        if word in TRUE or word in FALSE:
            return word in TRUE
    if not isinstance(raw, bool):
        raise _Mistake(f"{shown(raw, path)} is not a yes or no; use true or false")
    return raw


def _integer(raw: Any, path: str) -> int:
    number = _number(raw)
    if number is None or not math.isfinite(number) or number != int(number):
        raise _Mistake(f"{shown(raw, path)} is not a whole number")
    return int(number)


def _float(raw: Any, path: str) -> float:
    number = _number(raw)
    if number is None or not math.isfinite(number):
        raise _Mistake(f"{shown(raw, path)} is not a number")
    return float(number)


def _number(raw: Any) -> int | float | None:
    if isinstance(raw, Expanded) and _NUMBER.fullmatch(raw.strip()):
        return float(raw) if re.search(r"[.eE]", raw) else int(raw)
    return raw if isinstance(raw, int | float) and not isinstance(raw, bool) else None


def _json_value(raw: Any) -> Any:
    """A value that goes to a provider as JSON. A variable that is the whole value is read as YAML would read it unquoted."""
    match raw:
        case Expanded():
            if raw.whole and raw in ("true", "false"):
                return raw == "true"
            number = _number(raw) if raw.whole else None
            return str(raw) if number is None else number
        case dict():
            return {str(key): _json_value(item) for key, item in raw.items()}
        case list():
            return [_json_value(item) for item in raw]
        case float() if not math.isfinite(raw):
            raise _Mistake(f"{raw} cannot be written in JSON")
        case date():
            return raw.isoformat()
        case None | bool() | int() | float() | str():
            return raw
        case _:
            raise _Mistake(f"a {type(raw).__name__} cannot be written in JSON")


def _foreign(annotation: Any, raw: Any, path: str, findings: Findings) -> Any:
    try:
        return _converted(annotation, raw)
    except _Mistake as mistake:
        findings.error(path, str(mistake))
        return WRONG


def _converted(annotation: Any, raw: Any) -> Any:
    """A type that only a third party's plug-in uses."""
    try:
        return msgspec.convert(_json_value(raw), annotation, strict=False)
    except msgspec.ValidationError as error:
        expected = re.match(r"Expected `[^`]*`", str(error))
        raise _Mistake(f"is not right: {expected.group() if expected else 'not of its type'}") from None


def _bounds(value: Any, raw: Any, path: str, meta: list[msgspec.Meta]) -> None:
    if any(bound.ge is not None or bound.gt is not None for bound in meta):
        meta = [*meta, msgspec.Meta(le=NUMBER_MAX)]
    for bound in meta:
        for limit, holds, words in (
            (bound.ge, operator.ge, "too small; at least"),
            (bound.gt, operator.gt, "too small; more than"),
            (bound.le, operator.le, "too large; at most"),
            (bound.lt, operator.lt, "too large; less than"),
        ):
            if limit is not None and not holds(value, limit):
                raise _Mistake(f"{shown(raw, path)} is {words} {limit}")
        if bound.min_length and len(value) < bound.min_length:
            raise _Mistake("is empty")
