"""The page Replay: live traffic under configurations that are edited there, what is wrong with one, and one that is stopped."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import Page, expect

from agent_gateway.record.row import AttemptRecord
from tests.journeys.dashboard.conftest import Enter
from tests.journeys.dashboard.test_every_page import LOOKS
from tests.kit.browser import Visit, visiting
from tests.kit.gateway import Gateway
from tests.kit.records import keep_records
from tests.kit.shop import ADMIN_KEY, Shop, configuration
from tests.rehearsal.test_traffic import record

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = pytest.mark.asyncio(loop_scope="session")

#: A process has to start, on a machine that may be busy (ms).
PATIENCE_MS = 60_000
#: So many that a replay of them does not end by itself while a test looks.
REQUESTS = 6_000


async def _edit(page: Page, name: str, before: str, after: str) -> None:
    editor = page.get_by_label(f"Configuration {name}")
    text = await editor.input_value()
    assert before in text
    await editor.fill(text.replace(before, after))


async def test_traffic_is_replayed_under_two_configurations(enter: Enter, shop: Shop) -> None:
    visit: Visit = await enter("/replay")
    page = visit.page
    await expect(page.get_by_label("Configuration A")).to_have_value(re.compile("strategy: priority"))
    assert ADMIN_KEY not in await page.get_by_label("Configuration A").input_value()
    await expect(page.get_by_text("as running", exact=True)).to_have_count(2)
    await _edit(page, "A", "input: 0.15", "input: 0.015")
    await _edit(page, "B", "input: 0.15", "input: 15")
    await expect(page.get_by_text(re.compile(r"lines changed"))).to_have_count(2)
    await page.get_by_label("Runs").fill("2")
    await page.get_by_role("button", name="Run", exact=True).click()
    await expect(page).to_have_url(re.compile(r"/dashboard/replay/replay_\w+$"), timeout=PATIENCE_MS)
    cost = page.get_by_role("table", name="Result").get_by_role("row", name="Cost")
    await expect(cost.locator("[data-change]")).to_have_count(2, timeout=PATIENCE_MS)
    assert [await cell.get_attribute("data-change") for cell in await cost.locator("[data-change]").all()] == ["better", "worse"]
    await expect(page.get_by_role("main")).to_contain_text("Budgets begin unspent")
    assert "input: 15," in await page.get_by_label("Configuration B").input_value(), "what was typed stays"
    await page.get_by_label("Model").select_option("chat")
    await expect(page).to_have_url(re.compile(r"model=chat"))
    path = page.url.partition("/dashboard")[2]
    await visit.assert_accessible()
    for look in ("dark", "phone"):
        seen: Visit = await enter(path, **LOOKS[look])
        await expect(seen.page.get_by_role("table", name="Result")).to_be_visible()
        await expect(seen.page.get_by_label("Configuration B")).to_have_value(re.compile("input: 15,"))
        await seen.assert_fits()
        await seen.assert_accessible("color-contrast")
        assert await seen.page.evaluate("window.broken") is None
    replay_id = re.search(r"replay_\w+", path)[0]  # type: ignore[index]
    (entry,) = [entry for entry in await shop.audited("replays.start") if entry["target"] == replay_id]
    assert entry["after"]["runs"] == 2


async def test_what_is_wrong_stands_beside_the_configuration_it_is_about(enter: Enter) -> None:
    visit: Visit = await enter("/replay")
    page = visit.page
    visit.means("status of 400")
    await expect(page.get_by_label("Configuration B")).to_have_value(re.compile("strategy: priority"))
    await _edit(page, "A", "strategy: priority", "strategy: prioritty")
    await page.get_by_label("Configuration B").fill("providers: {\nmodels: [")
    await page.get_by_role("button", name="Run", exact=True).click()
    first, second = page.get_by_role("alert").first, page.get_by_role("alert").last
    await expect(first).to_contain_text("models.chat.strategy: 'prioritty' is not one of weighted", timeout=PATIENCE_MS)
    await expect(second).to_contain_text(re.compile(r"B:2:\d+: is not YAML"))
    await expect(page.locator(".editor-numbers [data-wrong]")).to_have_text("2")
    await expect(page.get_by_label("Configuration A")).to_have_attribute("aria-invalid", "true")
    await visit.assert_accessible()
    await page.get_by_role("button", name="Leave out").click()
    await page.get_by_role("button", name="As running").click()
    await page.get_by_label("Since").fill("2020-01-01")
    await page.get_by_label("Until").fill("2020-01-02")
    await page.get_by_role("button", name="Run", exact=True).click()
    await expect(page.get_by_text("There is nothing to replay")).to_be_visible(timeout=PATIENCE_MS)
    await expect(page.get_by_role("main")).to_contain_text("Choose a longer time")


async def test_what_was_typed_is_kept_when_another_replay_is_opened(enter: Enter, shop: Shop) -> None:
    visit: Visit = await enter("/replay")
    page = visit.page
    first, since = page.get_by_label("Configuration A"), page.get_by_label("Since")
    await expect(first).to_have_value(re.compile("strategy: priority"))
    another = (await first.input_value()).replace("input: 0.15", "input: 0.3")
    asked = {"configurations": [{"name": "A", "yaml": another}], "since": "2020-01-01", "until": "2020-01-02", "runs": 1}
    made = await shop.admin("POST", "replays", asked)
    row = page.locator(f'a.row-link[href$="{made["id"]}"]')
    await expect(page.locator("tr", has=row)).to_contain_text("failed", timeout=PATIENCE_MS)
    await _edit(page, "A", "input: 0.15", "input: 15")
    await row.click()
    await expect(page.get_by_text("There is nothing to replay")).to_be_visible()
    await expect(page.get_by_text("What was typed here is kept")).to_be_visible()
    await expect(first).to_have_value(re.compile(r"input: 15\b"))
    await expect(since).to_have_value("1h")
    await visit.assert_accessible()
    await visit.assert_fits()
    await page.get_by_role("button", name="Replace what was typed").click()
    await expect(first).to_have_value(re.compile(r"input: 0\.3\b"))
    await expect(since).to_have_value(re.compile("2020-01-01"))
    await expect(page.get_by_text("What was typed here is kept")).to_have_count(0)
    await page.reload()
    await expect(first).to_have_value(re.compile(r"input: 0\.3\b"))
    await page.get_by_role("button", name="As running").first.click()
    await expect(first).to_have_value(re.compile(r"input: 0\.15\b"))


async def test_a_replay_is_stopped(browser: Browser, tmp_path: Path) -> None:
    since_ms = int((time.time() - 3000) * 1000)
    attempt = AttemptRecord("front/small", 1.0, 11.0, 20.0, None, 901.0, "success", 200)
    records = [record(number, [attempt], deployment="front/small", started_ms=since_ms + number * 100) for number in range(REQUESTS)]
    await keep_records(records, f"sqlite:///{tmp_path}/agent-gateway.db")
    gateway = Gateway(tmp_path, configuration(), "fast lane")
    try:
        await asyncio.to_thread(gateway.start)
        shop = Shop(gateway)
        auditor = await shop.admin("POST", "keys", {"name": "eye", "role": "auditor"})
        async with visiting(browser, gateway.url) as visit, visiting(browser, gateway.url) as other:
            await visit.log_in(ADMIN_KEY, "/replay")
            page = visit.page
            await page.get_by_label("Runs").fill("10")
            await page.get_by_role("button", name="Run", exact=True).click()
            await expect(page.get_by_role("progressbar", name="Progress of the replay")).to_be_visible(timeout=PATIENCE_MS)
            await visit.assert_accessible()
            await other.log_in(auditor["key"], page.url.partition("/dashboard")[2])
            await expect(other.page.get_by_text("A replay is running")).to_be_visible()
            await expect(other.page.get_by_text("to run a replay takes the role admin")).to_be_visible()
            for name in ("Stop", "Run"):
                assert await other.page.get_by_role("button", name=name, exact=True).count() == 0
            await page.get_by_role("button", name="Stop").click()
            await expect(page.get_by_text("The replay was stopped before it was done")).to_be_visible(timeout=PATIENCE_MS)
            await expect(page.get_by_role("button", name="Run", exact=True)).to_be_enabled()
        (entry,) = await shop.audited("replays.stop")
        assert entry["actor"]["name"] == "admin key"
        gateway.assert_log_is_clean()
    finally:
        gateway.close()
