"""PostgreSQL, Redis and Prometheus of the tests' own: on free ports, in a temporary folder, stopped when the tests end.

Where there are no programs the test is skipped aloud, and fails in CI. `python -m tests.kit.servers`, a part of `make test`, installs
them from Debian's packages where that can be.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlencode

import msgspec
import pytest

from tests.kit.ports import free_port

_START_S = 30.0
_STOP_S = 20.0
_INSTALL_S = 300.0
_PACKAGES = {
    "postgres": "postgresql",
    "redis-server": "redis-server",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "kubectl": "kubernetes-client",
    "chromium": "chromium",  # for `tests.kit.browser`
}
#: The oldest whose `kustomize` understands what deploy/kubernetes says; Debian 12's own is older.
_KUBECTL_LEAST = (1, 27)
_ROOT = Path(__file__).parents[2]
_POSTGRES_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "60",
    "shared_buffers": "32MB",
}


class Server:
    """One process; started and stopped as often as a test likes, on the same port with the same data."""

    def __init__(self, command: Sequence[str], folder: Path, port: int, user: str | None = None) -> None:
        self.port = port
        self.folder = folder
        self._command = command
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert self._process is None, "it runs already"
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=self._user)
        until = time.monotonic() + _START_S
        while not self.answers():
            assert self._process.poll() is None, f"it ended at its start:\n{self.log}"
            assert time.monotonic() < until, f"not ready within {_START_S} s:\n{self.log}"
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends both servers' connections at once, in good order; SIGQUIT is PostgreSQL's crash, to be recovered from."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(_STOP_S)

    def freeze(self) -> None:
        """It takes connections, and says nothing: as a machine that is lost."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, what: signal.Signals) -> None:
        """PostgreSQL answers from processes that its first one starts; that one goes first, so that no more come."""
        assert self._process is not None
        self._process.send_signal(what)
        children = subprocess.run(["pgrep", "-P", str(self._process.pid)], capture_output=True, text=True, check=False)
        for child in map(int, children.stdout.split()):
            with suppress(ProcessLookupError):
                os.kill(child, what)

    @property
    def process_id(self) -> int:
        assert self._process is not None, "it does not run"
        return self._process.pid

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def url(self) -> str:
        raise AssertionError("each kind has its own")

    def answers(self) -> bool:
        raise AssertionError("each kind asks in its own way")

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Postgres(Server):
    @classmethod
    def create(cls) -> Postgres:
        programs = _postgres_programs()
        user = _other_than_root()
        folder = Path(tempfile.mkdtemp(prefix="agent-gateway-postgres-"))
        if user is not None:
            shutil.chown(folder, user)
        data = folder / "data"
        initdb = [str(programs / "initdb"), "--pgdata", str(data), "--username", "gateway", "--auth", "trust"]
        initdb += ["--no-sync", "--encoding", "UTF8", "--no-locale"]
        done = subprocess.run(initdb, capture_output=True, text=True, user=user, check=False)
        assert done.returncode == 0, done.stderr
        port = free_port()
        options = [text for name, value in _POSTGRES_OPTIONS.items() for text in ("-c", f"{name}={value}")]
        return cls([str(programs / "postgres"), "-D", str(data), "-p", str(port), *options], folder, port, user)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://gateway@127.0.0.1:{self.port}/{database}"

    def answers(self) -> bool:
        ready = _postgres_programs() / "pg_isready"
        return subprocess.run([str(ready), "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False).returncode == 0


class Redis(Server):
    @classmethod
    def create(cls) -> Redis:
        program = installed("redis-server")
        folder = Path(tempfile.mkdtemp(prefix="agent-gateway-redis-"))
        port = free_port()
        options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--appendonly", "no"]
        return cls([program, *options], folder, port)

    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(5) == b"+PONG"
        except OSError:
            return False


class Prometheus(Server):
    """Scrapes and evaluates every second; what it needs is told by `watch` before it starts."""

    @classmethod
    def create(cls) -> Prometheus:
        program = installed("prometheus")
        folder = Path(tempfile.mkdtemp(prefix="agent-gateway-prometheus-"))
        port = free_port()
        options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
        return cls([program, *options], folder, port)

    def watch(self, target: int, rules: Path) -> None:
        """The gateway on that port."""
        jobs = [{"job_name": "agent-gateway", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}]
        every = {"scrape_interval": "1s", "evaluation_interval": "1s", "scrape_timeout": "1s"}
        config = {"global": every, "rule_files": [str(rules)], "scrape_configs": jobs}
        (self.folder / "prometheus.yml").write_bytes(msgspec.json.encode(config))  # JSON is YAML too

    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, **query: str) -> Any:
        """`data` of an answer of its API."""
        with urllib.request.urlopen(f"{self.url()}/api/v1/{path}?{urlencode(query)}", timeout=5) as reply:
            return msgspec.json.decode(reply.read())["data"]

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url()}/-/ready", timeout=1) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False


