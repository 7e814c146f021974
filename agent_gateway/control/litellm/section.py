"""A mapping of a LiteLLM configuration, read setting by setting.

Promise: what is not taken from it, or cannot be used as it is, becomes a note; `os.environ/X` becomes `${X}`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from msgspec import Struct

from agent_gateway.control.convert import shown

_FROM_ENVIRONMENT = "os.environ/"
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
#: Beside those that our own configuration keeps to itself.
_SECRET = re.compile(r"secret|token|password|credential|(^|[_.])key$|headers", re.IGNORECASE)
_WITHOUT_COUNTERPART = "has no counterpart here; it is left out"


class Note(Struct, frozen=True):
    """What became of a setting that could not be carried over as it is. `value` is shown where it is short and no secret."""

    path: str
    value: str | None
    what: str

    def __str__(self) -> str:
        return f"{self.path}{'' if self.value is None else f': {self.value}'}: {self.what}"


class Section:
    """`path` is where it stands in the file; `notes` is shared by all sections of a file."""

    def __init__(self, raw: Any, path: str, notes: list[Note]) -> None:
        self.path = path
        self.notes = notes
        self._left: dict[str, Any] = {}
        if isinstance(raw, Mapping):
            self._left = {str(name): value for name, value in raw.items()}
        elif raw is not None:
            notes.append(Note(path, None, "is not a mapping of settings; it is left out"))

    def at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def note(self, name: str, value: Any, what: str) -> None:
        self.notes.append(Note(self.at(name), display(value, name), what))

    # --- taking: a setting that is null counts as not there

    def take(self, name: str) -> Any:
        return self._left.pop(name, None)

    def peek(self, name: str) -> Any:
        return self._left.get(name)

    def text(self, name: str) -> str | None:
        """As our configuration writes it."""
        value = self.take(name)
        if value is None or isinstance(value, str):
            return None if value is None else written(value)
        if isinstance(value, bool | int | float):
            return str(value)
        self.note(name, value, "is not a text; it is left out")
        return None

    def number(self, name: str) -> float | None:
        value = self.take(name)
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                what = "comes from the environment" if value.startswith(_FROM_ENVIRONMENT) else "is not a number"
                self.note(name, value, f"{what}, so nothing can be worked out from it; it is left out")
                return None
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            return value
        self.note(name, value, "is not a number; it is left out")
        return None

    def positive(self, name: str) -> float | None:
        value = self.number(name)
        if value is not None and value <= 0:
            self.note(name, value, "is not above 0; it is left out")
            return None
        return value

    def count(self, name: str) -> int | None:
        value = self.positive(name)
        return None if value is None else max(1, int(value))

    def flag(self, name: str) -> bool:
        value = self.take(name)
        return value is True or (isinstance(value, str) and value.lower() in ("true", "yes", "on"))

    def names(self, name: str) -> list[str]:
        value = self.take(name)
        items = [value] if isinstance(value, str) else value
        if items is None or (isinstance(items, list) and all(isinstance(item, str) for item in items)):
            return list(items or ())
        self.note(name, value, "is not a list of names; it is left out")
        return []

    def section(self, name: str) -> Section:
        return Section(self.take(name), self.at(name), self.notes)

    def sections(self, name: str) -> Iterator[Section]:
        value = self.take(name)
        if value is not None and not isinstance(value, list):
            self.note(name, value, "is not a list; it is left out")
            return
        for index, item in enumerate(value or ()):
            yield Section(item, f"{self.at(name)}[{index}]", self.notes)

    # --- what is left

    def left(self) -> list[str]:
        """Names that were not taken."""
        return [name for name, value in self._left.items() if value is not None]

    def discard(self) -> None:
        """Leaves out the rest without a word: it means nothing by itself."""
        self._left.clear()

    def end(self, advice: Mapping[str, str] = {}, without: str = _WITHOUT_COUNTERPART) -> None:
        """Notes all that was not taken. `advice`: name, with `*` for any part of it, → what to do about it."""
        for name, value in self._left.items():
            if value is not None:
                self.note(name, value, next((what for pattern, what in advice.items() if fnmatchcase(name, pattern)), without))
        self._left.clear()


def written(text: str) -> str:
    """A text as our configuration writes it."""
    if text.startswith(_FROM_ENVIRONMENT):
        return f"${{{text.removeprefix(_FROM_ENVIRONMENT).strip()}}}"
    return text.replace("${", "$${")


def written_value(value: Any) -> Any:
    """The same for all texts in a value."""
    match value:
        case str():
            return written(value)
        case dict():
            return {str(name): written_value(item) for name, item in value.items()}
        case list():
            return [written_value(item) for item in value]
        case _:
            return value


def variables(value: Any) -> set[str]:
    """The environment's variables that a value of ours reads."""
    match value:
        case str():
            return set(_VARIABLE.findall(value.replace("$${", "")))
        case dict():
            return set().union(*map(variables, value.values()))
        case list():
            return set().union(*map(variables, value))
        case _:
            return set()


def display(value: Any, name: str) -> str | None:
    """How a note shows a value; None: it does not."""
    if _SECRET.search(name) and not (isinstance(value, str) and value.startswith(_FROM_ENVIRONMENT)):
        return None
    match value:
        case list() if value and all(isinstance(item, str | int | float) for item in value):
            return f"[{', '.join(map(str, value))}]" if len(str(value)) <= 60 else None
        case str() | bool() | int() | float():
            return str(value) if isinstance(value, str) and value.startswith(_FROM_ENVIRONMENT) else _short(value, name)
        case _:
            return None


def _short(value: Any, name: str) -> str | None:
    text = shown(value, name)
    return None if text == "the text" else text.strip("'")
