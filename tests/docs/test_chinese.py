"""README.zh-CN.md says what README.md says: the same sections, code, links and figures."""

from __future__ import annotations

import re

from tests.kit.documents import ROOT, blocks, without_blocks

ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"


def test_its_code_is_the_same() -> None:
    """But for comments, which are translated."""
    english, chinese = ([re.sub(r" *#.*", "", block.text) for block in blocks([file])] for file in (ENGLISH, CHINESE))
    assert chinese == english


def test_it_has_the_same_sections_rows_and_links() -> None:
    english, chinese = (without_blocks(file) for file in (ENGLISH, CHINESE))
    assert len(re.findall(r"^## ", chinese, re.MULTILINE)) == len(re.findall(r"^## ", english, re.MULTILINE))
    assert len(re.findall(r"^\|", chinese, re.MULTILINE)) == len(re.findall(r"^\|", english, re.MULTILINE))
    links = [[target for target in re.findall(r"\]\(([^)]+)\)", text) if not target.startswith("README")] for text in (english, chinese)]
    assert sorted(links[1]) == sorted(links[0])


def test_its_figures_and_words_of_code_are_the_same() -> None:
    english, chinese = (without_blocks(file) for file in (ENGLISH, CHINESE))
    for pattern in (r"\| (\d+(?:\.\d+)? (?:µs|MB|s))\b", r"`([^`]+)`"):
        assert sorted(re.findall(pattern, chinese)) == sorted(re.findall(pattern, english))


def test_they_lead_to_each_other() -> None:
    assert "(README.zh-CN.md)" in ENGLISH.read_text()
    assert "(README.md)" in CHINESE.read_text()
