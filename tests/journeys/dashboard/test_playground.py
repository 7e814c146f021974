"""Models asked on the dashboard: side by side, stopped, failing, in markup; what is said there is in the records and nowhere else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, expect

from tests.kit import replies, samples
from tests.kit.browser import PHONE, Visit, visiting
from tests.kit.chains import recorded
from tests.kit.client import ask
from tests.kit.eventually import eventually
from tests.kit.gateway import Gateway
from tests.kit.provider import Heard, Peer, Script, ScriptedProvider
from tests.kit.records import Record
from tests.kit.shop import ADMIN_KEY, MARKUP

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = pytest.mark.asyncio(loop_scope="session")

AS_ADMIN = {"authorization": f"Bearer {ADMIN_KEY}"}
BOTH = "/playground?left=calm&right=wild"


@dataclass
class Stage:
    """A gateway whose two models say what a test has them say."""

    browser: Browser
    gateway: Gateway
    provider: ScriptedProvider
    scripts: dict[str, Script] = field(default_factory=dict)

    def heard(self, model: str) -> list[Heard]:
        return [heard for heard in self.provider.heard if heard.json["model"] == model]

    async def admin(self, path: str, body: Any = None) -> Any:
        return (await ask(self.gateway.url, f"/admin/v1/{path}", body, headers=AS_ADMIN)).json

    def enter(self, path: str = BOTH, key: str = ADMIN_KEY, **options: Any) -> AbstractAsyncContextManager[Visit]:
        return _entered(self, path, key, options)


@asynccontextmanager
async def _entered(stage: Stage, path: str, key: str, options: dict[str, Any]) -> AsyncIterator[Visit]:
    async with visiting(stage.browser, stage.gateway.url, **options) as visit:
        await visit.log_in(key, path)
        yield visit


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with ScriptedProvider() as provider:
        price = {"input": 1, "output": 2}
        models = {name: {"deployments": [{"provider": "local", "model": name, "price": price}]} for name in ("calm", "wild")}
        configuration = {
            "auth": {"admin_key": ADMIN_KEY},
            "state": {"database": "sqlite:///agent-gateway.db"},
            "providers": {"local": {"kind": "openai", "base_url": provider.base_url, "api_key": "sk-provider"}},
            "models": models,
            "retries": {"max_attempts": 1},
            "fallback": {"reply": None},
        }
        gateway = Gateway(tmp_path_factory.mktemp("playground"), configuration, "fast lane")
        try:
            stage = Stage(browser, gateway.start(), provider)
            provider.reply_by(lambda heard: stage.scripts[heard.json["model"]])
            yield stage
            assert await asyncio.to_thread(gateway.stop) == 0
            gateway.assert_log_is_clean()
        finally:
            gateway.close()


def saying(*words: str) -> Script:
    return replies.stream(samples.text_frames(words, usage=True))


def saying_in_two_parts(first: str, rest: str, go: asyncio.Event) -> Script:
    frames = samples.text_frames([first, rest], usage=True)

    async def go_on(peer: Peer) -> None:
        await go.wait()
        await peer.send(b"".join(map(replies.chunk, frames[2:])) + replies.LAST_CHUNK)

    return replies.stream(frames[:2], then=go_on)


def pane(page: Page, model: str) -> Locator:
    return page.get_by_role("region", name=f"Conversation with {model}")


async def say(page: Page, text: str) -> None:
    """Once nobody answers any more: what is typed before is not sent."""
    await page.get_by_label("Message").fill(text)
    await expect(page.get_by_role("button", name="Send")).to_be_enabled()
    await page.get_by_label("Message").press("Control+Enter")


async def record_of(stage: Stage, page: Page, model: str) -> tuple[Locator, Record]:
    """Of the answer in its pane; and the link to it, behind which it is by now."""
    link = pane(page, model).get_by_role("link", name="Waterfall")
    return link, await recorded(stage.gateway, (await link.get_attribute("href") or "").rpartition("/")[2])


async def assert_no_markup(page: Page) -> None:
    assert await page.evaluate("window.broken") is None
    assert await page.locator("main img, main script, main b").count() == 0


async def test_two_models_answer_side_by_side_each_with_its_figures(stage: Stage) -> None:
    go = {model: asyncio.Event() for model in ("calm", "wild")}
    for model, event in go.items():
        stage.scripts[model] = saying_in_two_parts(f"{model} begins {MARKUP}", f" and {model} ends", event)
    async with stage.enter() as visit:
        page = visit.page
        await page.get_by_label("System prompt").fill("Be brief")
        await page.get_by_label("Temperature").fill("0.5")
        await page.get_by_label("Tokens at most").fill("50")
        await say(page, f"What is this? {MARKUP}")
        for model in go:
            await expect(pane(page, model)).to_contain_text(f"{model} begins {MARKUP}")
            await expect(pane(page, model)).to_contain_text("answering")
        go["wild"].set()
        await expect(pane(page, "wild")).to_contain_text("and wild ends")
        for name in ("Answered by", "local/wild", "First token", "Time", "19 / 10", "$0.000039"):
            await expect(pane(page, "wild")).to_contain_text(name)
        await expect(pane(page, "calm")).to_contain_text("answering")
        await expect(pane(page, "calm")).not_to_contain_text("Answered by")
        await visit.assert_accessible()
        go["calm"].set()
        await expect(pane(page, "calm")).to_contain_text("and calm ends")
        await expect(pane(page, "calm")).to_contain_text("local/calm")
        await expect(pane(page, "calm").get_by_role("link", name="Waterfall")).to_be_in_viewport()
        await expect(page.get_by_role("button", name="Stop")).to_have_count(0)
        await visit.assert_fits()
        await visit.assert_accessible()
        await page.emulate_media(color_scheme="dark")
        await visit.assert_accessible("color-contrast")
        await assert_no_markup(page)
    asked = stage.heard("calm")[-1].json
    assert [message["content"] for message in asked["messages"]] == ["Be brief", f"What is this? {MARKUP}"]
    assert (asked["temperature"], asked["max_tokens"], asked["stream"]) == (0.5, 50, True)


async def test_a_conversation_goes_on_outlives_a_look_at_a_record_and_is_kept_nowhere(stage: Stage) -> None:
    stage.scripts |= {"calm": saying("I am ", "calm"), "wild": saying("I am ", "wild")}
    async with stage.enter("/playground?left=calm") as visit:
        page = visit.page
        await expect(pane(page, "calm")).to_contain_text("Nothing was asked yet")
        await say(page, "Who are you?")
        await expect(pane(page, "calm")).to_contain_text("I am calm")
        await page.get_by_role("button", name="Compare with another model").click()
        await expect(page.get_by_label("Second model")).to_have_value("wild")
        await expect(page).to_have_url(re.compile(r"/playground\?left=calm&right=wild$"))
        await say(page, "And now?")
        await expect(pane(page, "wild")).to_contain_text("I am wild")
        await expect(pane(page, "calm").get_by_text("I am calm")).to_have_count(2)
        told = {model: [message["content"] for message in stage.heard(model)[-1].json["messages"]] for model in ("calm", "wild")}
        assert told == {"calm": ["Who are you?", "I am calm", "And now?"], "wild": ["And now?"]}, "each goes on with its own"

        link, _ = await record_of(stage, page, "wild")
        await link.click()
        await expect(page.get_by_role("article")).to_contain_text("And now?")
        await page.go_back()
        await expect(pane(page, "calm").get_by_text("I am calm")).to_have_count(2)
        kept = await page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])")
        assert "Who are you?" not in kept
        await page.get_by_role("button", name="New conversation").click()
        await expect(pane(page, "calm")).to_contain_text("Nothing was asked yet")
        await page.get_by_role("button", name="Take this model out: calm").click()
        await expect(page).to_have_url(re.compile(r"/playground\?left=wild$"))
        await page.reload()
        await expect(page.get_by_label("Model", exact=True)).to_have_value("wild")


async def test_a_stop_ends_the_call_at_the_provider_and_the_record_says_so(stage: Stage) -> None:
    stage.scripts |= {"calm": saying("At once"), "wild": replies.stream(samples.text_frames(["It goes", " on"])[:2], then=Peer.forever)}
    async with stage.enter(size=PHONE, has_touch=True) as visit:
        page = visit.page
        await page.get_by_label("Message").fill("Tell me all")
        await page.get_by_role("button", name="Send").click()
        await expect(pane(page, "wild")).to_contain_text("It goes")
        await expect(pane(page, "calm")).to_contain_text("At once")
        await visit.assert_fits()
        await page.get_by_role("button", name="Stop wild").click()
        await expect(pane(page, "wild")).to_contain_text("stopped")
        await eventually(stage.heard("wild")[-1].hung_up.is_set, "the gateway hangs up")
        link, record = await record_of(stage, page, "wild")
        assert (record["status"], record["http_status"], record["key_id"]) == ("cancelled", 499, "playground")
        await link.click()
        await expect(page.get_by_role("article")).to_contain_text("cancelled")


async def test_an_error_stands_in_its_pane_and_can_be_tried_again(stage: Stage) -> None:
    refusal = samples.error_body(f"No such voice {MARKUP}", "no_voice")
    stage.scripts |= {"calm": saying("I am calm"), "wild": replies.whole(refusal, status=400)}
    async with stage.enter() as visit:
        page = visit.page
        await say(page, "Sing!")
        await expect(pane(page, "wild").get_by_role("alert")).to_contain_text(f"No such voice {MARKUP}")
        await expect(pane(page, "wild")).to_contain_text("error")
        await expect(pane(page, "calm")).to_contain_text("local/calm")
        await expect(pane(page, "calm").get_by_role("alert")).to_have_count(0)
        await assert_no_markup(page)
        await visit.assert_accessible()
        stage.scripts["wild"] = replies.stream(samples.text_frames(["La", " la"])[:2], then=replies.cut)
        await pane(page, "wild").get_by_role("button", name="Try again").click()
        await expect(pane(page, "wild").get_by_role("alert")).to_contain_text("provider_connection_cut")
        await expect(pane(page, "wild")).to_contain_text("La")
        stage.scripts["wild"] = saying("La la")
        await pane(page, "wild").get_by_role("button", name="Try again").click()
        await expect(pane(page, "wild")).to_contain_text("local/wild")
        await expect(page.get_by_role("alert")).to_have_count(0)
        await page.get_by_label("Second model").fill("nobody")
        visit.means("status of 404")
        await say(page, "Again!")
        await expect(pane(page, "nobody").get_by_role("alert")).to_contain_text("'nobody' does not exist here")
        await page.get_by_label("Temperature").fill("hot")
        await page.get_by_label("Message").fill("And again!")
        await expect(page.get_by_text("A number from 0 to 2")).to_be_visible()
        await expect(page.get_by_role("button", name="Send")).to_be_disabled()


async def test_an_auditor_is_told_why_there_is_nothing_to_send(stage: Stage) -> None:
    auditor = await stage.admin("keys", {"name": "auditor", "role": "auditor"})
    async with stage.enter(key=auditor["key"]) as visit:
        await expect(visit.page.get_by_text("Asking models takes the role admin")).to_be_visible()
        assert await visit.page.get_by_role("button", name="Send").count() == 0
        await visit.assert_accessible()
