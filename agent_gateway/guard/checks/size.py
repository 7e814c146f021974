"""A bound on how much is said.

Promise: a stream that grows past it ends there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from agent_gateway.guard.base import About, CheckSettings, Said, Side, Tools, Verdict


class Options(CheckSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: str = "size"
    action: Literal["block", "flag"] = "block"
    #: Of all texts together.
    max_chars: Annotated[int, Meta(ge=1)]


class Check:
    Settings: ClassVar[type[Options]] = Options
    looks_at: ClassVar[Literal["whole"]] = "whole"
    sides: ClassVar[frozenset[Side]] = frozenset({"input", "output"})

    def __init__(self, settings: Options, tools: Tools) -> None:
        self._action = settings.action
        self._max_chars = settings.max_chars
        self.stream_max_chars: int | None = settings.max_chars

    async def judge(self, said: Sequence[Said], about: About) -> Verdict | None:
        return Verdict(self._action) if sum(len(text) for text, _ in said) > self._max_chars else None
