"""Records on their way to other systems, from the real gateway: traces go on from the client's, and nobody waits for a collector."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import msgspec

from tests.journeys.conftest import Launch, one_edge
from tests.kit import replies, samples
from tests.kit.client import CHAT, ask, chat
from tests.kit.collector import Collector, plain
from tests.kit.eventually import PATIENCE_S, eventually
from tests.kit.gateway import Gateway
from tests.kit.provider import ScriptedProvider

pytestmark = one_edge
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


async def _answered(gateway: Gateway, count: int = 1) -> list[str]:
    """Ids of so many requests, each answered."""
    ids = []
    for _ in range(count):
        reply = await ask(gateway.url, CHAT, chat(), headers=TRACEPARENT)
        assert reply.status == 200
        ids.append(reply.headers["x-request-id"])
    return ids


async def _metric(gateway: Gateway, line: str) -> float:
    text = (await ask(gateway.url, "/metrics")).body.decode()
    return sum(float(found.rsplit(" ", 1)[1]) for found in text.splitlines() if found.startswith(f"agent_gateway_{line}"))


async def _counts(gateway: Gateway, line: str, value: float) -> None:
    """It comes to this, at the latest when the sink has looked behind what it wrote."""
    async with asyncio.timeout(PATIENCE_S):
        while await _metric(gateway, line) != value:  # noqa: ASYNC110 – another process's doing
            await asyncio.sleep(0.02)


async def test_a_trace_goes_on_from_the_clients_through_the_gateway_to_the_collector(provider: ScriptedProvider, launch: Launch) -> None:
    provider.reply(replies.whole(samples.COMPLETION))
    with Collector() as collector:
        gateway = launch(monitoring={"otlp_endpoint": collector.url})
        (request_id,) = await _answered(gateway)
        assert provider.last.headers["traceparent"] == TRACEPARENT["traceparent"]
        await eventually(lambda: len(collector.spans) == 2, "two spans")
        assert await asyncio.to_thread(gateway.stop) == 0
    server, client = collector.spans
    assert (server.trace_id.hex(), server.parent_span_id.hex()) == (TRACE, PARENT)
    assert client.parent_span_id == server.span_id
    assert plain(server.attributes)["agent_gateway.request.id"] == request_id
    told = plain(client.attributes)
    assert (told["gen_ai.provider.name"], told["server.address"], told["server.port"]) == ("openai", "127.0.0.1", provider.port)
    assert "gen_ai.client.operation.duration" in collector.metrics, "told at the end at the latest"
    assert len(collector.log_records) == 1


async def test_sinks_come_and_go_with_a_reload(provider: ScriptedProvider, launch: Launch, tmp_path: Path) -> None:
    provider.reply(replies.whole(samples.COMPLETION))
    lines = {name: tmp_path / f"{name}.jsonl" for name in ("one", "two")}
    gateway = launch(monitoring={"sinks": [{"kind": "jsonl", "name": "one", "path": str(lines["one"])}]})
    first = await _answered(gateway, 3)
    configuration = msgspec.json.decode(gateway.config_file.read_bytes())
    configuration["monitoring"]["sinks"] = [{"kind": "jsonl", "name": "two", "path": str(lines["two"])}]
    gateway.write_config(configuration)
    gateway.signal(signal.SIGHUP)
    await eventually(lambda: "the configuration was reloaded" in gateway.log, "the reload")
    second = await _answered(gateway, 2)
    assert await _metric(gateway, 'records_total{outcome="dropped"') == 0
    assert await asyncio.to_thread(gateway.stop) == 0
    told = {name: [msgspec.json.decode(line)["id"] for line in path.read_bytes().splitlines()] for name, path in lines.items()}
    assert told == {"one": first, "two": second}


async def test_a_collector_that_is_down_delays_nobody_and_is_counted(
    provider: ScriptedProvider, launch: Launch, tmp_path: Path, closed_port: int
) -> None:
    provider.reply(replies.whole(samples.COMPLETION))
    path = tmp_path / "records.jsonl"
    sinks = [{"kind": "otlp", "endpoint": f"http://127.0.0.1:{closed_port}"}, {"kind": "jsonl", "path": str(path)}]
    gateway = launch(monitoring={"sinks": sinks})
    ids = await _answered(gateway, 5)
    await eventually(lambda: path.exists() and len(path.read_bytes().splitlines()) == 5, "the lines")
    await eventually(lambda: [record["id"] for record in gateway.records] == ids, "the records: each sink writes in its own time")
    await _counts(gateway, 'records_total{outcome="written",sink="jsonl"}', 5)
    assert await _metric(gateway, 'records_total{outcome="written",sink="otlp"}') == 0
    await eventually(lambda: "The sink otlp takes no records at the moment" in gateway.log, "the warning")
    gateway.kill()