def promtool(*words: str) -> subprocess.CompletedProcess[str]:
    """Prometheus's own checker of its rules."""
    return subprocess.run([installed("promtool"), *words], capture_output=True, text=True, timeout=_START_S, check=False)


def kubectl(*words: str) -> subprocess.CompletedProcess[str]:
    """Without a cluster."""
    program = installed("kubectl")
    told = subprocess.run([program, "version", "--client", "-o", "json"], capture_output=True, timeout=_START_S, check=True)
    version = msgspec.json.decode(told.stdout)["clientVersion"]
    if (int(version["major"]), int(version["minor"].rstrip("+"))) < _KUBECTL_LEAST:
        pytest.skip(f"kubectl {version['gitVersion']} is too old: its kustomize cannot read deploy/kubernetes; 1.27 or newer can")
    return subprocess.run([program, *words], capture_output=True, text=True, timeout=_START_S, check=False)


def module(name: str) -> Any:
    """One of requirements/deploy.txt."""
    if find_spec(name) is None:
        _without(f"{name} is not installed here; requirements/deploy.txt has it")
    return import_module(name)


_S = TypeVar("_S", bound=Server)
_shared: dict[type[Server], Server] = {}


def shared(kind: type[_S], config: pytest.Config) -> _S:
    """One of each kind for all tests of a process; they leave it running, and clean."""
    server = _shared.get(kind)
    if server is None:
        server = _shared[kind] = own(kind)
        config.add_cleanup(server.remove)
        server.start()
    assert isinstance(server, kind)
    return server


def own(kind: type[_S]) -> _S:
    """Not started yet; the test must `remove` it."""
    create: Callable[[], _S] = kind.create  # type: ignore[attr-defined]
    return create()


@cache
def installed(name: str) -> str:
    """Where it is; skips the test where it is not, and fails it in CI."""
    found = _find(name)
    if found is None:
        _without(f"{name} is not installed here; the package {_PACKAGES[name]} brings it")
    return found


# --- programs ---------------------------------------------------------------------------------------------------------


def _postgres_programs() -> Path:
    return Path(installed("postgres")).resolve().parent


def _without(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def _find(name: str) -> str | None:
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name)
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", *map(str, reversed(debian))]))


def _other_than_root() -> str | None:
    """PostgreSQL refuses to be run by root."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)


def _install(packages: Sequence[str]) -> None:
    """From Debian's packages. What cannot be had is told, and left to the tests to skip."""
    if os.getuid() != 0 or shutil.which("apt-get") is None:
        sys.stderr.write(f"{', '.join(packages)} cannot be installed here: that takes apt-get and root\n")
        return
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "-q"], ["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
        if done.returncode != 0:
            sys.stderr.write(f"{command[1]} of {', '.join(packages)} failed: {done.stderr[-500:]}\n")


def _install_modules() -> None:
    """Helm's engine and Kubernetes' schemas, which are too large to be everybody's."""
    lock = _ROOT / "requirements" / "deploy.txt"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--require-hashes",
        "--requirement",
        str(lock),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    if done.returncode != 0:
        sys.stderr.write(f"the packages of requirements/{lock.name} cannot be installed here: {done.stderr[-500:]}\n")


if __name__ == "__main__":
    _install_modules()
    if missing := {package for program, package in _PACKAGES.items() if _find(program) is None}:
        _install(sorted(missing))
