"""Attempts to talk a model out of its instructions, told by how they are worded.

Promise: cheap and open to all to read, so it stops what is copied, not who takes trouble (docs/guards.md says what it cannot see).
"""

from __future__ import annotations

import asyncio
import re
import tomllib
import unicodedata
from collections.abc import Sequence
from importlib.resources import files
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct

from agent_gateway.guard.base import About, CheckSettings, Said, Side, Tools, Verdict

#: Of a request so much is looked at (characters), in windows that overlap; each scores by itself.
LOOKED_AT_MAX_CHARS = 1024 * 1024
WINDOW_CHARS = 8 * 1024
OVERLAP_CHARS = 512


class Options(CheckSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: str = "injection"
    action: Literal["block", "flag"] = "flag"
    #: What a text has to score. One clear rule scores 3 and a hint 1 or 2: at 3 one rule will do, at 5 two have to come together.
    threshold: Annotated[int, Meta(ge=1, le=20)] = 3


class Check:
    Settings: ClassVar[type[Options]] = Options
    looks_at: ClassVar[Literal["whole"]] = "whole"
    sides: ClassVar[frozenset[Side]] = frozenset({"input"})
    stream_max_chars: int | None = None

    def __init__(self, settings: Options, tools: Tools) -> None:
        self._action = settings.action
        self._threshold = settings.threshold

    async def judge(self, said: Sequence[Said], about: About) -> Verdict | None:
        """Only of what users and tools say: an operator may well write down what a model is to withstand."""
        left = LOOKED_AT_MAX_CHARS
        for text, role in said:
            if role not in ("user", "tool"):
                continue
            for place in range(0, min(len(text), left), WINDOW_CHARS):
                if score(text[max(place - OVERLAP_CHARS, 0) : place + WINDOW_CHARS]) >= self._threshold:
                    return Verdict(self._action)
                if place:
                    await asyncio.sleep(0)  # the event loop has others to serve
            left -= len(text)
        return None


def score(text: str) -> int:
    """The weights of the rules that hold, each once."""
    plain = _plain(text)
    return sum(weight for weight, hints, rule in _RULES if any(hint in plain for hint in hints) and rule.search(plain))


_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\U000e0000-\U000e007f]")
_ACCENTS = re.compile("[\u0300-\u036f]")
_SPACES = re.compile(r"[\s_*`~|]+")


def _plain(text: str) -> str:
    """Small letters without accents, full width or what cannot be seen; any white space is one space."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFKD", _UNSEEN.sub("", text))))
    return _SPACES.sub(" ", text.lower())


class _Rule(Struct):
    weight: int
    #: Of these letters some are there where the rule holds.
    hints: list[str]
    rule: str


class _Table(Struct):
    parts: dict[str, str]
    rules: list[_Rule]


def _read() -> list[tuple[int, list[str], re.Pattern[str]]]:
    table = msgspec.convert(tomllib.loads(files("agent_gateway.guard").joinpath("injection.toml").read_text("utf-8")), _Table)
    rules = []
    for row in table.rules:
        rule = row.rule
        for name, part in table.parts.items():
            rule = rule.replace(f"{{{name}}}", part)
        rules.append((row.weight, row.hints, re.compile(rule)))
    return rules


_RULES = _read()
