"""docs/protocols.md tells what each protocol cannot say: its tables are the codecs' own, word for word.

    python -m tests.protocols.test_documented_limits     # writes them anew
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "protocols.md"
#: Protocols into which requests are translated.
TRANSLATED = ("openai_chat", "openai_responses", "anthropic", "gemini")


def table(dialect: str) -> str:
    codec = import_module(f"agent_gateway.protocols.{dialect}.codec")
    rows = [(what, why, "400") for what, why in codec.REFUSED.items()] + [(what, why, "left out") for what, why in codec.DROPPED.items()]
    lines = [f"| `{what}` | {outcome} | {why} |" for what, why, outcome in rows]
    return "\n".join(["| asked for | outcome | why |", "|---|---|---|", *lines])


def written_anew(text: str) -> str:
    for dialect in TRANSLATED:
        begin, end = f"<!-- limits of {dialect} -->\n", f"\n<!-- end of {dialect} -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = before + begin + table(dialect) + end + after
    return text


@pytest.mark.parametrize("dialect", TRANSLATED)
def test_the_table_is_what_the_codec_does(dialect: str) -> None:
    assert table(dialect) in DOCUMENT.read_text(), "write it anew: python -m tests.protocols.test_documented_limits"


if __name__ == "__main__":
    DOCUMENT.write_text(written_anew(DOCUMENT.read_text()))
