"""A new configuration comes whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_gateway.control.errors import ConfigurationError
from agent_gateway.control.load import load
from agent_gateway.control.reload import reload

TEXT = """
providers: {local: {kind: openai, base_url: "http://127.0.0.1:9/v1"}}
models: {chat: {deployments: [{provider: local, model: m, price: {input: 1, output: 2}}]}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "gateway.yaml"
    file.write_text(TEXT)
    return file


def test_a_changed_file_is_a_new_configuration(file: Path) -> None:
    running = load(file, {})
    file.write_text(TEXT.replace("chat", "talk") + "timeouts: {idle_s: 3}\n")
    new = reload(running, {})
    assert list(new.routes) == ["talk"]
    assert new.settings.timeouts.idle_s == 3
    assert list(running.routes) == ["chat"]


def test_a_wrong_file_is_refused(file: Path) -> None:
    running = load(file, {})
    file.write_text(TEXT + "timeouts: {idle_s: soon}\n")
    with pytest.raises(ConfigurationError) as caught:
        reload(running, {})
    assert caught.value.errors == ["timeouts.idle_s: 'soon' is not a number"]


def test_what_needs_a_restart_is_refused(file: Path) -> None:
    running = load(file, {})
    file.write_text(TEXT + "server: {port: 9000, host: localhost}\nstate: {database: 'sqlite:///other.db'}\n")
    with pytest.raises(ConfigurationError) as caught:
        reload(running, {})
    assert caught.value.errors == [
        "server.host: a change (127.0.0.1 → localhost) needs a restart; put it back, or restart the gateway",
        "server.port: a change (8080 → 9000) needs a restart; put it back, or restart the gateway",
        "state.database: a change needs a restart; put it back, or restart the gateway",
    ]


def test_the_commands_options_hold_on(file: Path) -> None:
    options = {"server.port": 0}
    running = load(file, {}, options=options)
    file.write_text(TEXT + "server: {port: 9000}\n")
    assert reload(running, {}, options=options).settings.server.port == 0


@pytest.mark.parametrize("field", ["body_max_mb", "bodies_max_mb", "drain_timeout_s", "workers"])
def test_what_only_a_start_reads_is_not_ignored(file: Path, field: str) -> None:
    running = load(file, {})
    file.write_text(TEXT + f"server: {{{field}: 70}}\n")
    with pytest.raises(ConfigurationError) as caught:
        reload(running, {})
    assert caught.value.errors[0].startswith(f"server.{field}: ")


@pytest.mark.parametrize("url", ["http://a..b/v1", "http://-a/v1", "http://a_b-/v1"])
def test_an_address_that_cannot_be_connected_to_is_an_error(file: Path, url: str) -> None:
    file.write_text(TEXT.replace("http://127.0.0.1:9/v1", url))
    with pytest.raises(ConfigurationError, match=r"providers\.local\.base_url: is not an address"):
        load(file, {})


def test_a_wrong_proxy_is_an_error_without_its_password(file: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(file, {"HTTPS_PROXY": "http://user:hidden@a..b"})
    [error] = caught.value.errors
    assert error.startswith("HTTPS_PROXY: ")
    assert "hidden" not in error
