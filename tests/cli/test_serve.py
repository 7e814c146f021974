"""`serve` as a process: what it says to programs, and that it takes up a changed file by itself."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
import pytest

from agent_gateway.cli import serving
from agent_gateway.cli.calm import let_generators_go
from agent_gateway.control.source import Source
from tests.kit.eventually import eventually

COMMAND = Path(sys.executable).with_name("agent-gateway")
TEXT = "providers: {sim: {kind: simulated}}\nmodels: {chat: {deployments: [{provider: sim, model: m}]}}\n"


def _models(url: str) -> set[str]:
    with urllib.request.urlopen(f"{url}/v1/models", timeout=5) as reply:
        return {model["id"] for model in msgspec.json.decode(reply.read())["data"]}


def _started(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


async def test_it_tells_programs_where_it_is_and_takes_up_a_changed_file(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(TEXT)
    command = [str(COMMAND), "serve", "--json", "--reload", "--port", "0", "--config", str(file)]
    with _started(command, tmp_path) as process:
        try:
            assert process.stdout is not None
            told = msgspec.json.decode(process.stdout.readline())
            assert (told["models"], set(told)) == (["chat"], {"url", "dashboard", "models", "version", "pid"})
            assert told["dashboard"] == f"{told['url']}/dashboard"
            file.write_text(TEXT.replace("chat", "talk"))
            await eventually(lambda: _models(told["url"]) == {"talk"}, "the new model is served")
        finally:
            process.terminate()
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    warnings = [msgspec.json.decode(line) for line in said.splitlines() if line.startswith(b"{")]
    assert any("auth.admin_key" in warning["warning"] for warning in warnings)


@pytest.mark.parametrize("read", [TEXT, "what stood there a moment ago"])
async def test_a_file_that_was_changed_while_the_gateway_began_is_taken_up(
    read: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Path] = []
    stamp = serving._stamp

    def counted(file: Path) -> tuple[int, int, int] | None:
        looks.append(file)
        return stamp(file)

    monkeypatch.setattr(serving, "_stamp", counted)
    monkeypatch.setattr(serving, "WATCH_EVERY_S", 0.001)
    (tmp_path / "gateway.yaml").write_text(TEXT)
    changes: list[None] = []
    watching = serving._watching(Source(str(tmp_path / "gateway.yaml"), read), lambda: changes.append(None))
    assert watching is not None
    await eventually(lambda: len(looks) > 5, "it is looked at")
    watching.cancel()
    assert len(changes) == (read != TEXT)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_in_use_says_what_to_do(workers: str, tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(TEXT)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [str(COMMAND), "serve", "--port", str(port), "--workers", workers]
        told, as_json = (subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, timeout=30) for more in ((), ("--json",)))
    words = f"port {port} is in use: stop what listens there, or choose another with --port (0 takes any free one)"
    assert (told.returncode, told.stdout) == (1, b"")
    assert told.stderr.decode().splitlines()[-1] == f"agent-gateway: {words}"
    assert (as_json.returncode, msgspec.json.decode(as_json.stdout)) == (1, {"ok": False, "errors": [words]})


def test_who_may_have_few_files_open_is_told(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(TEXT)
    command = ["bash", "-c", 'ulimit -n 1000 && exec "$0" serve --port 0', str(COMMAND)]
    with _started(command, tmp_path) as process:
        assert process.stdout is not None
        address, dashboard = process.stdout.readline(), process.stdout.readline()
        assert b"listens on http://127.0.0.1:" in address
        assert re.fullmatch(rb"dashboard: http://127\.0\.0\.1:\d+/dashboard\n", dashboard)
        process.terminate()
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert b"takes 400 connections of clients at once, not 10,000; raise the hard limit to 20200" in said


def test_mistakes_are_json_too(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(TEXT + "modles: {}\n")
    done = subprocess.run(
        [str(COMMAND), "serve", "--json", "--config", str(tmp_path / "gateway.yaml")], capture_output=True, check=False, timeout=30
    )
    assert done.returncode == 1
    assert any("modles" in error for error in msgspec.json.decode(done.stdout)["errors"])


@pytest.mark.parametrize("after_s", [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35])
def test_ctrl_c_before_it_serves_is_no_failure(tmp_path: Path, after_s: float) -> None:
    file = tmp_path / "gateway.yaml"
    os.mkfifo(file)
    with _started([str(COMMAND), "serve", "--port", "0", "--config", str(file)], tmp_path) as process:
        file.write_text(TEXT)  # returns when it is read: it has begun
        time.sleep(after_s)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode in (0, -signal.SIGINT)
    assert b"Traceback" not in said


async def test_a_generator_that_is_dropped_is_closed_though_the_loop_keeps_no_list() -> None:
    closed = asyncio.Event()

    async def numbers() -> AsyncGenerator[int, None]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.set()

    hooks = sys.get_asyncgen_hooks()
    let_generators_go()
    try:
        generator = numbers()
        assert await anext(generator) == 1
        del generator
        await asyncio.wait_for(closed.wait(), 5)
    finally:
        sys.set_asyncgen_hooks(*hooks)
