"""Every page as it is first seen: in both themes, on a phone, in both languages, by keyboard; what is markup is text on all of them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import expect

from tests.journeys.dashboard.conftest import Enter
from tests.kit.browser import PHONE, Visit
from tests.kit.shop import MARKED_MODEL, MARKUP, Shop

pytestmark = pytest.mark.asyncio(loop_scope="session")


def _pages(shop: Shop) -> dict[str, str]:
    """By path, a text that is there once the page has what it shows."""
    return {
        "/now": MARKED_MODEL,
        "/requests": MARKED_MODEL,
        f"/requests/{shop.request_id}": MARKUP,
        "/routes": MARKED_MODEL,
        "/sessions": shop.session,
        shop.session_path: MARKUP,
        "/alerts": "errors_fast",
        "/batches": shop.batch_id,
        f"/batches/{shop.batch_id}": MARKED_MODEL,
        f"/batches/{shop.refused_batch_id}": "url: ",
        "/keys": MARKUP,
        f"/keys/{shop.key_id}": MARKUP,
        "/replay": "Configuration B",
        "/playground": "Nothing was asked yet",
    }


async def _shown(visit: Visit, path: str, text: str) -> None:
    await visit.open(path)
    await expect(visit.page.get_by_role("main").get_by_text(text).locator("visible=true").first).to_be_visible()


LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"size": PHONE, "has_touch": True},
    "wide": {"size": (2560, 1440)},
}


@pytest.mark.parametrize("look", LOOKS)
async def test_every_page_is_whole_legible_and_takes_no_markup_for_its_own(look: str, enter: Enter, shop: Shop) -> None:
    visit = await enter(**LOOKS[look])
    await shop.alert_fires()
    await shop.ask(MARKED_MODEL, "Are you there?")  # Now is of the last minute
    for path, text in _pages(shop).items():
        await _shown(visit, path, text)
        await visit.assert_fits()
        if look == "light":
            await visit.assert_accessible()
        elif look == "dark":
            await visit.assert_accessible("color-contrast")
        assert await visit.page.evaluate("window.broken") is None, path
        assert await visit.page.locator("main img, main script").count() == 0, path


async def test_the_language_and_the_time_zone_are_chosen_and_kept(enter: Enter, shop: Shop) -> None:
    visit = await enter("/sessions")
    page = visit.page
    await page.get_by_role("button", name="Display").click()
    await page.get_by_text("中文", exact=True).click()
    await page.get_by_role("dialog").get_by_role("combobox").select_option("Asia/Tokyo")
    await visit.assert_accessible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("heading", level=1)).to_have_text("会话")
    await page.reload()
    await expect(page.get_by_role("heading", level=1)).to_have_text("会话")
    assert await page.evaluate("document.documentElement.lang") == "zh-CN"
    await expect(page.get_by_role("table").locator("time").first).to_have_attribute("title", re.compile(r"GMT\+9"))


async def test_the_keyboard_is_enough(enter: Enter, shop: Shop) -> None:
    visit = await enter()
    page = visit.page
    await visit.open("/requests")
    rows = page.get_by_role("table").locator("a.row-link")
    await expect(rows.nth(1)).to_be_visible()
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Following").press("Space")
    await rows.first.focus()
    await page.keyboard.press("ArrowDown")
    await expect(rows.nth(1)).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Where the time went")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("heading", name="Where the time went")).to_be_hidden()


async def test_a_phone_has_its_menu_in_a_drawer(enter: Enter) -> None:
    visit = await enter("/sessions", size=PHONE)
    page = visit.page
    await page.get_by_role("button", name="Menu").click()
    await visit.assert_accessible()
    await page.get_by_role("dialog").get_by_role("link", name="Alerts").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Alerts")
    await expect(page.get_by_role("dialog")).to_be_hidden()


async def test_an_address_that_leads_nowhere_says_so(enter: Enter) -> None:
    visit = await enter("/requests")
    visit.means("status of 404")
    await visit.open("/nowhere")
    await expect(visit.page.get_by_text("There is no such page")).to_be_visible()
    await visit.open("/requests/req_none")
    await expect(visit.page.get_by_role("alert")).to_contain_text("req_none")
    await visit.open("/sessions/none")
    await expect(visit.page.get_by_role("alert")).to_contain_text("There is no session 'none'")
    await visit.open("/batches/none")
    await expect(visit.page.get_by_role("alert")).to_contain_text("There is no batch 'none'")
