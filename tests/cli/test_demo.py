"""`agent-gateway demo`, as it is typed: what a newcomer sees of it on an ordinary terminal."""

from __future__ import annotations

import socket
import subprocess
import sys

import msgspec

from agent_gateway.cli import demo
from agent_gateway.cli.demo_show import WIDTH


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent_gateway", "demo", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_nothing_it_prints_is_wider_than_a_terminal() -> None:
    done = run("--port", "0", "--requests", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= WIDTH
    for text in ("shaky", "sim", "curl -N http://127.0.0.1:", "/metrics", "tokens"):
        assert text in done.stdout
    assert done.stdout.endswith("The demo has ended; nothing of it was kept.\n")


def test_json_is_a_line_a_request_and_nothing_else() -> None:
    done = run("--port", "0", "--requests", "2", "--json")
    told = [msgspec.json.decode(line) for line in done.stdout.splitlines()]
    assert [sample["http_status"] for sample in told] == [200, 200]


def test_a_port_that_is_taken_is_said_and_another_one_used() -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", demo.DEFAULT_PORT))
            taken.listen()
        except OSError:
            pass  # somebody else has it, which is as good
        done = run("--requests", "1", "--json")
    assert done.returncode == 0
    assert done.stderr == "8080 is taken, so the demo listens on another port (--port P chooses one)\n"
