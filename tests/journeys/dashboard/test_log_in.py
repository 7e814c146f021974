"""Who gets in, and as whom: refused, let in, on to where one wanted to go, out again; an auditor has no buttons; no key, no log-in."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.journeys.dashboard.conftest import Enter
from tests.kit.browser import visiting
from tests.kit.client import ask
from tests.kit.gateway import Gateway
from tests.kit.shop import ADMIN_KEY, Shop, configuration

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_wrong_key_is_refused_and_the_right_one_leads_to_where_one_wanted(browser: Browser, shop: Shop) -> None:
    async with visiting(browser, shop.gateway.url) as visit:
        page = visit.page
        await visit.open("/keys?ended=1")
        await visit.assert_accessible()
        visit.means("status of 401")
        await page.get_by_label("Admin key").fill("sk-nobody")
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("alert")).to_contain_text("key")
        await page.get_by_label("Admin key").fill(ADMIN_KEY)
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Keys and budgets")
        await expect(page.get_by_label("Show expired and revoked keys")).to_be_checked()
        cookies = {cookie["name"]: cookie for cookie in await page.context.cookies()}
        assert cookies["agent_gateway_login"]["httpOnly"]
        assert cookies["agent_gateway_login"]["sameSite"] == "Strict"
        assert ADMIN_KEY not in await page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")
        await page.get_by_role("button", name="Log out").click()
        await expect(page.get_by_label("Admin key")).to_be_visible()
        await page.reload()
        await expect(page.get_by_label("Admin key")).to_be_visible()


async def test_an_auditor_reads_everything_and_changes_nothing(enter: Enter, shop: Shop) -> None:
    auditor = await shop.admin("POST", "keys", {"name": "auditor", "role": "auditor"})
    visit = await enter("/keys", key=auditor["key"])
    page = visit.page
    await expect(page.get_by_role("row", name="storefront")).to_be_visible()
    assert await page.get_by_role("button", name="New key").count() == 0
    assert await page.get_by_role("button", name="New team").count() == 0
    await page.get_by_role("link", name="storefront").first.click()
    await expect(page.get_by_role("heading", name="Use")).to_be_visible()
    assert await page.get_by_role("button", name="Revoke").count() == 0
    await visit.open("/routes")
    await expect(page.get_by_role("table").first).to_be_visible()
    assert await page.get_by_role("button", name="Drain or prefer").count() == 0
    await visit.open(shop.session_path)
    await expect(page.get_by_role("heading", name="What was said")).to_be_visible()
    assert await page.get_by_role("button", name="Delete").count() == 0
    batch_id = await shop.batch(400, "slow")
    await visit.open(f"/batches/{batch_id}")
    await expect(page.get_by_role("article").get_by_role("progressbar")).to_be_visible()
    assert await page.get_by_role("button", name="Cancel the batch").count() == 0
    await shop.admin("POST", f"batches/{batch_id}/cancel")


async def test_a_key_that_is_revoked_ends_its_log_in(enter: Enter, shop: Shop) -> None:
    admin = await shop.admin("POST", "keys", {"name": "leaver", "role": "admin"})
    visit = await enter("/sessions", key=admin["key"])
    await shop.admin("POST", f"keys/{admin['id']}/revoke")

    async def is_known() -> bool:
        return (await ask(shop.gateway.url, "/admin/v1/keys", headers={"authorization": f"Bearer {admin['key']}"})).status == 401

    until = time.monotonic() + 10  # each process looks for changes of keys once a second
    while not await is_known():
        assert time.monotonic() < until
        await asyncio.sleep(0.05)
    visit.means("status of 401")
    await visit.page.evaluate("document.querySelector('a[href$=\"/alerts\"]')?.click()")  # unless the page has noticed already
    await expect(visit.page.get_by_label("Admin key")).to_be_visible()


async def test_without_an_admin_key_everybody_is_let_in_and_told_so(browser: Browser, tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, {**configuration(), "auth": {}}, "fast lane")
    try:
        gateway.start()
        async with visiting(browser, gateway.url) as visit:
            await visit.open("/keys")
            await expect(visit.page.get_by_text("No keys yet")).to_be_visible()
            await expect(visit.page.get_by_title("No admin key is set")).to_be_visible()
            await visit.page.get_by_role("button", name="New key").click()
            await visit.page.get_by_label("Name").fill("first")
            await visit.page.get_by_role("button", name="Create").click()
            await expect(visit.page.get_by_role("status", name="Secret")).to_contain_text("agw_")
        gateway.assert_log_is_clean()
    finally:
        gateway.close()
