"""The fewest calls in flight for its weight."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import ClassVar

import msgspec

from agent_gateway.routing.base import View


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: str = "least_busy"


class Strategy:
    """Orders by (in flight + 1) / weight: a deployment of weight 2 takes twice the calls of one of weight 1. Ties fall at random."""

    Settings: ClassVar[type[Options]] = Options

    def __init__(self, settings: Options) -> None:
        pass

    def order(self, views: Sequence[View], random: Random) -> list[int]:
        keys = [((view.in_flight + 1) / view.weight, random.random()) for view in views]
        return sorted(range(len(views)), key=keys.__getitem__)
