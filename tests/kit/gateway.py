"""The gateway as users run it: a process of its own, started by its command, stopped by signals, judged by what it leaves."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import msgspec

from tests.kit.ports import free_port
from tests.kit.records import Record, read_records

EdgeName = Literal["fast lane", "asgi"]
EDGES: tuple[EdgeName, ...] = ("fast lane", "asgi")

COMMAND = Path(sys.executable).with_name("agent-gateway")
_START_S = 60.0
_STOP_S = 60.0


class Gateway:
    """One running `agent-gateway serve` in a folder of its own. `tls`: how it is connected to, where it serves TLS."""

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        edge: EdgeName,
        env: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.folder = folder
        self.edge = edge
        self.port = free_port()
        self.tls = tls
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}"
        self.config_file = folder / "gateway.yaml"
        self.write_config(config)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_") and not name.endswith("_API_KEY")}
        lane = "on" if edge == "fast lane" else "off"
        self._env = {**clean, "AGENT_GATEWAY_FAST_LANE": lane, "NO_PROXY": "127.0.0.1", **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def write_config(self, config: Mapping[str, Any]) -> None:
        """JSON is YAML too."""
        self.config_file.write_bytes(msgspec.json.format(msgspec.json.encode(config)))

    def start(self) -> Gateway:
        """Returns when it is ready."""
        assert self._process is None, "it runs already"
        command = [str(COMMAND), "serve", "--config", str(self.config_file), "--port", str(self.port)]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self.folder, env=self._env, stdout=log, stderr=log)
        until = time.monotonic() + _START_S
        while not self._ready():
            assert self._process.poll() is None, f"it ended with {self._process.returncode} at its start:\n{self.log}"
            assert time.monotonic() < until, f"not ready within {_START_S} s:\n{self.log}"
            time.sleep(0.02)
        return self

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health/ready", timeout=2, context=self.tls) as reply:
                return bool(reply.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was not started"
        return self._process

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Another of its commands, with its configuration, in its folder. Blocks."""
        command = [str(COMMAND), *words, "--config", str(self.config_file)]
        return subprocess.run(command, cwd=self.folder, env=self._env, capture_output=True, text=True, timeout=_START_S, check=False)

    def stop(self) -> int:
        """SIGTERM, then the exit code. Blocks: from a running loop, go through a thread."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """What a crash of the machine or the kernel does to all of its processes: no goodbye. Returns when they are gone."""
        workers = self.workers
        self.signal(signal.SIGKILL)
        self.wait()
        for worker in workers:
            with suppress(ProcessLookupError):  # of one worker, there is none
                os.kill(worker, signal.SIGKILL)
        until = time.monotonic() + _STOP_S
        while any(map(_runs, workers)):
            assert time.monotonic() < until, f"still there {_STOP_S} s after SIGKILL: {workers}"
            time.sleep(0.01)

    def wait(self) -> int:
        try:
            code = self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"not gone {_STOP_S} s after the signal:\n{self.log}") from None
        self._process = None
        return code

    def close(self) -> None:
        """Leaves nothing running, whatever the test did."""
        if self._process is not None:
            self.kill()

    @property
    def log_file(self) -> Path:
        return self.folder / "gateway.log"

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def assert_log_is_clean(self) -> None:
        for sign in (
            "Traceback",
            "Task exception was never retrieved",
            "was never awaited",
            "sk-provider-secret",
            "ResourceWarning",
        ):
            assert sign not in self.log, self.log

    @property
    def records(self) -> list[Record]:
        """In the order they were written; empty before the first."""
        return read_records(self.folder / "agent-gateway.records.db")

    def record(self, request_id: str) -> Record | None:
        return next((record for record in self.records if record["id"] == request_id), None)

    @property
    def workers(self) -> list[int]:
        """Their process ids, where there are several; the oldest first."""
        done = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False)
        return [int(line) for line in done.stdout.split()]

    @property
    def memory_mb(self) -> float:
        """Resident memory of the process (MB)."""
        done = subprocess.run(["ps", "-o", "rss=", "-p", str(self.process.pid)], capture_output=True, text=True, check=True)
        return int(done.stdout) / 1024


def _runs(process: int) -> bool:
    """One that has ended may wait for a parent to ask after it."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True, check=False)
    return done.stdout.strip()[:1] not in ("", "Z")
