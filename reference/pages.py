"""Which pages are made, and from what. A page is made of itself as it was: what people wrote in it stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from reference import commands, http, metrics, settings

DOCS = Path(__file__).parent.parent / "docs"

#: Below `docs/`.
PAGES: dict[str, Callable[[str], str]] = {
    "configuration.md": settings.page,
    "reference/cli.md": lambda before: commands.page(),
    "reference/http.md": lambda before: http.page(),
    "reference/metrics.md": lambda before: metrics.page(),
}
