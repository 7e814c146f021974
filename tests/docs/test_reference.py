"""Pages that are made from the program are as the program is now, and people have said what each setting means."""

from __future__ import annotations

import re

import pytest

from agent_gateway.core.settings import FIXED_REPLY
from reference import settings
from reference.pages import DOCS, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_current(name: str) -> None:
    text = (DOCS / name).read_text()
    assert PAGES[name](text) == text, "run: python -m reference"


@pytest.mark.parametrize("title", settings.TABLES)
def test_every_setting_has_a_meaning(title: str) -> None:
    text = (DOCS / "configuration.md").read_text().partition(f"\n{title}\n")[2]
    table = re.split(r"\n\n(?!\|)", text.partition("\n| setting |")[2], maxsplit=1)[0]
    told = settings.meanings_in(f"| setting |{table}\n")
    assert [path for path, meaning in told.items() if not meaning] == []


def test_the_fixed_reply_is_told_in_full() -> None:
    assert FIXED_REPLY in (DOCS / "configuration.md").read_text()


def test_a_table_of_the_old_form_is_taken_up() -> None:
    old = "| setting | default | |\n|---|---|---|\n| `api_key` | `null` | a key, or `a` \\| `b` |\n"
    assert settings.meanings_in(old) == {"api_key": "a key, or `a` \\| `b`"}
