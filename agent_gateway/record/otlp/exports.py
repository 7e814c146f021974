"""Stories → the bodies of OTLP's requests: spans of traces, and a log record each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agent_gateway.record.otlp.messages import messages
from agent_gateway.record.otlp.naming import EVENT, INPUT_MESSAGES, MARKS, OUTPUT_MESSAGES, attributes
from agent_gateway.record.otlp.protobuf import data, fixed32, fixed64, integer, text
from agent_gateway.record.otlp.story import Called, Story, route
from agent_gateway.record.otlp.values import attribute

#: Of `opentelemetry.proto`: kinds of spans, the status of one, severities of logs.
_SERVER, _CLIENT = 2, 3
_ERROR = 2
_INFO, _WARNING, _FAILED = (9, "INFO"), (13, "WARN"), (17, "ERROR")
#: Flags of a span: sampled; whether its parent is another process's is known, and so.
_SAMPLED, _KNOWN, _REMOTE = 0x1, 0x100, 0x200

#: Of every scope.
_SCHEMA = "https://opentelemetry.io/schemas/1.37.0"


class Envelope:
    """What goes around all that this process tells: the resource that it is."""

    def __init__(self, resource: Mapping[str, str], version: str) -> None:
        self._resource = data(1, b"".join([attribute(1, name, value) for name, value in resource.items()]))
        self._scope = data(1, text(1, "agent_gateway") + text(2, version))

    def around(self, items: bytes) -> bytes:
        """An export request of any signal; `items` are its spans, log records or metrics, each as a field 2."""
        return data(1, self._resource + data(2, self._scope + items) + text(3, _SCHEMA))


# --- traces -----------------------------------------------------------------------------------------------------------


def spans(stories: Iterable[Story]) -> bytes:
    """Of those that their clients' tracing follows."""
    return b"".join([_request_span(story) + b"".join([_call_span(story, call) for call in story.calls]) for story in stories])


def _request_span(story: Story) -> bytes:
    record = story.record
    parent = b"" if story.parent_id is None else data(4, story.parent_id)
    flags = _SAMPLED | _KNOWN | (0 if story.parent_id is None else _REMOTE)
    status = data(15, integer(3, _ERROR)) if record.http_status >= 500 else b""  # a server's span: a client's mistake is none of its own
    name = f"POST {route(record)}"
    body = _span(story, story.span_id, name, _SERVER, story.started, story.ended)
    return data(2, body + parent + attributes(9, "request", story.values) + status + fixed32(16, flags))


def _call_span(story: Story, call: Called) -> bytes:
    attempt, values = call.attempt, call.values
    body = _span(story, call.span_id, f"{values['operation']} {values['model']}", _CLIENT, call.started, call.ended)
    marks = [
        data(11, fixed64(1, story.started + int(at_ms * 1e6)) + text(2, name))
        for name, field in MARKS.items()
        if (at_ms := getattr(attempt, field)) is not None
    ]
    status = b""
    if values["error"] is not None:
        status = data(15, (text(2, attempt.detail) if attempt.detail else b"") + integer(3, _ERROR))
    flags = fixed32(16, _SAMPLED | _KNOWN)
    return data(2, body + data(4, story.span_id) + attributes(9, "call", values) + b"".join(marks) + status + flags)


def _span(story: Story, span_id: bytes, name: str, kind: int, started: int, ended: int) -> bytes:
    return data(1, story.trace_id) + data(2, span_id) + text(5, name) + integer(6, kind) + fixed64(7, started) + fixed64(8, ended)


# --- logs -------------------------------------------------------------------------------------------------------------


def logs(stories: Iterable[Story], with_content: bool) -> bytes:
    return b"".join([_log(story, with_content) for story in stories])


def _log(story: Story, with_content: bool) -> bytes:
    record = story.record
    number, severity = _FAILED if record.http_status >= 500 else _WARNING if record.http_status >= 400 else _INFO
    said = f"{story.values['operation']} {record.model}: {record.status}" + (f" ({record.reason})" if record.reason else "")
    parts = [
        fixed64(1, story.ended),
        fixed64(11, story.ended),
        integer(2, number),
        text(3, severity),
        data(5, text(1, said)),
        attributes(6, "request", story.values),
        fixed32(8, int(story.sampled)),
        data(9, story.trace_id),
        data(10, story.span_id),
        text(12, EVENT),
    ]
    if with_content:
        asked, answered = messages(record)
        parts += [attribute(6, INPUT_MESSAGES, asked)] if asked else []
        parts += [attribute(6, OUTPUT_MESSAGES, answered)] if answered else []
    return data(2, b"".join(parts))
