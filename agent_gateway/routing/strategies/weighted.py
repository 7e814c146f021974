"""In proportion to the weights, whatever the load."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import ClassVar

import msgspec

from agent_gateway.routing.base import View


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: str = "weighted"


class Strategy:
    """Each view comes first with probability weight / sum of weights, and so on among the rest.

    Source: Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006: sort by u^(1/weight).
    """

    Settings: ClassVar[type[Options]] = Options

    def __init__(self, settings: Options) -> None:
        pass

    def order(self, views: Sequence[View], random: Random) -> list[int]:
        keys = [random.random() ** (1 / view.weight) for view in views]
        return sorted(range(len(views)), key=keys.__getitem__, reverse=True)
