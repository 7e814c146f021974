"""Every test runs on uvloop and with a calm garbage collector, as the gateway does: among ten thousand tests a full look for garbage
takes a second, in which a loop stands still. No example of hypothesis has a time limit, for machines are busy at times; a test as a
whole has one, where it hangs.
"""

from __future__ import annotations

import asyncio
import gc
import signal
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

import pytest
import uvloop
from hypothesis import settings

from agent_gateway.cli.calm import calm_collector

gc.disable()  # until all tests are there: what is imported for them stays
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts things in the background: every process of a test would be deaf
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """pytest-timeout ends what waits in this thread; what it raises in a loop of uvloop's is logged there, and the loop waits on."""
    for item in items:
        if isinstance(item, pytest.Function) and iscoroutinefunction(item.obj):
            own = item.get_closest_marker("timeout")
            item.obj = bounded(item.obj, float(own.args[0] if own else config.getini("timeout")) - 1)


def bounded(test: Callable[..., Awaitable[None]], timeout_s: float) -> Callable[..., Awaitable[None]]:
    @wraps(test)
    async def run(*arguments: Any, **fixtures: Any) -> None:
        async with asyncio.timeout(timeout_s):
            await test(*arguments, **fixtures)

    return run


def pytest_collection_finish() -> None:
    calm_collector()
    gc.enable()
