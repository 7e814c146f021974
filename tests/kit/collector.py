"""An OpenTelemetry collector's HTTP endpoint: reads what it is sent with OpenTelemetry's own protobuf classes, and nothing else."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf.message import Message  # type: ignore[import-untyped]
from google.protobuf.unknown_fields import UnknownFieldSet  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest, ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

_REQUESTS: dict[str, Any] = {
    "/v1/traces": (ExportTraceServiceRequest, ExportTraceServiceResponse),
    "/v1/metrics": (ExportMetricsServiceRequest, ExportMetricsServiceResponse),
    "/v1/logs": (ExportLogsServiceRequest, ExportLogsServiceResponse),
}


@dataclass(frozen=True, slots=True)
class Export:
    path: str
    headers: dict[str, str]
    message: Any


class Collector:
    """Listens on loopback while it is entered. `answers`: what the next requests get, a status with headers; then 200."""

    def __init__(self, port: int = 0) -> None:
        self.exports: list[Export] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        #: Items of each request of a path that are said to be rejected.
        self.rejects: dict[str, int] = {}
        self.refused = 0
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                collector._answer(self)

            def log_message(self, format: str, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Collector:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["content-length"]))
        status, headers = self.answers.pop(0) if self.answers else (200, {})
        reply = b""
        if status == 200:
            request, response = _REQUESTS[handler.path]
            told = response()
            if self.rejects.get(handler.path):
                field = next(iter(told.DESCRIPTOR.fields_by_name["partial_success"].message_type.fields))
                setattr(told.partial_success, field.name, self.rejects[handler.path])
                told.partial_success.error_message = "no room"
            reply = told.SerializeToString()
            message = request.FromString(gzip.decompress(body) if handler.headers["content-encoding"] == "gzip" else body)
            _check(message)
            self.exports.append(Export(handler.path, {name.lower(): value for name, value in handler.headers.items()}, message))
        else:
            self.refused += 1
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("content-type", "application/x-protobuf")
        handler.send_header("content-length", str(len(reply)))
        handler.end_headers()
        handler.wfile.write(reply)

    @property
    def spans(self) -> list[Any]:
        return list(self._items("/v1/traces", "resource_spans", "scope_spans", "spans"))

    @property
    def log_records(self) -> list[Any]:
        return list(self._items("/v1/logs", "resource_logs", "scope_logs", "log_records"))

    @property
    def metrics(self) -> dict[str, Any]:
        """As told last, by name."""
        return {metric.name: metric for metric in self._items("/v1/metrics", "resource_metrics", "scope_metrics", "metrics")}

    def _items(self, path: str, of_resource: str, of_scope: str, items: str) -> Iterator[Any]:
        for export in list(self.exports):
            if export.path == path:
                for resource in getattr(export.message, of_resource):
                    for scope in getattr(resource, of_scope):
                        yield from getattr(scope, items)


def _check(message: Message) -> None:
    """No field that the real classes do not know, however deep."""
    assert len(UnknownFieldSet(message)) == 0, message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for one in value if field.is_repeated else [value]:
                _check(one)


def plain(attributes: Any) -> dict[str, Any]:
    """Attributes as Python's values."""
    told = {one.key: _value(one.value) for one in attributes}
    assert len(told) == len(attributes), "a name is told twice"
    return told


def _value(value: AnyValue) -> Any:
    match value.WhichOneof("value"):
        case "array_value":
            return [_value(item) for item in value.array_value.values]
        case "kvlist_value":
            items: Any = value.kvlist_value.values
            return {item.key: _value(item.value) for item in items if isinstance(item, KeyValue)}
        case None:
            return None
        case name:
            return getattr(value, name)
