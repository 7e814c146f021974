"""`${VAR}` and `${VAR:-default}` in a configuration's texts; `$${` is a plain `${`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from agent_gateway.control.errors import Findings

#: Deeper than any section goes; stops a YAML anchor that holds itself.
DEPTH_MAX = 40
#: A shorter value is no secret, and hiding it would make errors unreadable.
SECRET_MIN = 6

_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL", re.IGNORECASE)

_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^{}]*))?\}|(?P<bad>\$\{)")


class Expanded(str):
    """Text that came from the environment: errors show it as it was written, and it is read as its field's type."""

    __slots__ = ("whole", "written")

    written: str
    #: One reference and nothing around it.
    whole: bool

    def __new__(cls, value: str, written: str, whole: bool = True) -> Expanded:
        text = super().__new__(cls, value)
        text.written = written
        text.whole = whole
        return text


def expand(value: Any, environ: Mapping[str, str], findings: Findings, path: str = "", depth: int = 0) -> Any:
    """A copy of `value` with every reference replaced; what cannot be goes to `findings`, and the text stays."""
    if depth > DEPTH_MAX:
        findings.error(path, f"is nested more than {DEPTH_MAX} deep")
        return None
    if isinstance(value, Expanded):
        return value
    if isinstance(value, str):
        return _expand_text(value, environ, findings, path) if "${" in value else value
    if isinstance(value, dict):
        expanded = {}
        for key, item in value.items():
            at = f"{path}.{key}" if path else str(key)
            if isinstance(key, str) and "${" in key:
                findings.error(at, "a name cannot hold ${…}; write it out")
            expanded[key] = expand(item, environ, findings, at, depth + 1)
        return expanded
    if isinstance(value, list):
        return [expand(item, environ, findings, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    return value


def _expand_text(text: str, environ: Mapping[str, str], findings: Findings, path: str) -> str:
    def replace(match: re.Match[str]) -> str:
        if match["bad"]:
            findings.error(path, "holds a ${ that is not ${VAR} or ${VAR:-default}; write $${ for a plain ${")
            return match.group()
        name = match["name"]
        if name is None:
            return "${"
        default = match["default"]
        if default is not None and not environ.get(name):
            return default
        if name not in environ:
            findings.error(path, f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}")
            return ""
        value = environ[name]
        if _SECRET_NAME.search(name) and len(value) >= SECRET_MIN:
            findings.secrets.add(value)
        return value

    expanded = _REFERENCE.sub(replace, text)
    whole = _REFERENCE.fullmatch(text)
    if whole is None and not any(match["name"] for match in _REFERENCE.finditer(text)):
        return expanded
    return Expanded(expanded, written=text, whole=whole is not None and whole["name"] is not None)
