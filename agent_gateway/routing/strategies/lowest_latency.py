"""The shortest expected time to first token."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import ClassVar

import msgspec

from agent_gateway.routing.base import View


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: str = "lowest_latency"


class Strategy:
    """Orders by the peak-EWMA of the time to first token, scaled to this request's input (`health.load`).

    One that was never measured comes first, so that it is; one that was slow fades back and is tried again. Ties go to the less busy.
    """

    Settings: ClassVar[type[Options]] = Options

    def __init__(self, settings: Options) -> None:
        pass

    def order(self, views: Sequence[View], random: Random) -> list[int]:
        keys = [(view.latency_s, view.in_flight / view.weight, random.random()) for view in views]
        return sorted(range(len(views)), key=keys.__getitem__)
