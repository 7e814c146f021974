"""The simulated provider as users run it: a process of its own, started by its command."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.kit.ports import free_port

_COMMAND = Path(sys.executable).with_name("agent-gateway")
_START_S = 30.0


class SimulatorProcess:
    """`agent-gateway simulate` on a port of its own, with `options` as on the command line."""

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [str(_COMMAND), "simulate", "--port", str(self.port), *options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def wait_until_ready(self) -> SimulatorProcess:
        until = time.monotonic() + _START_S
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=2):
                    return self
            except (urllib.error.URLError, OSError):
                assert self._process.poll() is None, f"the simulator ended with {self._process.returncode}"
                assert time.monotonic() < until, "the simulator is not ready"
                time.sleep(0.02)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
