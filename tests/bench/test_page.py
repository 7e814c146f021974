"""The HTML report: one file that asks nobody for anything, whatever was tested is called."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest

from agent_gateway.bench.page import page
from agent_gateway.bench.plot import Line, plot
from tests.bench.figures import report, told
from tests.bench.loads import load

MARKUP = "<script>alert('x')</script>&\""
VOID = {"meta"}


class Reader(HTMLParser):
    """Every element is closed, in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not any(name in ("src", "href", "style") or name.startswith("on") for name, _ in attrs), (tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


def test_it_holds_all_there_is_and_nothing_from_elsewhere() -> None:
    text = page(report(load(mode="stream", rate=25.0), preset="support", failed=3, errors={"cut off": 3}))
    reader = read(text)
    assert {"table", "svg", "polyline"} <= reader.seen
    assert not {"script", "link", "img", "iframe"} & reader.seen
    assert "url(" not in text
    assert "@import" not in text
    for said in ("25 requests a second", "Preset support", "p95 of the time to first token", "cut off", "99 %", "Under way"):
        assert said in reader.text, said
    for drawing in re.findall(r"<svg.*?</svg>", text):
        ElementTree.fromstring(drawing)


def test_names_are_text() -> None:
    reader = read(page(report(load(f"http://h/{MARKUP}"), failed=1, errors={MARKUP: 1}, statuses={MARKUP: 1})))
    assert "script" not in reader.seen
    assert reader.text.count(MARKUP) >= 4


def test_another_is_set_beside_it() -> None:
    reader = read(page(report(latency=told(0.5)), report(at="2025-12-24T18:00:00.000Z")))
    assert "Compared with 2025-12-24T18:00:00.000Z" in reader.text
    assert "-50.0%" in reader.text
    assert "the other" in reader.text


def test_a_test_in_which_nothing_was_answered_has_a_page() -> None:
    nothing: dict[str, Any] = dict.fromkeys(("latency", "service", "first_token", "gap", "overhead", "late", "cost_usd"))
    read(page(report(requests=2, answered=0, failed=2, per_s=0.0, errors={"no connection": 2}, timeline=[], **nothing)))


@pytest.mark.parametrize("highest", [0.0, 0.0007, 0.3, 1.0, 9.9, 123456.0])
def test_lines_stay_within_their_plot(highest: float) -> None:
    drawn = plot("A & B", [Line("one", [(0, 0.0), (1, None), (2, highest)], "a")], [(0, "from"), (2, "to")], str)
    places = [tuple(map(float, place.split(","))) for line in re.findall(r'points="([^"]*)"', drawn) for place in line.split()]
    assert len(places) == 2
    assert all(0 <= x <= 760 and 0 <= y <= 260 for x, y in places)
    assert "A &amp; B" in drawn
