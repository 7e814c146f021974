"""`agent-gateway simulate`, as a person and as a script see it; most of all what it says about mistakes."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from agent_gateway.cli import simulate
from agent_gateway.cli.main import main

PATIENCE_S = 20


@asynccontextmanager
async def simulator(*options: str) -> AsyncIterator[Process]:
    """The command in a process of its own, on any free port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agent_gateway", "simulate", "--port", "0", *options, stdout=PIPE, stderr=PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line_of(process: Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)).decode().rstrip("\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--error-rate 1.5", "--error-rate 1.5 is out of range: expected float <= 1.0"),
        ("--cut-rate -0.1", "--cut-rate -0.1 is out of range: expected float >= 0.0"),
        ("--ttft-ms -5", "--ttft-ms -5 is out of range"),
        ("--output-tokens 0", "--output-tokens 0 is out of range: expected int >= 1"),
        ("--tokens-per-s nan", "--tokens-per-s nan is out of range"),
        ("--ttft-ms inf", "--ttft-ms inf is out of range"),
        ("--batch-ms 3600001", "--batch-ms 3.6e+06 is out of range: expected float <= 3600000.0"),
        ("--price-input inf", "--price-input inf is out of range"),
        ("--error-rate 0.7 --hang-rate 0.7", "add up to 1.4; together they can be at most 1"),
        ("--port 70000", "--port 70000 is not a port"),
        ("--host 203.0.113.1 --port 0", "choose an address of this machine with --host"),
        ("--host no.such.host.invalid --port 0", "choose an address of this machine with --host"),
    ],
)
def test_a_mistake_is_named_and_exits_2(
    options: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulate, "_serve", lambda *_: pytest.fail("it serves all the same"))
    assert main(["simulate", *shlex.split(options)]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("agent-gateway simulate: ")
    assert said in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [("--error-rate much", "argument --error-rate"), ("--seed 1.5", "argument --seed"), ("--sped 1", "--sped")],
)
def test_what_is_no_option_or_no_number_exits_2(options: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["simulate", *shlex.split(options)])
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_a_port_in_use_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["simulate", "--port", str(port)]) == 2
    printed = capsys.readouterr()
    assert f"port {port} is in use: stop what listens there, or choose another with --port" in printed.err
    assert printed.out == ""


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    from agent_gateway.simulator.batches.settings import BatchSettings
    from agent_gateway.simulator.settings import SimulatorSettings

    with pytest.raises(SystemExit) as caught:
        main(["simulate", "--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert simulate.EXAMPLE in printed
    for settings in (SimulatorSettings, BatchSettings):
        for name, default in zip(settings.__struct_fields__, settings.__struct_defaults__, strict=True):
            if name != "kind":
                assert f"--{name.replace('_', '-')} " in printed
                assert f"(default {default})" in " ".join(printed.split())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_what_it_prints_and_stops_with_status_0(number: signal.Signals) -> None:
    async with simulator("--json", "--ttft-ms", "1", "--tokens-per-s", "0", "--seed", "7", "--batch-ms", "9") as process:
        said = msgspec.json.decode(await line_of(process))
        assert said["settings"]["seed"] == 7
        assert said["settings"]["ttft_ms"] == 1
        assert said["batches"] == {"batch_ms": 9, "price_input": 0.15, "price_output": 0.6}
        assert said["url"] == f"http://127.0.0.1:{said['port']}/v1"
        assert await _post(said["port"], "x") == b"HTTP/1.1 200 OK"
        process.send_signal(number)
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        assert (process.returncode, out, err) == (0, b"", b"")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_the_printed_curl_works() -> None:
    async with simulator("--ttft-ms", "1", "--tokens-per-s", "0") as process:
        lines: list[str] = []
        while not (lines and lines[-1].endswith("'")):
            lines.append(await line_of(process))
        curl = shlex.split("\n".join(lines[lines.index("try it:") + 1 :]).replace("\\\n", ""))
        asked = await asyncio.create_subprocess_exec(*curl, "-sS", "--noproxy", "*", stdout=PIPE)
        out, _ = await asyncio.wait_for(asked.communicate(), PATIENCE_S)
        assert asked.returncode == 0
        assert out.startswith(b"data: {")
        assert out.endswith(b"data: [DONE]\n\n")


async def test_drops_hangs_and_batches_under_way_leave_no_traceback() -> None:
    async with simulator("--json", "--ttft-ms", "1") as process:
        port = msgspec.json.decode(await line_of(process))["port"]
        batch = b'{"requests":[{"custom_id":"a","params":{"model":"m:batch-hang"}}]}'
        assert await _post(port, "any", batch, "/v1/messages/batches") == b"HTTP/1.1 200 OK"
        assert await _post(port, "cut-2") == b"HTTP/1.1 200 OK"
        hanging = asyncio.create_task(_post(port, "hang"))
        assert await _post(port, "fail-503") == b"HTTP/1.1 503 Service Unavailable"
        process.send_signal(signal.SIGTERM)
        _, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        await asyncio.wait([hanging], timeout=PATIENCE_S)
        assert process.returncode == 0
        assert b"Traceback" not in err


async def _post(
    port: int,
    key: str,
    body: bytes = b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}',
    path: str = "/v1/chat/completions",
) -> bytes:
    """The status line."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nconnection: close\r\n"
    writer.write(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
    data = await asyncio.wait_for(reader.read(), PATIENCE_S)
    writer.close()
    return data.partition(b"\r\n")[0]
