"""The page's files as they are served: packed or not, under one policy, kept by browsers exactly as long as they hold."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from agent_gateway.core.errors import NotFound
from agent_gateway.dashboard import page as page_module
from agent_gateway.dashboard.page import Page

INDEX = b"<!doctype html><title>it</title>"
SCRIPT = b"export const answer = 42;"
STYLE = b"body { margin: 0 }"
ICON = b"<svg xmlns='http://www.w3.org/2000/svg'/>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {"index.html": INDEX, "assets/now-1a2b.js": SCRIPT, "assets/now-1a2b.css": STYLE, "icon.svg": ICON, "assets/odd.gz": b"its own"}
    for name, body in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(body)
        if not name.endswith((".svg", ".gz")):
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(body))
    return tmp_path


async def get(page: Page, path: str, *, packed: bool = False, known: str | None = None) -> tuple[int, dict[str, str], bytes]:
    status, head, body = await page(path, packed=packed, known=None if known is None else known.encode())
    assert head.endswith(b"\r\n")
    return status, dict(line.split(": ", 1) for line in head.decode().splitlines()), body


@pytest.mark.parametrize(
    ("path", "media", "keeps", "body"),
    [
        ("/assets/now-1a2b.js", "text/javascript; charset=utf-8", "public, max-age=31536000, immutable", SCRIPT),
        ("/assets/now-1a2b.css", "text/css; charset=utf-8", "public, max-age=31536000, immutable", STYLE),
        ("/icon.svg", "image/svg+xml", "no-cache", ICON),
        ("/index.html", "text/html; charset=utf-8", "no-cache", INDEX),
        ("", "text/html; charset=utf-8", "no-cache", INDEX),
        ("/requests/req_1", "text/html; charset=utf-8", "no-cache", INDEX),
        ("/../page.py", "text/html; charset=utf-8", "no-cache", INDEX),
    ],
)
async def test_a_file_is_itself_and_any_other_path_is_the_page(folder: Path, path: str, media: str, keeps: str, body: bytes) -> None:
    status, head, found = await get(Page(folder), path)
    assert (status, head["content-type"], head["cache-control"], found) == (200, media, keeps, body)
    assert "content-encoding" not in head


async def test_every_answer_allows_the_gateways_own_scripts_and_nothing_inline(folder: Path) -> None:
    page = Page(folder)
    _, first, _ = await get(page, "")
    for path, known in (("/assets/now-1a2b.js", None), ("/any/view", None), ("", first["etag"])):
        _, head, _ = await get(page, path, known=known)
        policy = dict(rule.split(" ", 1) for rule in head["content-security-policy"].split("; "))
        assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert head["referrer-policy"] == "no-referrer"
        assert head["vary"] == "accept-encoding"


async def test_who_takes_gzip_gets_what_the_build_packed(folder: Path) -> None:
    page = Page(folder)
    _, plain, _ = await get(page, "/assets/now-1a2b.js")
    _, head, body = await get(page, "/assets/now-1a2b.js", packed=True)
    assert (head["content-encoding"], gzip.decompress(body)) == ("gzip", SCRIPT)
    assert head["content-type"] == plain["content-type"]
    assert head["etag"] != plain["etag"], "a cache must not take one for the other"
    _, head, body = await get(page, "/icon.svg", packed=True)
    assert ("content-encoding" in head, body) == (False, ICON), "it was not packed"


async def test_what_lies_packed_beside_a_file_is_no_file_of_its_own(folder: Path) -> None:
    page = Page(folder)
    with pytest.raises(NotFound):
        await page("/assets/now-1a2b.js.gz", packed=True, known=None)
    assert (await get(page, "/assets/odd.gz"))[2] == b"its own", "beside nothing"


@pytest.mark.parametrize("known", ["{}", "W/{}", '"other", {}', '"other",W/{}'])
async def test_what_a_browser_has_is_not_sent_again(folder: Path, known: str) -> None:
    page = Page(folder)
    _, first, _ = await get(page, "", packed=True)
    status, head, body = await get(page, "", packed=True, known=known.format(first["etag"]))
    assert (status, head["etag"], body) == (304, first["etag"], b"")
    assert "content-type" not in head
    assert (await get(page, "", packed=False, known=first["etag"]))[0] == 200, "that was the packed one"


async def test_a_changed_file_has_another_etag(folder: Path) -> None:
    _, before, _ = await get(Page(folder), "")
    (folder / "index.html").write_bytes(INDEX + b"<p>more")
    status, after, body = await get(Page(folder), "", known=before["etag"])
    assert (status, body) == (200, INDEX + b"<p>more")
    assert after["etag"] != before["etag"]


async def test_a_file_of_an_older_build_is_not_the_page(folder: Path) -> None:
    """A browser would take the page for its script."""
    with pytest.raises(NotFound, match=r"'assets/now-0000\.js'.*Load the page anew"):
        await Page(folder)("/assets/now-0000.js", packed=False, known=None)


async def test_without_a_build_it_says_how_to_have_one_and_looks_again(tmp_path: Path) -> None:
    page = Page(tmp_path)
    with pytest.raises(NotFound, match="not built"):
        await page("", packed=False, known=None)
    (tmp_path / "index.html").write_bytes(INDEX)
    assert (await get(page, ""))[2] == INDEX


async def test_a_folder_that_holds_something_else_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = _size(folder)
    monkeypatch.setattr(page_module, "BYTES_MAX", size)
    assert (await get(Page(folder), ""))[0] == 200
    monkeypatch.setattr(page_module, "BYTES_MAX", size - 1)
    with pytest.raises(NotFound, match=f"{size} bytes"):
        await Page(folder)("", packed=False, known=None)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
