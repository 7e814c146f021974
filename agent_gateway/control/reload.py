"""A new configuration for a gateway that runs: whole, or refused with the reasons while the old one stays."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent_gateway.control.errors import ConfigurationError
from agent_gateway.control.load import compile_source
from agent_gateway.control.prices import Catalogue
from agent_gateway.control.snapshot import Configuration
from agent_gateway.control.source import Source, read_source

#: What a running process cannot change under its own feet.
RESTART = (
    *("server.host", "server.port", "server.workers", "server.body_max_mb", "server.bodies_max_mb", "server.drain_timeout_s"),
    *("state.database", "state.redis"),
)
#: What a gateway of several workers cannot change though it replaces one after the other.
RESTART_OF_ALL = ("server.host", "server.port", "server.workers", "state.database", "state.redis")


def reload(
    running: Configuration,
    environ: Mapping[str, str] = os.environ,
    *,
    options: Mapping[str, Any] | None = None,
    catalogue: Callable[[], Catalogue] | None = None,
    source: Source | None = None,
    fixed: Sequence[str] = RESTART,
) -> Configuration:
    """The configuration that `running` was loaded from, as it is now, or was when `source` was read. Blocks on files: call it off the
    event loop. `fixed`: what may not change.

    Raises `ConfigurationError` when it is wrong, or changes what needs a restart: half of a configuration is never applied.
    """
    new = compile_source(source or read_source(running.source, environ), environ, options=options, catalogue=catalogue)
    if refused := [_refusal(path, running, new) for path in fixed if _at(running, path) != _at(new, path)]:
        raise ConfigurationError(refused)
    if (running.settings.server.tls is None) != (new.settings.server.tls is None):
        raise ConfigurationError(["server.tls: TLS begins and ends with a restart; put it back, or restart the gateway"])
    return new


def _refusal(path: str, running: Configuration, new: Configuration) -> str:
    change = "" if path.startswith("state.") else f" ({_at(running, path)} → {_at(new, path)})"  # its URL may hold a password
    return f"{path}: a change{change} needs a restart; put it back, or restart the gateway"


def _at(configuration: Configuration, path: str) -> Any:
    section, _, name = path.partition(".")
    return getattr(getattr(configuration.settings, section), name)
