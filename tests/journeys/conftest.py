"""One gateway an edge for the journeys that leave it as it was, and a way to start one for those that do not."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from tests.kit.chains import Scripts
from tests.kit.configuration import configuration
from tests.kit.crossing import crossing_configuration
from tests.kit.gateway import EDGES, EdgeName, Gateway
from tests.kit.ports import kept_port
from tests.kit.provider import ScriptedProvider
from tests.kit.simulator import SimulatorProcess

#: Starts a gateway of the test's own, on the same edge and provider; the sections replace those of the usual configuration.
Launch = Callable[..., Gateway]
#: For what lies behind both edges: state that outlives a process or is shared, servers that fail, configuration.
one_edge = pytest.mark.parametrize("edge", EDGES[:1], indirect=True)


@pytest.fixture(scope="session", params=EDGES)
def edge(request: pytest.FixtureRequest) -> EdgeName:
    name: EdgeName = request.param
    return name


@pytest.fixture(scope="session")
def provider_port() -> int:
    return kept_port()


@pytest.fixture(scope="session")
def closed_port() -> int:
    """Nobody ever listens here."""
    return kept_port()


@pytest.fixture(scope="session")
def shared_gateway(
    edge: EdgeName, provider_port: int, closed_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("gateway"), configuration(provider_port, closed_port), edge)
    try:
        yield gateway.start()
        assert gateway.stop() == 0
        gateway.assert_log_is_clean()
    finally:
        gateway.close()


@pytest.fixture
async def provider(provider_port: int) -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider(provider_port) as provider:
        yield provider


@pytest.fixture
async def scripts(provider: ScriptedProvider) -> AsyncIterator[Scripts]:
    """What the provider does for each of its models; nothing that it was asked may be left running."""
    scripts = Scripts(provider)
    yield scripts
    await scripts.over()


@pytest.fixture
def gateway(shared_gateway: Gateway, provider: ScriptedProvider) -> Iterator[Gateway]:
    """The shared one: no journey may leave it changed, and each is answerable for the log."""
    yield shared_gateway
    shared_gateway.assert_log_is_clean()


@pytest.fixture
def launch(edge: EdgeName, provider: ScriptedProvider, closed_port: int, tmp_path: Path) -> Iterator[Launch]:
    started: list[Gateway] = []

    def start(env: dict[str, str] | None = None, tls: ssl.SSLContext | None = None, **sections: Any) -> Gateway:
        folder = tmp_path / f"gateway-{len(started)}"
        folder.mkdir()
        started.append(Gateway(folder, configuration(provider.port, closed_port, **sections), edge, env, tls))
        return started[-1].start()

    try:
        yield start
        for gateway in started:
            gateway.assert_log_is_clean()
    finally:
        for gateway in started:
            gateway.close()


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    """The official SDK, pointed at the gateway; it never tries twice, so that a test sees the first answer."""
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="sk-client", max_retries=0, timeout=30) as client:
        yield client

@pytest.fixture(scope="session")
def simulators() -> Iterator[dict[str, SimulatorProcess]]:
    """One that answers quickly, and one whose tokens come one by one, so that what goes wrong does so in mid-stream."""
    options = ("--ttft-ms", "5", "--output-tokens", "20", "--seed", "7", "--jitter", "0")
    simulators = {pace: SimulatorProcess("--tokens-per-s", rate, *options) for pace, rate in (("fast", "2000"), ("slow", "50"))}
    try:
        for simulator in simulators.values():
            simulator.wait_until_ready()
        yield simulators
    finally:
        for simulator in simulators.values():
            simulator.close()


@pytest.fixture(scope="session")
def crossing(
    edge: EdgeName, simulators: dict[str, SimulatorProcess], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("crossing"), crossing_configuration(simulators), edge)
    try:
        yield gateway.start()
        gateway.assert_log_is_clean()
    finally:
        gateway.close()
