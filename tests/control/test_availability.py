"""Nothing that does not work yet is silently ignored."""

from __future__ import annotations

import pytest

from agent_gateway.control.availability import LATER
from agent_gateway.core.settings import Settings
from tests.control.conftest import Mistakes

FILE = "providers: {local: {kind: openai, base_url: 'http://127.0.0.1:9/v1', api_key: x}}\n"


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("preset: saver", ["preset: not available yet; leave it out"]),
        ("server: {workers: 2}", ["server.workers: not available yet; leave it out, or at 1"]),
    ],
)
def test_what_comes_later_is_refused(mistakes: Mistakes, text: str, errors: list[str]) -> None:
    assert [error.replace(".0;", ";") for error in mistakes(FILE + text)] == errors


@pytest.mark.parametrize("path", LATER)
def test_the_table_names_settings_that_exist(path: str) -> None:
    value: object = Settings()
    for name in path.split("."):
        value = getattr(value, name)
