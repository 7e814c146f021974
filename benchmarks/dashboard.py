"""What the dashboard costs: its first view, its calls over a million records, and what an open one takes of the hot path.

    python benchmarks/dashboard.py view [--runs 7]
    python benchmarks/dashboard.py calls [--records 1000000] [--days 30] [--runs 15]
    python benchmarks/dashboard.py open [--rounds 21] [--requests 12000]

`view`: Chromium with an empty cache, from the address to the first figure, and what came over the wire. `calls`: Chromium walks every page
and whatever its first row opens, and what it asked of the admin API is asked again, one call at a time. `open`: CPU of a request as in
benchmarks/hot_path.py, in rounds by turns with nobody and with one dashboard that hears all topics; and that one alone, of a second.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent))

from agent_gateway.admission.keys import ADMIN, create_key
from agent_gateway.app import Gateway
from agent_gateway.cli.calm import calm_collector, let_generators_go
from agent_gateway.core.admin import AdminAsk
from agent_gateway.core.streamed import Streamed
from agent_gateway.record.figures import DAY_MS
from agent_gateway.stores.base import open_store, records_path
from benchmarks import archive, hot_path
from tests.kit import gateway as kit
from tests.kit.browser import Visit, chromium, pages, visiting
from tests.kit.client import CHAT, ask

if TYPE_CHECKING:
    from playwright.async_api import Browser, Request

KEYS = 100
SESSIONS = 200
VIEW_MAX_S, VIEW_MAX_BYTES, CALL_MAX_MS, OPEN_MAX_SHARE = 1.0, 250_000, 500.0, 0.01
#: What is looked for beside what pages show by themselves.
SEARCHES = (
    "/requests?model=model-3&status=error",
    "/requests?key=key-7",
    "/requests?user=user-77",
    "/requests?session=session-1000",
    "/requests?error=code_3",
    "/requests?status=degraded",
)
#: What they ask when other spans are chosen.
SPANS = {"slo?since=24h": "/now", "now?minutes=120&model=model-3": "/now"}
#: A page has asked all that it asks when it has been still for so long (s).
_STILL_S = 1.5
#: The feed looks once a second: long enough for its share of one to be seen.
_ALONE_S = 20.0
#: After which the records of a round are written (s).
_SETTLED_S = 5.0


def configuration(database: str = "sqlite:///agent-gateway.db") -> dict[str, Any]:
    sim = {"kind": "simulated", "ttft_ms": 1, "tokens_per_s": 0, "output_tokens": 20, "jitter": 0}
    price = {"input": 0.15, "output": 0.6}
    names = [f"model-{number}" for number in range(10)]
    return {
        "state": {"database": database},
        "monitoring": {"retention_days": 400},
        "providers": {"provider": sim},
        "models": {name: {"deployments": [{"provider": "provider", "model": name, "price": price}]} for name in names},
    }


# --- the first view


async def view(runs: int) -> None:
    with tempfile.TemporaryDirectory(prefix="agent-gateway-dashboard-") as folder:
        gateway = kit.Gateway(Path(folder), configuration(), "fast lane")
        try:
            await asyncio.to_thread(gateway.start)
            async with chromium() as browser:
                await _first_view(browser, gateway.url)  # the browser's own first time
                seen = [await _first_view(browser, gateway.url) for _ in range(runs)]
        finally:
            gateway.close()
    times, sizes = zip(*seen, strict=True)
    print(f"first view: median {median(times):.3f} s, worst {max(times):.3f} s (target: {VIEW_MAX_S:g})")
    print(f"over the wire: {max(sizes):,} bytes (target: {VIEW_MAX_BYTES:,})")


async def _first_view(browser: Browser, url: str) -> tuple[float, int]:
    """Seconds until the first figures are seen, and bytes that came for them, heads included."""
    received = 0

    def count(event: dict[str, Any]) -> None:
        nonlocal received
        received += int(event["encodedDataLength"])

    async with visiting(browser, url) as visit:
        session = await visit.page.context.new_cdp_session(visit.page)
        await session.send("Network.enable")
        session.on("Network.loadingFinished", count)
        begun = time.perf_counter()
        await visit.page.goto(f"{url}/dashboard", wait_until="commit")
        await visit.page.locator("[data-tile=traffic] .tile-value").wait_for()
        took = time.perf_counter() - begun
        await asyncio.sleep(_STILL_S)  # pages that are fetched ahead count, too
    return took, received


# --- the calls


async def calls(records: int, days: int, runs: int) -> None:
    with tempfile.TemporaryDirectory(prefix="agent-gateway-dashboard-") as name:
        folder = Path(name)
        url = f"sqlite:///{folder}/agent-gateway.db"
        path = records_path(url)
        assert path is not None
        begun = time.perf_counter()
        await asyncio.to_thread(archive.fill_sqlite, path, records, days, KEYS, int(time.time() * 1000) - days * DAY_MS)
        print(f"{records:,} records of {days} days, {path.stat().st_size / 1e6:,.0f} MB, filled in {time.perf_counter() - begun:.0f} s")
        store = open_store(url)
        for number in range(KEYS):
            await create_key(store, f"key {number}")
        await store.close()
        gateway = kit.Gateway(folder, configuration(), "fast lane")
        try:
            await asyncio.to_thread(gateway.start)
            await asyncio.gather(*(_converse(gateway.url, number) for number in range(SESSIONS)))
            asked = await _asked_by_pages(gateway.url)
            await asyncio.to_thread(_measure, gateway.url, asked, runs)
        finally:
            gateway.close()


async def _converse(url: str, number: int) -> None:
    body = {"model": f"model-{number % 10}", "messages": [{"role": "user", "content": "Who are you?"}]}
    reply = await ask(url, CHAT, body, headers={"x-session-id": f"session-{number}", "x-user-id": f"user-{number}"})
    assert reply.status == 200, reply


async def _asked_by_pages(url: str) -> dict[str, str]:
    """What was asked of the admin API, and the page that asked it first."""
    asked: dict[str, str] = {}
    place = ""

    def note(request: Request) -> None:
        _, _, target = request.url.partition("/admin/v1/")
        if target and request.method == "GET" and not target.startswith("live"):
            asked.setdefault(target, place)

    async with chromium() as browser, visiting(browser, url) as visit:
        visit.page.on("request", note)
        for place in (*(f"/{name}" for name in pages()), *SEARCHES):
            await visit.open(place)
            await _still(visit)
            row = visit.page.get_by_role("main").locator("a.row-link").first
            if await row.count():
                await row.click()
                await _still(visit)
    return asked | SPANS


async def _still(visit: Visit) -> None:
    await visit.page.locator("#content").wait_for()
    await visit.page.wait_for_timeout(_STILL_S * 1000)


def _measure(url: str, asked: dict[str, str], runs: int) -> None:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    slowest = 0.0
    print(f"{'page':38} {'median':>8} {'worst':>8} {'KB':>7}  call")
    for target, place in asked.items():
        times, size = [], 0
        for _ in range(runs):
            begun = time.perf_counter()
            connection.request("GET", f"/admin/v1/{target}", headers={"accept-encoding": "gzip"})
            reply = connection.getresponse()
            size = len(reply.read())
            times.append((time.perf_counter() - begun) * 1000)
            assert reply.status == 200, (target, reply.status)
        slowest = max(slowest, *times)
        print(f"{place:38} {median(times):5.1f} ms {max(times):5.1f} ms {size / 1000:7.1f}  {target}", flush=True)
    connection.close()
    print(f"slowest: {slowest:.0f} ms (target: {CALL_MAX_MS:g})")


# --- an open one


async def beside_an_open_one(gateway: Gateway, request: bytes, case: hot_path.Case, rounds: int) -> None:
    await gateway.app._started()
    await hot_path.measure(gateway, request, case)
    await asyncio.sleep(_SETTLED_S)
    idle_s = await _cpu_of(_ALONE_S)
    listener = asyncio.create_task(_listen(gateway))
    open_s = await _cpu_of(_ALONE_S)
    await _end(listener)
    print(f"the feed by itself: {(open_s - idle_s) / _ALONE_S * 1000:.2f} ms of CPU a second, {(open_s - idle_s) / _ALONE_S:.2%} of a core")
    alone: list[float] = []
    watched: list[float] = []
    for number in range(rounds):
        for times in (alone, watched) if number % 2 else (watched, alone):  # who comes first takes turns, too
            beside = asyncio.create_task(_listen(gateway)) if times is watched else None
            times.append(await hot_path.measure(gateway, request, case))
            if beside is not None:
                await _end(beside)
    shares = [with_one / without - 1 for with_one, without in zip(watched, alone, strict=True)]
    each_us = [median(times) / case.requests * 1e6 for times in (alone, watched)]
    print(f"{case.name}: {each_us[0]:.2f} µs a request, {each_us[1]:.2f} µs beside an open dashboard")
    print(f"more by {_spread(shares)} (target: {OPEN_MAX_SHARE:.0%})")
    await gateway.app._stopped()


def _spread(shares: Sequence[float]) -> str:
    ordered = sorted(shares)
    quarter = len(ordered) // 4
    return f"{median(shares):+.2%} in the median round, half of them between {ordered[quarter]:+.2%} and {ordered[-1 - quarter]:+.2%}"


async def _listen(gateway: Gateway) -> None:
    stream = await gateway.admin.answer(AdminAsk("req_1", "GET", "live", {}, b"", replace(ADMIN), "127.0.0.1"))
    assert isinstance(stream, Streamed)
    async with aclosing(stream.pieces) as pieces:
        async for _ in pieces:
            pass


async def _end(listener: asyncio.Task[None]) -> None:
    listener.cancel()
    with suppress(asyncio.CancelledError):
        await listener


async def _cpu_of(seconds: float) -> float:
    begun = time.process_time()
    await asyncio.sleep(seconds)
    return time.process_time() - begun


def open_one(rounds: int, requests: int) -> None:
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        made = hot_path.configuration_in(Path(folder))
        _, key = runner.run(create_key(open_store(made.settings.state.database), "benchmark"))

        async def go() -> None:
            hot_path.answer_from_a_can(asyncio.get_running_loop())
            gateway = Gateway(made)
            calm_collector()
            let_generators_go()
            case = replace(hot_path.CASES[0], requests=requests)
            await beside_an_open_one(gateway, case.request(key), case, rounds)

        runner.run(go())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    of_view, of_calls, of_open = parts.add_parser("view"), parts.add_parser("calls"), parts.add_parser("open")
    of_view.add_argument("--runs", type=int, default=7)
    of_calls.add_argument("--records", type=int, default=1_000_000)
    of_calls.add_argument("--days", type=int, default=30)
    of_calls.add_argument("--runs", type=int, default=15)
    of_open.add_argument("--rounds", type=int, default=21)
    of_open.add_argument("--requests", type=int, default=12_000, help="of a round; many more than the disk takes are not recorded")
    arguments = parser.parse_args()
    match arguments.part:
        case "view":
            asyncio.run(view(arguments.runs))
        case "calls":
            asyncio.run(calls(arguments.records, arguments.days, arguments.runs))
        case "open":
            open_one(arguments.rounds, arguments.requests)


if __name__ == "__main__":
    main()
