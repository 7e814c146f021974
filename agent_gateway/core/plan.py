"""Which deployments may answer one request, in the order in which they are tried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agent_gateway.core.route import Deployment, Route

#: Why a candidate of a fallback model is first in line. `cooling`: of the model's own deployments, those that work have asked to be left
#: alone for a while; `unavailable`: none works; `capability`: none can take the request at all; `drained`: an operator has taken them out.
Detour = Literal["controller", "cooling", "unavailable", "capability", "drained"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """`route` is the model under which the deployment stands: the one asked for, or a fallback."""

    deployment: Deployment
    route: Route
    fallback: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """`route` is the model that was asked for; its policies hold for the whole chain."""

    route: Route
    candidates: tuple[Candidate, ...]
    #: Set when the first candidate is not of the model that was asked for.
    detour: Detour | None = None
