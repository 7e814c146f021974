"""What happens is seen as it happens: figures move, requests come in, a fault turns the right tile red, and back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from playwright.async_api import expect

from tests.journeys.dashboard.conftest import Enter
from tests.kit.browser import visiting
from tests.kit.chains import recorded
from tests.kit.client import ask
from tests.kit.eventually import PATIENCE_S
from tests.kit.gateway import Gateway
from tests.kit.shop import ADMIN_KEY, Shop, configuration

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page, Route

pytestmark = pytest.mark.asyncio(loop_scope="session")

FAULT = "sim/small:fail-503"
#: Of the requests that there are then, far more than the target allows; of three hundred more, less.
FAULTS = 3
#: A request that has ended was told to all who listened (s).
TOLD_S = 1.5
#: The page tries again at longer and longer intervals: one that was away for long is found again after half a minute and a little (ms).
RETRY_MAX_MS = 45_000


async def test_requests_come_in_by_themselves(enter: Enter, shop: Shop) -> None:
    page = (await enter("/requests?user=carol")).page
    await expect(page.get_by_text("No request matches")).to_be_visible()
    await expect(page.locator(".sidebar [data-connection=live]")).to_be_visible()
    await shop.ask("chat", "Is this seen?", **{"x-user-id": "carol"})
    row = page.get_by_role("table").locator("a.row-link").first
    await recorded(shop.gateway, urlsplit(await row.get_attribute("href") or "").path.rpartition("/")[2])  # it is told live a little before
    await row.click()
    await expect(page.get_by_role("main")).to_contain_text("Is this seen?")


async def test_one_that_began_before_others_and_ends_after_them_comes_in_where_it_belongs(enter: Enter, shop: Shop) -> None:
    dora = {"x-user-id": "dora"}
    slow = asyncio.create_task(shop.ask("sim/small:hang", "Is anybody there?", **dora))
    await _under_way(shop.gateway)
    assert await shop.ask("chat", "Is it quick?", **dora) == 200
    page = (await enter("/requests?user=dora")).page
    rows = page.get_by_role("table").locator("a.row-link")
    await expect(rows).to_have_count(1)
    quick = await rows.get_attribute("href")
    await expect(page.locator(".sidebar [data-connection=live]")).to_be_visible()
    slow.cancel()
    await expect(rows).to_have_count(2)
    await expect(rows.first).to_have_attribute("href", str(quick))


async def test_what_ended_before_the_page_listens_is_there(enter: Enter, shop: Shop) -> None:
    visit = await enter("/sessions")
    page, listens = visit.page, asyncio.Event()

    async def late(route: Route) -> None:
        await listens.wait()
        await route.continue_()

    await page.route("**/admin/v1/live?*", late)
    await visit.open("/requests?user=fred")
    await expect(page.get_by_text("No request matches")).to_be_visible()
    await shop.ask("chat", "Who listens?", **{"x-user-id": "fred"})
    await asyncio.sleep(TOLD_S)
    await _listed(shop, "fred", 1)
    listens.set()
    await expect(page.get_by_role("table").locator("a.row-link")).to_have_count(1)


async def test_a_list_that_is_loaded_again_is_as_long_as_it_was(enter: Enter, shop: Shop) -> None:
    gwen = {"x-user-id": "gwen"}
    await asyncio.gather(*(shop.ask("chat", "Are there many?", **gwen) for _ in range(60)))
    await _listed(shop, "gwen", 60)
    page = (await enter("/requests?user=gwen")).page
    rows = page.get_by_role("table").locator("a.row-link")
    await page.get_by_role("button", name="Show more").click()  # of fifty
    await expect(rows).to_have_count(60)
    await page.get_by_role("button", name="Following").click()
    await shop.ask("chat", "And one more?", **gwen)
    await asyncio.sleep(TOLD_S)
    await _listed(shop, "gwen", 61)
    await expect(rows).to_have_count(60)
    await page.get_by_role("button", name="Follow").click()
    await expect(rows).to_have_count(61)


async def test_one_that_is_looked_at_before_it_is_written_is_asked_for_again(enter: Enter, shop: Shop) -> None:
    visit = await enter("/requests?user=erin")
    page = visit.page
    await shop.ask("chat", "Is this written?", **{"x-user-id": "erin"})
    row = page.get_by_role("table").locator("a.row-link").first
    path = urlsplit(await row.get_attribute("href") or "").path
    visit.allows("404")
    await page.route(f"**/admin/v1/records/{path.rpartition('/')[2]}", _not_yet, times=1)
    await row.click()
    await expect(page.get_by_role("main")).to_contain_text("Is this written?")


async def _not_yet(route: Route) -> None:
    await route.fulfill(status=404, json={"error": {"message": "There is no record of this id.", "code": "not_found"}})


async def _listed(shop: Shop, user: str, count: int) -> None:
    """Returns as soon as so many of the user's requests are in the list."""
    async with asyncio.timeout(PATIENCE_S):
        while len((await shop.admin("GET", f"records?user={user}&limit=100"))["data"]) < count:  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.05)


