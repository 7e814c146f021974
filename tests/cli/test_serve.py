"""`serve` as a process: what it says to programs, and that it takes up a changed file by itself."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import urllib.request
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec

from agent_gateway.cli.serving import let_generators_go
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
            assert (told["models"], set(told)) == (["chat"], {"url", "models", "version"})
            file.write_text(TEXT.replace("chat", "talk"))
            await eventually(lambda: _models(told["url"]) == {"talk"}, "the new model is served")
        finally:
            process.terminate()
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    warnings = [msgspec.json.decode(line) for line in said.splitlines() if line.startswith(b"{")]
    assert any("auth.admin_key" in warning["warning"] for warning in warnings)


def test_mistakes_are_json_too(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(TEXT + "modles: {}\n")
    done = subprocess.run(
        [str(COMMAND), "serve", "--json", "--config", str(tmp_path / "gateway.yaml")], capture_output=True, check=False, timeout=30
    )
    assert done.returncode == 1
    assert any("modles" in error for error in msgspec.json.decode(done.stdout)["errors"])


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
