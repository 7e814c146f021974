"""The documents as what is in them: fenced blocks, commands, links; every test of the documents reads them here."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
#: Where documents have the gateway.
DEMO_URL = "http://127.0.0.1:8080"
#: Of the gateway that their commands are run against.
ADMIN_KEY = "sk-admin-0123456789abcdef"

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[^\n]*)\n(?P<text>.*?)^(?P=indent)```", re.DOTALL | re.MULTILINE)
_OPERATORS = frozenset({"|", "||", "&&", ";", "&", "(", ")", "{", "}", "!"})
_REDIRECTIONS = frozenset({">", ">>", "<", "<<<", ">&", "&>", "2>", ">|"})
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)
_WORDS = frozenset(
    {"for", "in", "do", "done", "while", "until", "if", "then", "else", "elif", "fi", "export", "sudo", "exec", "time", "nohup", "env"}
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. `line`: of its first line, from 1."""

    document: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks(documents: Iterable[Path] = DOCUMENTS) -> Iterator[Block]:
    for document in documents:
        text = document.read_text()
        for fence in _FENCE.finditer(text):
            indent = len(fence["indent"])
            lines = [line[indent:] if not line[:indent].strip() else line for line in fence["text"].splitlines(keepends=True)]
            yield Block(document, text[: fence.start("text")].count("\n") + 1, fence["language"].strip(), "".join(lines))


def blocks_of(*languages: str) -> list[Any]:
    """As a test's parameters; an id names the document and the block's number in it, which lines before it do not change."""
    counts: dict[tuple[Path, str], int] = {}
    found = []
    for block in blocks():
        if block.language in languages:
            number = counts[block.document, block.language] = counts.get((block.document, block.language), 0) + 1
            found.append(pytest.param(block, id=f"{block.document.relative_to(ROOT)}-{block.language}-{number}"))
    return found


def without_blocks(document: Path) -> str:
    return _FENCE.sub("", document.read_text())


def lines_of(script: str) -> list[str]:
    """A shell script's commands, each with the lines that continue it: up to where its quotes are closed and no backslash asks for more."""
    found: list[str] = []
    under_way = ""
    for line in script.splitlines():
        under_way = f"{under_way}\n{line}" if under_way else line
        if under_way.endswith("\\") or not _is_whole(under_way):
            continue
        if under_way.strip() and not under_way.lstrip().startswith("#"):
            found.append(under_way)
        under_way = ""
    assert not under_way.strip(), f"quotes are not closed: {under_way!r}"
    return found


def commands_in(script: str) -> list[list[str]]:
    """The words of every simple command, without assignments, redirections and the shell's own words."""
    return [command for line in lines_of(script) for command in _commands(line)]


def _is_whole(text: str) -> bool:
    try:
        shlex.split(text, comments=True)
    except ValueError:
        return False
    return True


def _commands(line: str) -> Iterator[list[str]]:
    reader = shlex.shlex(line.replace("\\\n", " "), posix=True, punctuation_chars="();<>|&")
    reader.whitespace_split = True
    reader.commenters = "#"
    words: list[str] = []
    skip = False
    for word in reader:
        if skip:
            skip = False
        elif word in _OPERATORS or set(word) <= set("();|&"):
            if words:
                yield words
            words = []
        elif set(word) <= set("<>&") and word:
            skip = True
            if words and words[-1].isdigit():
                words.pop()
        elif not words and (word in _WORDS or _ASSIGNMENT.fullmatch(word)):
            continue
        else:
            words.append(word)
    if words:
        yield words
