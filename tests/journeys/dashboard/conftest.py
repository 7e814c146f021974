"""One Chromium and one gateway that is used, for all journeys of the dashboard.

They run on one event loop, the session's, for the browser and the traffic live on it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.kit.browser import Visit, chromium, visiting
from tests.kit.gateway import Gateway
from tests.kit.shop import ADMIN_KEY, Shop, configuration

if TYPE_CHECKING:
    from playwright.async_api import Browser

#: Opens the dashboard at a path, logged in by the admin key or the one given; checked when the test ends.
Enter = Callable[..., Any]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("dashboard"), configuration(), "fast lane")
    try:
        yield gateway.start()
        assert gateway.stop() == 0
        gateway.assert_log_is_clean()
    finally:
        gateway.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shop(gateway: Gateway) -> AsyncIterator[Shop]:
    async with Shop(gateway) as shop:
        yield shop


@pytest_asyncio.fixture(loop_scope="session")
async def enter(browser: Browser, shop: Shop) -> AsyncIterator[Enter]:
    async with AsyncExitStack() as visits:

        async def opened(path: str = "", key: str = ADMIN_KEY, **options: Any) -> Visit:
            visit = await visits.enter_async_context(visiting(browser, shop.gateway.url, **options))
            await visit.log_in(key, path)
            return visit

        yield opened
