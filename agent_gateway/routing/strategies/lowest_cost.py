"""The cheapest for this request."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from random import Random
from typing import ClassVar

import msgspec

from agent_gateway.routing.base import View


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: str = "lowest_cost"


class Strategy:
    """Orders by price × expected tokens; an unknown price comes last. Ties go to the less busy."""

    Settings: ClassVar[type[Options]] = Options

    def __init__(self, settings: Options) -> None:
        pass

    def order(self, views: Sequence[View], random: Random) -> list[int]:
        keys = [(inf if view.cost_usd is None else view.cost_usd, view.in_flight / view.weight, random.random()) for view in views]
        return sorted(range(len(views)), key=keys.__getitem__)
