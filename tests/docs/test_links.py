"""Links lead somewhere, and files that are named are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kit.documents import DOCUMENTS, ROOT, without_blocks

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@every_document
def test_links_lead_somewhere(document: Path) -> None:
    text = without_blocks(document)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    missing = [target for target in targets if target and not (document.parent / target).exists()]
    assert missing == []


@every_document
def test_files_that_are_named_exist(document: Path) -> None:
    named = re.findall(r"`((?:agent_gateway|tests|docs|examples|benchmarks)/[\w/.\-]+)`", document.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []
