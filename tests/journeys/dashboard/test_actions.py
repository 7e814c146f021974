"""Whatever an operator does on the dashboard takes effect, and stands in the audit log."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import time
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.journeys.dashboard.conftest import Enter
from tests.kit.browser import PATIENCE_S
from tests.kit.client import CHAT, ask, chat
from tests.kit.shop import BROKEN_MODEL, SPARE, Shop

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def _confirm(page: Page, action: str) -> None:
    """Presses the button of the dialog, which then closes."""
    await page.get_by_role("dialog").get_by_role("button", name=action, exact=True).click()
    await expect(page.get_by_role("dialog")).to_be_hidden()


async def _holds(shop: Shop, secret: str, status: int) -> None:
    """That is what a client with that secret gets, within the second in which every process knows of a change."""
    until = time.monotonic() + PATIENCE_S
    while (reply := await ask(shop.gateway.url, CHAT, chat(), headers={"authorization": f"Bearer {secret}"})).status != status:
        assert time.monotonic() < until, reply
        await asyncio.sleep(0.05)


async def _secret(page: Page) -> str:
    """As it is shown this once."""
    shown = page.get_by_role("status", name="Secret")
    await expect(shown).to_contain_text("agw_")
    await page.keyboard.press("Escape")
    await page.mouse.click(5, 5)
    secret = await shown.inner_text()
    await page.get_by_role("button", name="I have copied it").click()
    await expect(shown).to_be_hidden()
    assert secret not in await page.content(), "it is shown once"
    return secret


async def test_a_key_is_made_changed_rotated_and_revoked(enter: Enter, shop: Shop) -> None:
    visit = await enter("/keys")
    page = visit.page
    await page.get_by_role("button", name="New key").click()
    await page.get_by_label("Name", exact=True).fill("search")
    await page.get_by_label("Models").fill("chat, slow")
    await page.get_by_label("Requests a minute").fill("0")
    await expect(page.get_by_role("button", name="Create")).to_be_disabled()
    await page.get_by_label("Requests a minute").fill("90")
    await page.get_by_label("Endpoints").fill("v1/*")
    await expect(page.get_by_text("Each begins with /.")).to_be_visible()
    await expect(page.get_by_role("button", name="Create")).to_be_disabled()
    await page.get_by_label("Endpoints").fill("/v1/*")
    await page.get_by_label("Budget (US$)").fill("2.5")
    await page.get_by_label("For each").select_option("week")
    await page.get_by_label("Team").last.select_option("blue")
    await visit.assert_accessible()
    await page.get_by_role("button", name="Create").click()
    first = await _secret(page)
    await _holds(shop, first, 200)
    row = page.get_by_role("row", name="search")
    await expect(row).to_contain_text("of $2.50 a week")
    (made,) = [key for key in (await shop.admin("GET", "keys?limit=100"))["data"] if key["name"] == "search"]
    told = {name: made[name] for name in ("models", "requests_per_minute", "team", "budget")}
    assert told == {
        "models": ["chat", "slow"],
        "requests_per_minute": 90,
        "team": "blue",
        "budget": {"usd": 2.5, "per": "week", "soft": 0.8},
    }

    await row.get_by_role("link").first.click()
    await page.get_by_role("button", name="Change").click()
    await page.get_by_label("Requests a minute").fill("")
    await page.get_by_label("Tokens a minute").fill("5000")
    await _confirm(page, "Change")
    await expect(page.get_by_text("5,000")).to_be_visible()
    changed = await shop.admin("GET", f"keys/{made['id']}")
    assert (changed["requests_per_minute"], changed["tokens_per_minute"], changed["budget"]["per"]) == (None, 5000, "week")

    await page.get_by_role("button", name="Rotate").click()
    await page.get_by_label("The secret before is good for").select_option("0")
    await page.get_by_role("dialog").get_by_role("button", name="Rotate").click()
    second = await _secret(page)
    await _holds(shop, first, 401)
    await _holds(shop, second, 200)

    await page.get_by_role("button", name="Revoke").click()
    await _confirm(page, "Revoke")
    await expect(page.get_by_role("main").get_by_text("revoked", exact=True)).to_be_visible()
    await expect(page.get_by_role("button", name="Rotate")).to_be_hidden()
    await _holds(shop, second, 401)
    for action in ("keys.create", "keys.update", "keys.rotate", "keys.revoke"):
        assert made["id"] in [entry["target"] for entry in await shop.audited(action)]


async def test_a_team_is_made_changed_and_removed(enter: Enter, shop: Shop) -> None:
    visit = await enter("/keys")
    page = visit.page
    await page.get_by_role("button", name="New team").click()
    await page.get_by_label("Id").fill("blue")
    visit.means("status of 409")
    await page.get_by_role("button", name="Create").click()
    await expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("There is a team 'blue' already")
    await page.get_by_label("Id").fill("the green ones")
    await expect(page.get_by_role("button", name="Create")).to_be_disabled()
    await page.get_by_label("Id").fill("green")
    await page.get_by_label("Budget (US$)").fill("100")
    await _confirm(page, "Create")
    row = page.get_by_role("row", name="green")
    await expect(row).to_contain_text("$0 of $100.00 a month")
    await row.get_by_role("button", name="Change").click()
    await page.get_by_label("Budget (US$)").fill("40")
    await _confirm(page, "Change")
    await expect(row).to_contain_text("of $40.00")
    await row.get_by_role("button", name="Remove").click()
    await _confirm(page, "Remove")
    await expect(row).to_be_hidden()
    for action in ("teams.create", "teams.update", "teams.delete"):
        assert next(entry["target"] for entry in await shop.audited(action)) == "green"


async def test_an_alert_is_silenced_and_told_again(enter: Enter, shop: Shop) -> None:
    await shop.alert_fires()
    page = (await enter("/alerts")).page
    alert = page.get_by_role("article", name=f"errors_fast {BROKEN_MODEL}")
    await alert.get_by_role("button", name="Silence").click()
    await page.get_by_text("4 hours").click()
    await _confirm(page, "Silence")
    await expect(alert).to_contain_text("silenced until")
    (silenced,) = [each for each in (await shop.admin("GET", "alerts?state=firing"))["data"] if each["rule"] == "errors_fast"]
    assert silenced["silenced_until"]
    await alert.get_by_role("button", name="End the silence").click()
    await expect(alert).not_to_contain_text("silenced until")
    assert [entry["target"] for entry in await shop.audited("alerts.silence")] == [f"errors_fast:{BROKEN_MODEL}"] * 2


async def test_a_session_is_read_and_deleted(enter: Enter, shop: Shop) -> None:
    session = "to-be-deleted"
    for number in range(2):
        await shop.ask("chat", f"Question {number}", **{"x-session-id": session, "x-user-id": "bob"})
    page = (await enter("/sessions")).page
    await page.get_by_role("link", name=session).click()
    await expect(page).to_have_url(re.compile(rf"/dashboard/sessions/{session}\?key={shop.key_id}&user=bob$"))
    said = page.get_by_role("article", name=session)
    await expect(said).to_contain_text("Question 1")
    await said.get_by_role("button", name="Delete").click()
    await _confirm(page, "Delete")
    await expect(page.get_by_role("link", name=session)).to_be_hidden()
    assert session not in [each["id"] for each in (await shop.admin("GET", "sessions"))["data"]]
    assert [entry["target"] for entry in await shop.audited("sessions.delete")] == [session]


async def test_a_batch_moves_on_and_is_cancelled(enter: Enter, shop: Shop) -> None:
    visit = await enter("/batches?status=open")
    page = visit.page
    await expect(page.get_by_text("No batch matches")).to_be_visible()
    await expect(page.locator(".sidebar [data-connection=live]")).to_be_visible()
    batch_id = await shop.batch(400, "slow")
    await page.get_by_role("link", name=batch_id).click()
    await expect(page).to_have_url(re.compile(rf"/dashboard/batches/{batch_id}\?status=open$"))
    shown = page.get_by_role("article", name=batch_id)
    progress = shown.get_by_role("progressbar")
    await expect(progress).to_have_attribute("aria-valuenow", re.compile(r"^[1-9]"))
    before = await progress.get_attribute("aria-valuenow")
    await expect(progress).not_to_have_attribute("aria-valuenow", before or "")
    await visit.assert_accessible()
    await shown.get_by_role("button", name="Cancel the batch").click()
    await visit.assert_accessible()
    await _confirm(page, "Cancel the batch")
    await expect(shown.get_by_text("cancelled", exact=True)).to_be_visible()
    await expect(shown.get_by_role("button", name="Cancel the batch")).to_be_hidden()
    await expect(shown).to_contain_text("batch_cancelled")
    await expect(page.get_by_role("link", name=batch_id)).to_be_hidden()
    assert (await shop.client.batches.retrieve(batch_id)).status == "cancelled"
    assert (await shop.audited("batches.cancel"))[0]["target"] == batch_id


async def test_what_a_batch_was_answered_is_downloaded(enter: Enter, shop: Shop) -> None:
    page = (await enter(f"/batches/{shop.batch_id}")).page
    shown = page.get_by_role("article", name=shop.batch_id)
    await expect(shown.get_by_role("row", name="Saved by deduplication")).to_contain_text("91.7 %")
    async with page.expect_download() as downloading:
        await shown.get_by_role("link", name="Answers").click()
    download = await downloading.value
    batch = await shop.client.batches.retrieve(shop.batch_id)
    assert batch.output_file_id is not None
    assert download.suggested_filename == f"{shop.batch_id}_output.jsonl"
    assert (await download.path()).read_bytes() == (await shop.client.files.content(batch.output_file_id)).content
    assert await shown.get_by_role("link", name="Errors").count() == 0
    assert await shown.get_by_role("button", name="Cancel the batch").count() == 0


async def test_how_to_submit_one_is_shown_where_there_is_none_and_beside_the_list(enter: Enter, shop: Shop, tmp_path: Path) -> None:
    visit = await enter("/batches")
    page = visit.page
    await page.get_by_role("button", name="Submit a batch").click()
    await page.get_by_text("curl", exact=True).click()
    shown = page.get_by_role("region", name="Submit a batch: curl")
    await expect(shown).to_contain_text(f"{shop.gateway.url}/v1/batches")
    await expect(shown).to_contain_text('"model":"chat"')
    await visit.assert_accessible()
    command = (await shown.inner_text()).replace("GATEWAY_KEY=…", f"GATEWAY_KEY={shop.client.api_key}")
    done = await asyncio.to_thread(subprocess.run, ["sh", "-ec", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert await shop.batch_ended(json.loads(done.stdout)["id"]) == "completed", "it is as good as it looks"


async def test_a_deployment_is_drained_and_given_back(enter: Enter, shop: Shop) -> None:
    page = (await enter("/routes?name=chat")).page
    row = page.get_by_role("row", name="front/small").first
    await row.get_by_role("button").click()
    await page.get_by_label("Reason").fill("maintenance")
    await _confirm(page, "Apply")
    await expect(row).to_contain_text("drained")
    assert {await shop.answered_by("chat") for _ in range(5)} == {SPARE}
    await row.get_by_role("button").click()
    await page.get_by_text("Automatic", exact=True).click()
    await _confirm(page, "Apply")
    await expect(row).not_to_contain_text("drained")
    audited = await shop.audited("deployments.intervene")
    assert [entry["target"] for entry in audited] == ["front/small"] * 2
