"""The pictures of docs/dashboard.md: `python -m tests.kit.screenshots` makes them anew, of every page of `agent-gateway demo`.

Promise: nothing is painted in; light and dark are of the same moment, while the demo's `shaky` provider is down.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tests.kit.browser import PHONE, Visit, chromium, pages, visiting
from tests.kit.demo import Demo
from tests.kit.eventually import eventually
from tests.kit.gateway import Gateway
from tests.kit.shop import configuration

if TYPE_CHECKING:
    from playwright.async_api import Browser

PLACE = Path(__file__).parents[2] / "docs" / "images" / "dashboard"
SIZE_MAX_BYTES = 150_000
DESK = (1280, 800)
#: Takes a picture's colours down to the 256 that matter; of Debian's package of that name.
_SMALLER = "pngquant"
#: The demo's provider is down once in so long, and an alert tells of it (s).
_DOWN_WITHIN_S = 420.0
_SIZES = {"requests": (1680, 1000), "sessions": (1680, 900), "batches": (1680, 900), "replay": (1280, 1500), "playground": (1280, 900)}
#: A replay of half an hour takes as long at most (s).
_REPLAYED_WITHIN_S = 120.0

Scheme = Literal["light", "dark"]
Size = tuple[int, int]


class _Pictures:
    """Of one gateway, into `folder`; `at`: another size than that of a desk."""

    def __init__(self, browser: Browser, url: str, folder: Path, at: Size | None = None) -> None:
        self._browser = browser
        self._url = url
        self._folder = folder
        self._at = at

    async def take(self, paths: dict[str, str]) -> None:
        """By name: below `/dashboard`. Light and dark are of the same moment."""
        async with AsyncExitStack() as visits:
            schemes: tuple[Scheme, ...] = ("light", "dark")
            opened = {
                scheme: await visits.enter_async_context(visiting(self._browser, self._url, self._at or DESK, color_scheme=scheme))
                for scheme in schemes
            }
            for name, path in paths.items():
                await asyncio.gather(*(self._take(visit, name, path, f"{name}-{scheme}") for scheme, visit in opened.items()))

    async def _take(self, visit: Visit, name: str, path: str, file_name: str) -> None:
        page = visit.page
        width, height = self._at or _SIZES.get(name, DESK)
        await page.set_viewport_size({"width": width, "height": height})
        await visit.open(path)
        if name in _DOINGS:
            await _DOINGS[name](visit)
        await page.locator(".skeleton, .connection.tone-neutral").first.wait_for(state="detached")
        await page.wait_for_timeout(1500)  # the next live event, and what it brings
        file = self._folder / f"{file_name}.png"
        await page.screenshot(path=file)
        size = await asyncio.to_thread(_shrunk, file)
        sys.stderr.write(f"{file.name}: {size:,} bytes\n")
        assert size < SIZE_MAX_BYTES, f"{file.name} has {size:,} bytes; at most {SIZE_MAX_BYTES:,}"


async def _ask_both(visit: Visit) -> None:
    """Returns when both have answered."""
    stop = visit.page.get_by_role("button", name="Stop", exact=True)
    await visit.page.get_by_label("Message", exact=True).fill("Where is my order 1042?")
    await visit.page.get_by_role("button", name="Send").click()
    await stop.wait_for()
    await stop.wait_for(state="detached")


#: What has to be done on a page before there is something to see, by the picture's name.
_DOINGS: dict[str, Callable[[Visit], Awaitable[None]]] = {"playground": _ask_both}


async def _replayed(demo: Demo) -> str:
    """The id of a replay of the demo's traffic: as it was, and with a provider that is never down."""
    running = demo.read("config?format=yaml").decode()
    tried = {"A": running, "B": running.replace("provider: shaky", "provider: east")}
    asked = {"configurations": [{"name": name, "yaml": yaml} for name, yaml in tried.items()]}
    replay: str = demo.admin("replays", asked)["id"]
    await eventually(lambda: demo.admin(f"replays/{replay}")["state"] != "running", "the replay's end", _REPLAYED_WITHIN_S)
    return replay


def _paths(demo: Demo, replay: str) -> dict[str, str]:
    """What each picture is of: every page, and what is opened on it."""
    paths = {name: f"/{name}" for name in pages()} | {"playground": "/playground?left=gpt-4o-mini&right=claude-sonnet"}
    records = demo.admin("records?status=fallback&limit=100")["data"]
    record = max(records, key=lambda each: (each["stream"], each["attempts_count"]))
    session = max(demo.admin("sessions?limit=20")["data"], key=lambda each: each["turn_count"])
    key = next(key["id"] for key in demo.admin("keys")["data"] if key["name"] == "storefront")
    return paths | {
        "requests": f"/requests/{record['id']}",
        "sessions": f"/sessions/{session['id']}?key={session['key']}&user={session['user']}",
        "key": f"/keys/{key}",
        "batches": f"/batches/{demo.admin('batches')['data'][0]['id']}",
        "replay": f"/replay/{replay}",
    }


async def _of_the_demo(browser: Browser, folder: Path, phone: Path | None) -> None:
    demo = Demo()

    def is_told() -> bool:
        return any(alert["state"] == "firing" and alert["rule"] == "breaker_open" for alert in demo.admin("alerts")["data"])

    try:
        await asyncio.to_thread(demo.start)
        replay = await _replayed(demo)
        await eventually(is_told, "an alert that shaky is down", _DOWN_WITHIN_S)
        paths = _paths(demo, replay)
        await _Pictures(browser, demo.url, folder).take(paths)
        await _Pictures(browser, demo.url, folder, PHONE).take({"phone": "/now"})
        if phone is not None:
            await _Pictures(browser, demo.url, phone, PHONE).take(paths)
        status, errors = await asyncio.to_thread(demo.stop)
        assert (status, errors) == (0, "")
    finally:
        demo.close()


async def _of_the_log_in(browser: Browser, folder: Path) -> None:
    """The demo asks for no key."""
    with tempfile.TemporaryDirectory() as place:
        gateway = Gateway(Path(place), configuration(), "fast lane")
        try:
            await asyncio.to_thread(gateway.start)
            await _Pictures(browser, gateway.url, folder).take({"log-in": "/now"})
        finally:
            gateway.close()


def _shrunk(picture: Path) -> int:
    """Its size then (bytes)."""
    subprocess.run([_SMALLER, "--speed", "1", "--strip", "--force", "--output", str(picture), str(picture)], check=True)
    return picture.stat().st_size


async def _main(folder: Path, phone: Path | None) -> None:
    for each in (folder, *([] if phone is None else [phone])):
        each.mkdir(parents=True, exist_ok=True)
    async with chromium() as browser:
        await _of_the_log_in(browser, folder)
        await _of_the_demo(browser, folder, phone)


def _arguments() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=PLACE, help="where they go (default: beside the documents)")
    parser.add_argument("--phone", type=Path, metavar="FOLDER", help="every page as on a phone as well, to be looked at")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = _arguments()
    if shutil.which(_SMALLER) is None:
        sys.exit(f"{_SMALLER} is not installed here; the package {_SMALLER} brings it")
    asyncio.run(_main(arguments.folder, arguments.phone))
