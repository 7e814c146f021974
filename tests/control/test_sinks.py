"""Sinks in a configuration: each with its plug-in's own settings, every mistake with its path, no secret shown."""

from __future__ import annotations

import pytest

from agent_gateway.control.masking import masked
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


def test_the_short_form_of_otlp_is_a_sink_of_its_kind(load_text: Load, mistakes: Mistakes) -> None:
    monitoring = load_text(f"{FILE}monitoring: {{otlp_endpoint: '${{OTLP}}'}}", {"OTLP": "http://c:4318"}).settings.monitoring
    assert [(sink.title, sink.endpoint) for sink in monitoring.sinks] == [("otlp", "http://c:4318")]
    told = mistakes(f"{FILE}monitoring: {{otlp_endpoint: 'http://u:s3cret@h'}}")
    (error,) = told
    assert error.startswith("monitoring.otlp_endpoint: holds a user, a query or a fragment")
    assert "s3cret" not in error
    (error,) = mistakes(f"{FILE}monitoring: {{otlp_endpoint: 'http://c', sinks: [{{kind: otlp, endpoint: 'http://d'}}]}}")
    assert error == "monitoring.sinks[1].name: is otlp again, like [0]; give each a name of its own"


def test_no_secret_of_a_sink_is_shown(load_text: Load) -> None:
    sinks = "[{kind: otlp, endpoint: 'http://c/t0ken', headers: {authorization: t0ken}}, {kind: clickhouse, password: t0ken}]"
    assert "t0ken" not in str(masked(load_text(f"{FILE}monitoring: {{sinks: {sinks}}}").settings.monitoring, "monitoring"))


def test_sinks_are_read_with_their_own_settings(load_text: Load) -> None:
    sinks = "[{kind: jsonl}, {kind: jsonl, name: file, path: '${PLACE}'}]"
    first, second = load_text(f"{FILE}monitoring: {{sinks: {sinks}}}", {"PLACE": "12"}).settings.monitoring.sinks
    assert (first.title, first.path) == ("jsonl", "-")
    assert (second.title, second.path) == ("file", "12")
