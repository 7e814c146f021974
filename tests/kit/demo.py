"""`agent-gateway demo` as it is typed, a process of its own on a free port."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import msgspec

_START_S = 30.0
_STOP_S = 30.0


class Demo:
    """Runs from `start` to `stop`."""

    def __init__(self) -> None:
        self.url = ""
        self.config_file = Path()
        self._said, self._errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 – closed with it
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> dict[str, Any]:
        """What it tells first. Blocks until it serves."""
        command = [sys.executable, "-m", "agent_gateway", "demo", "--port", "0", "--json"]
        self._process = subprocess.Popen(command, stdout=self._said, stderr=self._errors)
        until = time.monotonic() + _START_S
        while "\n" not in (said := _read(self._said)):
            assert self._process.poll() is None, f"it ended with {self._process.returncode}: {_read(self._errors)}"
            assert time.monotonic() < until, f"it said nothing within {_START_S} s: {_read(self._errors)}"
            time.sleep(0.02)
        told = msgspec.json.decode(said.partition("\n")[0], type=dict[str, Any])
        self.url, self.config_file = told["url"], Path(told["config"])
        return told

    def admin(self, path: str, body: Any = None) -> Any:
        """What the admin API tells. Blocks."""
        return msgspec.json.decode(self.read(path, body))

    def read(self, path: str, body: Any = None) -> bytes:
        """The same, as it came."""
        data = None if body is None else msgspec.json.encode(body)
        asked = urllib.request.Request(f"{self.url}/admin/v1/{path}", data, {"content-type": "application/json"})
        with urllib.request.urlopen(asked, timeout=10) as reply:
            return bytes(reply.read())

    def stop(self, number: signal.Signals = signal.SIGINT) -> tuple[int, str]:
        """The exit status, and what it said on standard error. Blocks."""
        assert self._process is not None, "it was not started"
        self._process.send_signal(number)
        try:
            return self._process.wait(_STOP_S), _read(self._errors)
        finally:
            self.close()

    def close(self) -> None:
        """Leaves nothing running, whatever the test did."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._said.close()
            self._errors.close()


def _read(file: Any) -> str:
    """Its process writes on where it was."""
    with Path(f"/dev/fd/{file.fileno()}").open("rb") as again:
        return again.read().decode()
