"""A whole gateway in this process, of which pages are made; it serves nobody."""

from __future__ import annotations

import asyncio
from functools import cache

from agent_gateway.app import Gateway
from agent_gateway.control.load import compile_mapping
from agent_gateway.core.clock import SYSTEM_CLOCK
from agent_gateway.record.family import Family
from agent_gateway.workers.overview import Overview

_CONFIGURATION = {
    "state": {"database": "sqlite:///:memory:"},
    "providers": {"sim": {"kind": "simulated"}},
    "models": {
        "chat": {
            "deployments": [{"provider": "sim", "model": "small", "price": {"input": 0, "output": 0}}],
            "cache": {"exact": {"enabled": True}},
        }
    },
}


def openapi() -> bytes:
    """As it is served."""
    admin = gateway().app._admin
    assert admin is not None, "a gateway has an admin API"
    return admin.openapi()


def families() -> list[Family]:
    """Every metric: those of a gateway and those of a supervisor of several workers."""
    alone = gateway()
    supervised = Overview(list, {}, alone._web.post, SYSTEM_CLOCK, alone.configuration)
    return [*alone.live.runtime.recorder.metrics.families(), *supervised.families()]


@cache
def gateway() -> Gateway:
    """With everything that has metrics of its own."""

    async def made() -> Gateway:
        return Gateway(compile_mapping(_CONFIGURATION), environ={})

    return asyncio.run(made())
