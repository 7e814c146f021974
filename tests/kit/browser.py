"""Chromium as operators use it, driven by Playwright: one for all tests of a process, each visit in a context of its own.

Promise: a visit that ends had no error in the console but those it was told of, and asked no host but the gateway.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.kit.servers import installed

if TYPE_CHECKING:
    from playwright.async_api import Browser, ConsoleMessage, Page, Request

ROOT = Path(__file__).parent.parent.parent
AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
#: What a screen of an operator, and of a phone, has.
DESK = (1440, 900)
PHONE = (390, 844)
#: No element is waited for longer than this (s).
PATIENCE_S = 10.0

_ARGUMENTS = ("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--font-render-hinting=none")
_SERIOUS = ("serious", "critical")
_STANDARDS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Headless. Skips the test where there is none."""
    executable = installed("chromium")
    from playwright.async_api import async_playwright, expect

    expect.set_options(timeout=PATIENCE_S * 1000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


class Visit:
    """One person at one page of the dashboard of the gateway at `url`."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self._errors: list[str] = []
        self._foreign: list[str] = []
        self._meant: list[str] = []
        self._allowed: list[str] = []
        page.context.on("request", self._asked)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self._errors.append(f"uncaught: {error}"))

    async def open(self, path: str = "") -> None:
        """Below `/dashboard`."""
        await self.page.goto(f"{self.url}/dashboard{path}")

    async def log_in(self, key: str, path: str = "") -> None:
        """As at the first visit; returns when what was asked for is there."""
        await self.open(path)
        await self.page.get_by_label("Admin key").fill(key)
        await self.page.get_by_role("button", name="Log in").click()
        await self.page.locator("#content").wait_for()

    def means(self, pattern: str) -> None:
        """An error that the visit brings about on purpose, as Chromium tells it; it must come."""
        self._meant.append(pattern)

    def allows(self, pattern: str) -> None:
        """An error that may come, as it happens."""
        self._allowed.append(pattern)

    async def assert_accessible(self, *rules: str) -> None:
        """By axe: nothing serious, in the state that the page is in. `rules`: those alone."""
        await self.page.evaluate(_axe())
        only = {"type": "rule", "values": rules} if rules else {"type": "tag", "values": _STANDARDS}
        found: list[dict[str, Any]] = await self.page.evaluate(
            "async only => (await axe.run(document, {runOnly: only, resultTypes: ['violations']})).violations", only
        )
        told = [
            f"{one['id']} ({one['impact']}): {one['help']}: {node['html'][:200]} {node['failureSummary'][:300]}"
            for one in found
            if one["impact"] in _SERIOUS
            for node in one["nodes"]
        ]
        assert told == []

    async def assert_fits(self) -> None:
        """Nothing is cut off to the right: the page itself never scrolls sideways."""
        over: int = await self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert over <= 0, f"the page is {over} px wider than the window"

    def assert_clean(self) -> None:
        unforeseen = [error for error in self._errors if not any(re.search(pattern, error) for pattern in (*self._meant, *self._allowed))]
        assert unforeseen == []
        missed = [pattern for pattern in self._meant if not any(re.search(pattern, error) for error in self._errors)]
        assert missed == [], "these were to come"
        assert self._foreign == [], "only the gateway is asked"

    def _asked(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob") and f"{address.scheme}://{address.netloc}" != self.url:
            self._foreign.append(request.url)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._errors.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")


@asynccontextmanager
async def visiting(browser: Browser, url: str, size: tuple[int, int] = DESK, **options: Any) -> AsyncIterator[Visit]:
    """`options` are those of Playwright's contexts: color_scheme, locale, timezone_id, …"""
    settings = {"reduced_motion": "reduce", "locale": "en-GB", "timezone_id": "UTC", **options}
    context = await browser.new_context(viewport={"width": size[0], "height": size[1]}, **settings)
    try:
        page = await context.new_page()
        page.set_default_timeout(PATIENCE_S * 1000)
        visit = Visit(page, url)
        yield visit
        visit.assert_clean()
    finally:
        await context.close()


def pages() -> list[str]:
    """Their names, which are their places below `/dashboard`."""
    return re.findall(r"^  (\w+): \(\) => import", (ROOT / "web" / "src" / "pages.ts").read_text(), re.MULTILINE)


@cache
def _axe() -> str:
    """Given to the page through the debugger's door, which the page's own policy of contents does not close."""
    assert AXE.exists(), f"{AXE.relative_to(ROOT)} is missing: run `npm ci` in web/"
    return AXE.read_text()