async def _under_way(gateway: Gateway) -> None:
    """Returns as soon as a request for a model is that nobody configured."""
    line = b'\nagent_gateway_in_flight{model="other"} 1.0\n'
    async with asyncio.timeout(PATIENCE_S):
        while line not in (await ask(gateway.url, "/metrics")).body:  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.05)


async def test_a_fault_turns_the_right_tile_red_and_back(browser: Browser, tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, {**configuration(), "breaker": {"consecutive_failures": 1000, "min_requests": 100000}}, "fast lane")
    try:
        gateway.start()
        async with Shop(gateway, faults=0) as shop, visiting(browser, gateway.url) as visit:
            await visit.log_in(ADMIN_KEY, "/now")
            page = visit.page
            rate, traffic = page.locator("[data-tile=error-rate]"), page.locator("[data-tile=traffic] .tile-value")
            await expect(rate).to_contain_text("0 %")
            before = await traffic.inner_text()
            await asyncio.gather(*(shop.ask(FAULT, "Are you there?") for _ in range(FAULTS)))
            await expect(rate).to_have_attribute("data-tone", "bad")
            await expect(traffic).not_to_have_text(before)
            assert await page.locator("[data-tile=fallback-rate]").get_attribute("data-tone") == "plain"
            await _looked_at(page)
            await expect(page.locator("[data-tile=errors]")).to_have_attribute("data-tone", "bad")
            for _ in range(FAULTS * 3):
                await asyncio.gather(*(shop.ask("chat", "Are you back?") for _ in range(40)))
            await expect(rate).to_have_attribute("data-tone", "plain")
            await _looked_at(page)
            await expect(page.locator("[data-tile=errors]")).to_have_attribute("data-tone", "plain")
        gateway.assert_log_is_clean()
    finally:
        gateway.close()


async def test_a_gateway_that_starts_anew_is_found_again(browser: Browser, tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, configuration(), "fast lane")
    try:
        gateway.start()
        async with visiting(browser, gateway.url) as visit:
            await visit.log_in(ADMIN_KEY, "/sessions")
            connection = visit.page.locator(".sidebar [data-connection]")
            await expect(connection).to_have_attribute("data-connection", "live")
            visit.allows("ERR_")
            await asyncio.to_thread(gateway.stop)
            await expect(connection).to_have_attribute("data-connection", "waiting")
            await asyncio.to_thread(gateway.start)
            await expect(connection).to_have_attribute("data-connection", "live", timeout=RETRY_MAX_MS)
        gateway.assert_log_is_clean()
    finally:
        gateway.close()


async def _looked_at(page: Page) -> None:
    """As when its tab is gone back to: what is asked for now and then is asked for at once."""
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
