"""The site is built without a warning: every page is in its navigation, every link leads somewhere, nothing comes from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from reference.site import rewritten
from tests.kit.documents import ROOT

_FETCHED = {("link", "href"), ("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src")}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return folder


class _Fetched(HTMLParser):
    """What a browser fetches for a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("rel") not in ("canonical", "prev", "next"):
            self.addresses += [value for name, value in attrs if value and (tag, name) in _FETCHED]


def test_it_fetches_nothing_from_anybody(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    fetched = {address for page in pages for address in _Fetched(page.read_text()).addresses}
    assert fetched
    assert [address for address in fetched if re.match(r"(https?:)?//", address)] == []


def test_lists_and_tables_are_shown_as_such(site: Path) -> None:
    """Markdown as the repository's host reads it and as the site does are not the same in everything."""
    for page in site.rglob("*.html"):
        text = re.sub(r"<(pre|code)\b.*?</\1>", "", page.read_text(), flags=re.DOTALL)
        assert re.findall(r"<p>[^<]*\n(?:- |\d+\. |\|)", text) == [], page.name


def test_what_lies_beside_the_pages_is_among_them(site: Path) -> None:
    assert "What is defended" in (site / "security.html").read_text()
    assert 'href="hardening.html#bounds"' in (site / "security.html").read_text()


@pytest.mark.parametrize(
    ("link", "repo_url", "after"),
    [
        ("[limits](limits.md#budgets)", None, "[limits](limits.md#budgets)"),
        ("[it](../SECURITY.md)", None, "[it](security.md)"),
        ("[pipeline.py](../agent_gateway/pipeline.py)", None, "pipeline.py"),
        ("[the room](../agent_gateway/edge)", None, "the room (`agent_gateway/edge`)"),
        (
            "[the room](../agent_gateway/edge)",
            "https://git.example/a/b/",
            "[the room](https://git.example/a/b/blob/HEAD/agent_gateway/edge)",
        ),
        ("[elsewhere](https://example.org/x.md)", None, "[elsewhere](https://example.org/x.md)"),
        ("[above](#above)", None, "[above](#above)"),
        ("[all](decisions/)", None, "[all](decisions/README.md)"),
    ],
)
def test_links_lead_where_they_can(link: str, repo_url: str | None, after: str) -> None:
    assert rewritten(link, "keys.md", "docs/keys.md", repo_url) == after
