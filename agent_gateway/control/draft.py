"""The running configuration as a start for editing, and what came of editing it, whole again.

Promise: a draft shows no secret; given back as it was told, it is the running configuration; given back changed, what it leaves masked is
what the running one has in that place, and no error tells it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

from agent_gateway.control.environment import VARIABLES, given
from agent_gateway.control.errors import ConfigurationError, Findings
from agent_gateway.control.expand import DEPTH_MAX, SECRET_MIN, Expanded
from agent_gateway.control.load import compile_raw
from agent_gateway.control.masking import MASK, masked
from agent_gateway.control.prices import load_catalogue
from agent_gateway.control.snapshot import Configuration
from agent_gateway.control.source import parse
from agent_gateway.control.yaml_text import yaml_of

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Where a secret was masked and nothing in that place has one: nobody is called with it.
_STAND_IN = "masked-as-it-was-given"
_UNREAD = "reads no variables here: ${VAR} is only a text that stands for its value; where the value matters, write it"


def draft_of(configuration: Configuration, environ: Mapping[str, str], options: Mapping[str, Any]) -> str:
    """What was set in it, by whatever file, variable or option, as YAML; secrets as the variables they come from, else masked."""
    return yaml_of(_drafted(_given(configuration, environ, options), masked(configuration.settings)))


def compile_draft(text: str, name: str, running: Configuration, environ: Mapping[str, str], options: Mapping[str, Any]) -> Configuration:
    """What a draft of `running` has become. Of `environ` it learns which variables there are, and no value. `name` stands for its file's.

    Raises `ConfigurationError`.
    """
    whole = _given(running, environ, options)
    findings = Findings()
    written = _restored(parse(text, name), _drafted(whole, masked(running.settings)), whole, findings.secrets)
    try:
        return compile_raw(written, name, unread(environ), findings, {}, lambda: load_catalogue(environ))
    except ConfigurationError as error:
        hint = [f"{name}: {_UNREAD}"] if any("${" in line for line in error.errors) else []
        raise ConfigurationError([*error.errors, *hint]) from None


def unread(environ: Mapping[str, str]) -> dict[str, str]:
    """Which variables there are, each with its own reference for a value; those that would go over what is written are left out."""
    return {name: f"${{{name}}}" for name in environ if name not in VARIABLES}


def _given(configuration: Configuration, environ: Mapping[str, str], options: Mapping[str, Any]) -> dict[str, Any]:
    return given(configuration.written, environ, options, Findings())


def _drafted(raw: Any, shown: Any) -> Any:
    """`raw` as its settings are `shown`, which have been told what may be seen. What nothing is known of is masked."""
    match raw:
        case dict():
            known = shown if isinstance(shown, dict) else {}
            return {name: _drafted(item, known.get(name, MASK)) for name, item in raw.items()}
        case list():
            items = shown if isinstance(shown, list) else []
            return [_drafted(item, items[index] if index < len(items) else MASK) for index, item in enumerate(raw)]
        case None | bool() | int() | float():
            return raw
        case str() if raw == shown or (isinstance(shown, dict) and shown.get("kind") == raw):
            return raw.replace("${", "$${")
        case Expanded() if isinstance(shown, str | list | dict):
            return f"${{{raw.written}}}" if _NAME.fullmatch(raw.written) else raw.written
        case _ if isinstance(shown, float) and shown.is_integer():
            return int(shown)
        case _:
            return shown if isinstance(shown, str | bool | int | float | None) else MASK


def _restored(edited: Any, drafted: Any, whole: Any, secrets: set[str], depth: int = 0) -> Any:
    """`edited`, in which what stands as it does in the draft or in the file is again what it stands for. Those texts join `secrets`."""
    match edited:
        case dict() | list() if depth > DEPTH_MAX:
            return edited
        case dict():
            was, is_now = (each if isinstance(each, dict) else {} for each in (drafted, whole))
            return {name: _restored(item, was.get(name), is_now.get(name), secrets, depth + 1) for name, item in edited.items()}
        case list():
            were, are_now = (each if isinstance(each, list) else [] for each in (drafted, whole))
            items = zip_longest(edited, were[: len(edited)], are_now[: len(edited)])
            return [_restored(item, was, is_now, secrets, depth + 1) for item, was, is_now in items]
        case str() if isinstance(whole, str) and whole != edited and edited in (drafted, getattr(whole, "written", None)):
            if len(whole) >= SECRET_MIN:
                secrets.add(str(whole))
            return Expanded(whole, written=edited)
        case str() if MASK in edited and edited != whole:  # whose own text it is there, nothing was masked
            return Expanded(edited.replace(MASK, _STAND_IN), written=edited)
        case _:
            return edited
