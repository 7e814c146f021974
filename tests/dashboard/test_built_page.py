"""The page as it was built: small enough for a first view, all of it packed, nothing inline, nothing from other hosts."""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path

import pytest

WEB = Path(__file__).parent.parent.parent / "web"
ASSETS = Path(__file__).parent.parent.parent / "agent_gateway" / "dashboard" / "assets"
#: Over the wire, gzipped.
FIRST_VIEW_MAX_BYTES = 250_000
#: Names in XML and help that errors point to; nothing is loaded from them.
_NO_ADDRESSES = ("http://www.w3.org/",)

built = pytest.mark.skipif(
    not (ASSETS / "index.html").exists() and not os.environ.get("CI"), reason="the page is not built: `make`, or `npm run build` in web/"
)


def _texts() -> list[Path]:
    return [path for path in ASSETS.rglob("*") if path.suffix in (".js", ".css", ".html", ".svg")]


def _named(script: str, among: dict[str, Path]) -> set[str]:
    return {name for name in among if name in script}


@built
def test_the_first_view_is_small() -> None:
    """The index, what it names, and the page Now with all that this names in its turn, but no other page."""
    among = {path.name: path for path in ASSETS.rglob("*") if path.suffix in (".js", ".css")}
    entries = _named((ASSETS / "index.html").read_text(), among)
    first = {name for name in among if name.startswith("now-")}
    assert entries
    assert first
    needed = entries | first
    while found := {named for name in needed if name.startswith("now-") for named in _named(among[name].read_text(), among)} - needed:
        needed |= found
    size = sum((among[name].with_name(f"{name}.gz")).stat().st_size for name in needed)
    assert size + (ASSETS / "index.html.gz").stat().st_size < FIRST_VIEW_MAX_BYTES


@built
def test_every_text_lies_there_packed_too() -> None:
    assert _texts()
    for path in _texts():
        assert gzip.decompress(path.with_name(f"{path.name}.gz").read_bytes()) == path.read_bytes(), path.name


@built
def test_nothing_inline_and_nothing_from_other_hosts() -> None:
    index = (ASSETS / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", index)
    assert set(re.findall(r'(?:src|href)="([^"]+)"', index)) == set(re.findall(r'="(/dashboard/[^"]+)"', index))
    for path in _texts():
        loaded = re.findall(r"""(?:url\(|import\s*\(?|src=|href=)\s*["']?(https?:[^"')\s]+)""", path.read_text())
        assert [each for each in loaded if not each.startswith(_NO_ADDRESSES)] == [], path.name


def test_no_source_writes_markup() -> None:
    sources = list((WEB / "src").rglob("*.ts*"))
    assert sources
    for path in sources:
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", path.read_text()), path.name


def test_the_lock_file_names_no_host() -> None:
    lock = (WEB / "package-lock.json").read_text()
    assert '"integrity"' in lock
    assert '"resolved"' not in lock
