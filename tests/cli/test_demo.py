"""`agent-gateway demo`, as it is typed: what a newcomer sees of it on an ordinary terminal, and in the dashboard."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from agent_gateway.cli import demo
from agent_gateway.cli.demo_past import LENGTH_S
from agent_gateway.cli.demo_show import WIDTH
from agent_gateway.cli.main import INTERRUPTED
from tests.kit.demo import Demo
from tests.kit.eventually import PATIENCE_S, eventually

Folders = Callable[[], list[Path]]
#: Who asks, and for what, is drawn: what comes once in three seconds can be long in coming (s).
DRAWN_S = 60.0
#: What is spoken in it.
DIALECTS = {"openai_chat", "openai_responses", "openai_embeddings", "anthropic", "gemini"}


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch) -> Iterator[Folders]:
    """What the demos of a test have of folders."""
    with tempfile.TemporaryDirectory() as place:  # a short path, which the demo prints
        monkeypatch.setenv("TMPDIR", place)
        yield lambda: list(Path(place).glob("agent-gateway-demo-*"))


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent_gateway", "demo", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_dashboard_comes_first_and_nothing_is_wider_than_a_terminal(folders: Folders) -> None:
    done = run("--port", "0", "--requests", "3")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("dashboard  http://127.0.0.1:")
    assert "/dashboard " in lines[0]
    assert max(map(len, lines)) <= WIDTH
    for text in ("shaky", "curl -N http://127.0.0.1:", "/metrics", "gateway.yaml", "answered by"):
        assert text in done.stdout
    assert done.stdout.endswith("The demo has ended; nothing of it was kept.\n")
    assert folders() == []


def test_json_is_the_addresses_and_a_line_a_request_on_another_port_than_one_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            try:
                taken.bind(("127.0.0.1", demo.DEFAULT_PORT))
                taken.listen()
                break
            except OSError:  # somebody else has it: for good, which is as good, or for a moment
                time.sleep(0.02)
        done = run("--requests", "2", "--json")
    first, *samples = [msgspec.json.decode(line) for line in done.stdout.splitlines()]
    assert first["dashboard"] == f"{first['url']}/dashboard"
    assert len(samples) == 2
    assert samples[0]["http_status"] == 200
    assert done.returncode == 0
    assert done.stderr == "8080 is taken, so the demo listens on another port (--port P chooses one)\n"


@pytest.fixture
def running() -> Iterator[Demo]:
    demo = Demo()
    try:
        demo.start()
        yield demo
    finally:
        demo.close()


async def test_there_is_something_to_see_on_every_page(running: Demo) -> None:
    points = running.admin("now?minutes=120")["points"]
    assert len(points) >= int(LENGTH_S / 60)
    assert all(point["requests"] for point in points[: int(LENGTH_S / 60) - 1]), "a past without gaps"
    assert sum(point["fallbacks"] for point in points) > 0, "`shaky` was down in it"
    assert any(alert["state"] == "resolved" for alert in running.admin("alerts")["data"])
    assert len(running.admin("routes")["data"]) == 6
    assert len(running.admin("usage?group_by=key&since=1h")["data"]) >= 3

    def dialects() -> bool:
        return {each["dialect"] for each in running.admin("records?limit=100")["data"]} >= DIALECTS

    await eventually(lambda: len(running.admin("sessions")["data"]) >= 2, "conversations", DRAWN_S)
    await eventually(dialects, "requests of every protocol", DRAWN_S)
    keys = {key["name"]: key["id"] for key in running.admin("keys")["data"]}
    agents = keys["agents"]  # who may spend so much a day: past midnight, half of the demo's past was yesterday
    today = datetime.fromisoformat(running.admin(f"keys/{agents}")["spent"]["resets_at"]) - timedelta(days=1)
    used = {row["group"]: row["cost_usd"] for row in running.admin(f"usage?group_by=key&since={today:%Y-%m-%dT%H:%M:%SZ}")["data"]}
    assert running.admin(f"keys/{agents}")["spent"]["usd"] >= used.get(agents, 0.0) * 0.9, "budgets know the past"

    def is_recorded() -> bool:
        return any(each["edge"] == "batch" for each in running.admin(f"records?key={keys['nightly reports']}")["data"])

    await eventually(is_recorded, "a record of a batch's item", DRAWN_S)
    status, errors = await asyncio.to_thread(running.stop)
    assert (status, errors) == (0, "")
    assert not running.config_file.parent.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("after_s", [0, 0.1, 0.4])
def test_a_demo_that_is_stopped_before_it_serves_says_nothing_and_leaves_nothing_behind(
    folders: Folders, number: signal.Signals, after_s: float
) -> None:
    command = [sys.executable, "-m", "agent_gateway", "demo", "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not folders():
        assert process.poll() is None
    time.sleep(after_s)
    process.send_signal(number)
    told, errors = process.communicate(timeout=30)
    assert process.returncode == (0 if told else INTERRUPTED), "0 where it was quick, and had told where it serves"
    assert errors == b""
    assert folders() == []
