"""Sinks in a configuration: each with its plug-in's own settings, every mistake with its path, no secret shown."""

from __future__ import annotations

import pytest

from agent_gateway.record.base import SINKS
from tests.control.conftest import Load, Mistakes

FILE = "providers: {local: {kind: openai, base_url: 'http://127.0.0.1:9/v1', api_key: x}}\n"


@pytest.mark.parametrize(
    ("sinks", "error"),
    [
        ("jsonl", "monitoring.sinks: 'jsonl' is not a list; write [jsonl]"),
        ("[jsonl]", "monitoring.sinks[0]: 'jsonl' is not a mapping; write {kind: …}"),
        ("[{path: x}]", f"monitoring.sinks[0].kind: is missing; use one of {', '.join(SINKS.names)}"),
        ("[{kind: json}]", f"monitoring.sinks[0].kind: 'json' is not one of {', '.join(SINKS.names)}"),
        ("[{kind: database}]", "monitoring.sinks[0].kind: is where records go anyway; state.database says which it is"),
        ("[{kind: jsonl, name: database}]", "monitoring.sinks[0].name: is the name of where records go anyway; take another one"),
        ("[{kind: jsonl, pth: x}]", "monitoring.sinks[0].pth: is not a setting; did you mean path?"),
        ("[{kind: jsonl, path: /}]", "monitoring.sinks[0].path: / is a folder; name a file in it"),
        ("[{kind: jsonl}, {kind: jsonl, path: x}]", "monitoring.sinks[1].name: is jsonl again, like [0]; give each a name of its own"),
        ("[{kind: jsonl, name: A B}]", "monitoring.sinks[0].name: is 1 to 32 of a-z, 0-9, '_' and '-'"),
    ],
)
def test_every_mistake_is_told_with_its_path(mistakes: Mistakes, sinks: str, error: str) -> None:
    assert mistakes(f"{FILE}monitoring: {{sinks: {sinks}}}") == [error]


def test_sinks_are_read_with_their_own_settings(load_text: Load) -> None:
    sinks = "[{kind: jsonl}, {kind: jsonl, name: file, path: '${PLACE}'}]"
    first, second = load_text(f"{FILE}monitoring: {{sinks: {sinks}}}", {"PLACE": "12"}).settings.monitoring.sinks
    assert (first.title, first.path) == ("jsonl", "-")
    assert (second.title, second.path) == ("file", "12")
