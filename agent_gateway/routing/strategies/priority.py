"""In the order in which they are written down."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import ClassVar

import msgspec

from agent_gateway.routing.base import View


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: str = "priority"


class Strategy:
    Settings: ClassVar[type[Options]] = Options

    def __init__(self, settings: Options) -> None:
        pass

    def order(self, views: Sequence[View], random: Random) -> list[int]:
        return list(range(len(views)))
