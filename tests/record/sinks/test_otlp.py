"""Traces, metrics and logs by OTLP, read by OpenTelemetry's own classes: conventions kept, refusals counted, a busy one waited for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE

from agent_gateway.core.call import Call
from agent_gateway.core.errors import ProviderFault
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.usage import Usage
from agent_gateway.record import shipping
from agent_gateway.record.base import Address, Tools
from agent_gateway.record.cost import settle
from agent_gateway.record.otlp import figures, naming
from agent_gateway.record.row import Mode, Record, make_record
from agent_gateway.record.sinks.otlp import OtlpSettings, OtlpSink
from tests.kit.collector import Collector, plain
from tests.kit.eventually import eventually
from tests.kit.ports import free_port
from tests.record.exchanges import attempt, exchange, records

PROVIDERS = {"local": Address("gemini", "llm.example", 8443)}
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "RETRY_FIRST_S", 0.01)
    monkeypatch.setattr(OtlpSink, "linger_s", 0.01)


def sink_to(collector: Collector, **settings: Any) -> OtlpSink:
    return OtlpSink(OtlpSettings(endpoint=collector.url, **settings), Tools(providers=PROVIDERS))


async def sent(collector: Collector, *rows: Record, **settings: Any) -> OtlpSink:
    sink = sink_to(collector, **settings)
    sink.write(rows)
    await sink.close(10)
    return sink


def row(made: Exchange, mode: Mode = "full") -> Record:
    settle(made)
    return make_record(made, mode)


def traced(flags: str = "01", **fields: Any) -> Record:
    made = exchange(stream=True, **fields)
    header = f"00-{TRACE}-{PARENT}-{flags}"
    made.call = msgspec.structs.replace(made.call, forward_headers={"traceparent": header})
    return row(made)


async def test_a_request_is_a_servers_span_and_a_model_call_its_child(collector: Collector) -> None:
    record = row(exchange(stream=True))
    sink = await sent(collector, record)
    assert (sink.written, sink.dropped) == (1, 0)
    server, client = collector.spans
    assert (server.name, server.kind) == ("POST /v1/chat/completions", server.SPAN_KIND_SERVER)
    assert (client.name, client.kind) == ("chat small", client.SPAN_KIND_CLIENT)
    assert (len(server.trace_id), len(server.span_id), server.parent_span_id) == (16, 8, b"")
    assert (client.trace_id, client.parent_span_id) == (server.trace_id, server.span_id)
    assert client.span_id != server.span_id
    assert server.start_time_unix_nano == record.started_ms * 1_000_000
    assert server.end_time_unix_nano - server.start_time_unix_nano == int(record.duration_ms * 1e6)
    assert server.start_time_unix_nano < client.start_time_unix_nano < client.end_time_unix_nano <= server.end_time_unix_nano
    assert plain(server.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "gcp.gemini",
        "gen_ai.request.model": "chat",
        "gen_ai.response.model": "small",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.output_tokens": 12,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.cache_creation.input_tokens": 0,
        "gen_ai.usage.reasoning.output_tokens": 0,
        "gen_ai.conversation.id": "session-9",
        "user.id": "user-7",
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "agent_gateway.request.id": record.id,
        "agent_gateway.client_request.id": "theirs",
        "agent_gateway.status": "success",
        "agent_gateway.dialect": "openai_chat",
        "agent_gateway.pattern": "streaming",
        "agent_gateway.deployment": "local/small",
        "agent_gateway.key.id": "key-1",
        "agent_gateway.cost_usd": record.cost_usd,
        "agent_gateway.attempts": 1,
        "agent_gateway.overhead": pytest.approx(0.002, abs=1e-4),
        "agent_gateway.time_to_first_token": pytest.approx(0.101, abs=1e-4),
    }
    told = plain(client.attributes)
    assert {name: told[name] for name in ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model")} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "gcp.gemini",
        "gen_ai.request.model": "small",
    }
    assert (told["server.address"], told["server.port"], told["gen_ai.usage.output_tokens"]) == ("llm.example", 8443, 12)
    marks = {event.name: (event.time_unix_nano - server.start_time_unix_nano) / 1e9 for event in client.events}
    assert marks == {
        "agent_gateway.connected": pytest.approx(0.002, abs=1e-4),
        "agent_gateway.first_byte": pytest.approx(0.101, abs=1e-4),
        "agent_gateway.first_token": pytest.approx(0.101, abs=1e-4),
    }


async def test_the_clients_span_is_the_parent(collector: Collector) -> None:
    await sent(collector, traced())
    server, client = collector.spans
    assert (server.trace_id.hex(), server.parent_span_id.hex()) == (TRACE, PARENT)
    assert client.trace_id.hex() == TRACE
    assert server.flags == 0x301
    (log,) = collector.log_records
    assert (log.trace_id.hex(), log.span_id) == (TRACE, server.span_id)


async def test_a_trace_that_its_client_does_not_follow_has_no_spans(collector: Collector) -> None:
    sink = await sent(collector, traced("00"))
    assert collector.spans == []
    assert len(collector.log_records) == 1
    assert collector.metrics
    assert (sink.written, sink.dropped) == (1, 0)


@pytest.mark.parametrize(
    "header", ["", "x", f"ff-{TRACE}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE}-{PARENT}"]
)
async def test_a_header_that_is_none_begins_a_trace(collector: Collector, header: str) -> None:
    await sent(collector, records(1)[0]._replace(traceparent=header))
    server, _ = collector.spans
    assert server.parent_span_id == b""
    assert server.trace_id.hex() != TRACE


async def test_a_failure_and_a_second_try_are_told_apart(collector: Collector) -> None:
    failed = attempt(10.001, 10.2, "provider_error", provider_status=500, error_detail="out of memory", usage=None)
    record = row(exchange(attempts=[failed, attempt(10.2)], reason="provider_error", status="fallback"))
    whole = row(exchange(attempts=[failed], error=ProviderFault("It failed."), answer=[]))
    await sent(collector, record, whole)
    server, first, second, alone, only = collector.spans
    assert (server.status.code, second.status.code) == (server.status.STATUS_CODE_UNSET, server.status.STATUS_CODE_UNSET)
    assert (first.status.code, first.status.message) == (first.status.STATUS_CODE_ERROR, "out of memory")
    assert plain(first.attributes)["error.type"] == "provider_error"
    assert "gen_ai.usage.output_tokens" not in plain(first.attributes)
    assert plain(second.attributes)["gen_ai.usage.output_tokens"] == 12
    assert plain(server.attributes)["agent_gateway.reason"] == "provider_error"
    assert alone.status.code == alone.status.STATUS_CODE_ERROR
    assert plain(alone.attributes)["error.type"] == plain(only.attributes)["error.type"] == "provider_error"
    severities = [(log.severity_text, log.body.string_value) for log in collector.log_records]
    assert severities == [("INFO", "chat chat: fallback (provider_error)"), ("ERROR", "chat chat: error (provider_error)")]


async def test_metrics_keep_to_the_conventions(collector: Collector) -> None:
    stream = row(exchange(stream=True))
    await sent(
        collector,
        *(row(exchange()) for _ in range(3)),
        stream,
        row(exchange(error=ProviderFault("x"), attempts=[attempt(outcome="provider_error")])),
    )
    told = collector.metrics
    assert set(told) == {instrument.name for instrument in naming.INSTRUMENTS}
    assert {name: metric.unit for name, metric in told.items()} == {one.name: one.unit for one in naming.INSTRUMENTS}
    usage = told["gen_ai.client.token.usage"].histogram
    assert usage.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
    points = {plain(point.attributes)["gen_ai.token.type"]: point for point in usage.data_points}
    assert (points["input"].sum, points["input"].count, points["output"].sum) == (120, 4, 48)
    assert list(points["input"].explicit_bounds)[:4] == [1, 4, 16, 64]
    assert len(points["input"].bucket_counts) == len(points["input"].explicit_bounds) + 1
    assert plain(points["input"].attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "gcp.gemini",
        "gen_ai.request.model": "small",
        "gen_ai.token.type": "input",
        "server.address": "llm.example",
        "server.port": 8443,
    }
    durations = {
        plain(point.attributes).get("error.type"): point for point in told["gen_ai.client.operation.duration"].histogram.data_points
    }
    assert (durations[None].count, durations["provider_error"].count) == (4, 1)
    assert durations[None].sum == pytest.approx(4 * 0.499, abs=1e-3)
    (first,) = told["gen_ai.server.time_to_first_token"].histogram.data_points
    assert (first.count, first.sum) == (1, pytest.approx(0.101, abs=1e-3))
    cost = told["agent_gateway.cost"].sum
    assert cost.is_monotonic
    assert sum(point.as_double for point in cost.data_points) == pytest.approx(4 * (stream.cost_usd or 0))


async def test_sums_go_on_from_export_to_export(collector: Collector) -> None:
    sink = sink_to(collector, signals=("metrics",), metrics_every_s=1)
    sink.tick_every_s = 0.05
    for count in (2, 5):
        sink.write(records(count))
        await eventually(lambda: "gen_ai.server.request.duration" in collector.metrics, "metrics")
    await sink.close(10)
    (point,) = collector.metrics["gen_ai.server.request.duration"].histogram.data_points
    assert (point.count, sink.written) == (7, 7)
    assert collector.spans == collector.log_records == []


async def test_names_that_clients_invent_do_not_make_more_series(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = [one._replace(model=f"m{number}", http_status=404, attempts=None) for number, one in enumerate(records(50))]
    await sent(collector, *unknown)
    (point,) = collector.metrics["gen_ai.server.request.duration"].histogram.data_points
    assert point.count == 50
    monkeypatch.setattr(figures, "SERIES_MAX", 10)
    await sent(collector, *[one._replace(model=f"m{number}") for number, one in enumerate(records(50))])
    points = collector.metrics["gen_ai.server.request.duration"].histogram.data_points
    assert len(points) == 10
    (over,) = [point for point in points if "otel.metric.overflow" in plain(point.attributes)]
    assert over.count == 41


async def test_content_is_told_only_where_it_was_asked_for(collector: Collector) -> None:
    body = msgspec.json.encode(
        {
            "model": "chat",
            "messages": [
                {"role": "system", "content": "Be kind."},
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": "https://x/y.png"}}],
                },
                {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}]},
                {"role": "tool", "tool_call_id": "c1", "content": "42"},
            ],
        }
    )
    made = exchange(call=Call("openai_chat", "chat", body))
    await sent(collector, row(made), content=True)
    (log,) = collector.log_records
    assert log.event_name == "gen_ai.client.inference.operation.details"
    told = plain(log.attributes)
    assert told["gen_ai.input.messages"] == [
        {"role": "system", "parts": [{"type": "text", "content": "Be kind."}]},
        {
            "role": "user",
            "parts": [
                {"type": "text", "content": "Hi"},
                {"type": "uri", "modality": "image", "mime_type": None, "uri": "https://x/y.png"},
            ],
        },
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "c1", "name": "f", "arguments": '{"a":1}'}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": [{"type": "text", "content": "42"}]}]},
    ]
    assert told["gen_ai.output.messages"] == [
        {"role": "assistant", "parts": [{"type": "text", "content": "Hello there"}], "finish_reason": "stop"}
    ]
    collector.exports.clear()
    await sent(collector, row(made))
    assert "Hello" not in str(collector.exports)


async def test_a_minimal_record_tells_nothing_of_who_asked(collector: Collector) -> None:
    made = exchange()
    made.call = msgspec.structs.replace(made.call, forward_headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    await sent(collector, row(made, "minimal"), content=True)
    told = str(collector.exports)
    assert not any(word in told for word in ("user-7", "session-9", "theirs", "Hello", "Who are you"))
    assert collector.spans[0].parent_span_id == b""


async def test_headers_resource_and_compression_are_as_configured(collector: Collector) -> None:
    settings = {"headers": {"authorization": "Bearer s3cret"}, "service_name": "edge", "resource": {"deployment.environment.name": "eu"}}
    await sent(collector, *records(1), **settings, compression="none", signals=("traces",))
    (export,) = collector.exports
    assert (export.headers["authorization"], export.headers["content-type"]) == ("Bearer s3cret", "application/x-protobuf")
    assert "content-encoding" not in export.headers
    (resource,) = (plain(one.resource.attributes) for one in export.message.resource_spans)
    assert (resource["service.name"], resource["deployment.environment.name"]) == ("edge", "eu")
    assert "s3cret" not in repr(OtlpSettings(endpoint=collector.url, headers={"authorization": "Bearer s3cret"}))


async def test_a_busy_collector_is_waited_for_and_gets_each_signal_once(collector: Collector) -> None:
    collector.answers = [(429, {"retry-after": "0"}), (503, {}), (200, {}), (502, {})]
    sink = await sent(collector, *records(3), signals=("traces", "logs"))
    assert (sink.written, sink.dropped, collector.refused) == (3, 0, 3)
    assert (len(collector.spans), len(collector.log_records)) == (6, 3)


@pytest.mark.parametrize("status", [301, 400, 401, 404, 413, 500])
async def test_what_a_collector_refuses_is_counted(collector: Collector, status: int) -> None:
    collector.answers = [(status, {"location": f"{collector.url}/v1/traces"})]
    sink = await sent(collector, *records(3), signals=("traces",))
    assert (sink.written, sink.dropped, len(collector.exports)) == (0, 3, 0)


async def test_what_a_collector_rejects_of_a_batch_is_counted(collector: Collector) -> None:
    collector.rejects["/v1/logs"] = 2
    sink = await sent(collector, *records(5), signals=("logs",))
    assert (sink.written, sink.dropped) == (3, 2)


async def test_a_collector_that_was_down_gets_what_waited(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    sink = OtlpSink(OtlpSettings(endpoint=f"http://127.0.0.1:{port}", signals=("traces",)), Tools())
    sink.write(records(2))
    await eventually(lambda: "takes no records" in caplog.text, "the warning")
    with Collector(port) as collector:
        await eventually(lambda: sink.written == 2, "what waited")
        await sink.close(10)
    assert (len(collector.spans), sink.dropped) == (4, 0)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"endpoint": "collector:4318"}, "endpoint: is not an address; use http://… or https://…"),
        ({"endpoint": "http://u:p@collector:4318"}, "endpoint: holds a user, a query or a fragment"),
        ({"endpoint": "http://collector:99999"}, "endpoint: is not an address: Port out of range"),
        ({"endpoint": "http://c", "headers": {"a b": "x"}}, "headers: a b cannot be sent as a header"),
        ({"endpoint": "http://c", "headers": {"a": "x\r\ny: z"}}, "headers: a cannot be sent as a header"),
    ],
)
def test_what_cannot_be_sent_is_told_at_the_start(settings: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        OtlpSettings(**settings)


async def test_usage_of_each_call_is_told_where_there_were_several(collector: Collector) -> None:
    lost = attempt(10.001, 10.2, "lost_race", usage=Usage(input=30, output=5))
    await sent(collector, row(exchange(attempts=[lost, attempt(10.1)])))
    tokens = [plain(span.attributes).get("gen_ai.usage.output_tokens") for span in collector.spans]
    assert tokens == [12, 5, 12]
