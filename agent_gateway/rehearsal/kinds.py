"""What can be wrong, or only look like it, as data: each kind of scenario, what happens in it, and the alerts that are right then.

Promise: what is right is said here, before anything is run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: Requests are not answered by the model that was asked; calls of a deployment fail, whether clients see it or not; answers come late.
_UNANSWERED = frozenset({"errors_fast", "errors_slow", "degraded", "fallback_high", "fallback"})
_FAILING = _UNANSWERED | {"breaker_open", "provider_failing"}
_SLOW = frozenset({"latency", "first_token", "timeouts_fast", "timeouts_slow"})

Shape = Literal["steady", "waves", "bursts", "nobody"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """`expected`: any of these alerts tells of it; with none, nothing is wrong. `besides`: what else may be told because of it."""

    name: str
    text: str
    expected: frozenset[str] = frozenset()
    besides: frozenset[str] = frozenset()
    #: Of calls that are hit, each goes wrong in one of these ways (see `simulator.faults`); the share of those that are hit lies within.
    faults: tuple[str, ...] = ()
    share: tuple[float, float] = (1.0, 1.0)
    #: Of how many calls; None: as many as come.
    calls_max: int | None = None
    #: It goes and comes, with so long in between (s).
    flaps_s: tuple[float, float] | None = None
    #: All deployments of a model are hit; else that or one of them, by chance.
    whole_model: bool = False
    #: What cannot be written.
    down: Literal["store", "records"] | None = None
    #: What clients do.
    shape: Shape = "steady"
    leave: float = 0.0
    #: Prompts are so long that a request costs so many times what is told; or a key spends its budget.
    spends: Literal["prompts", "budget"] | None = None
    times: tuple[float, float] = (0.0, 0.0)

    @property
    def quiet(self) -> bool:
        return not self.expected


_INCIDENTS = (
    Kind(
        name="slow",
        text="a model begins to answer 6 to 12 s late",
        expected=_SLOW,
        besides=_FAILING,
        faults=("slow-6000", "slow-8000", "slow-12000"),
        share=(0.3, 1.0),
        whole_model=True,
    ),
    Kind(
        name="errors",
        text="a provider answers with 500, 503 or 529",
        expected=_FAILING,
        besides=_SLOW,
        faults=("fail-500", "fail-503", "fail-529"),
        share=(0.3, 1.0),
    ),
    Kind(
        name="rate_limits",
        text="a storm of 429",
        expected=_UNANSWERED | {"provider_rate_limited"},
        besides=_SLOW,
        faults=("fail-429",),
        share=(0.5, 1.0),
    ),
    Kind(
        name="stall",
        text="a provider takes requests and says nothing, or falls silent in the middle",
        expected=_FAILING | _SLOW,
        faults=("hang", "hang-3"),
        share=(0.3, 1.0),
    ),
    Kind(
        name="cut",
        text="connections break in the middle of the answer",
        expected=_FAILING,
        besides=_SLOW,
        faults=("cut-3",),
        share=(0.3, 1.0),
    ),
    Kind(
        name="key_revoked",
        text="a provider refuses the gateway's key",
        expected=frozenset({"provider_key_refused"}),
        besides=_FAILING | _SLOW,
        faults=("fail-401",),
    ),
    Kind(
        name="model_retired",
        text="a provider does not know the model any more",
        expected=frozenset({"provider_model_missing"}),
        besides=_FAILING | _SLOW,
        faults=("fail-404",),
    ),
    Kind(
        name="flapping",
        text="a provider is down for half a minute, back for half a minute, over and over",
        expected=_FAILING,
        besides=_SLOW,
        faults=("fail-503",),
        flaps_s=(20.0, 60.0),
    ),
    Kind(
        name="database_down",
        text="the database cannot be reached",
        expected=frozenset({"store_down"}),
        besides=frozenset({"errors_fast", "errors_slow"}),
        down="store",
    ),
    Kind(
        name="records_lost",
        text="records can neither be written nor put by: the disk is full",
        expected=frozenset({"records_lost"}),
        down="records",
    ),
    Kind(
        name="cost_jump",
        text="prompts of a model's clients grow until a request costs several times what it should",
        expected=frozenset({"cost"}),
        spends="prompts",
        times=(3.0, 8.0),
    ),
    Kind(
        name="budget",
        text="a key has spent the soft share of its budget",
        expected=frozenset({"budget"}),
        spends="budget",
    ),
)

_QUIET = (
    Kind(name="steady", text="steady traffic, down to a request in a minute"),
    Kind(name="waves", text="traffic that comes and goes like day and night", shape="waves"),
    Kind(name="bursts", text="every now and then ten times the traffic for a minute", shape="bursts"),
    Kind(
        name="few_errors",
        text="up to three calls in two hundred fail",
        faults=("fail-500", "fail-429", "cut-3", "hang"),
        share=(0.003, 0.015),
        whole_model=True,
    ),
    Kind(
        name="slow_within",
        text="one to three answers in a hundred come 6 s late",
        faults=("slow-6000",),
        share=(0.01, 0.03),
        whole_model=True,
    ),
    Kind(
        name="dear_within",
        text="long prompts: a request costs about half of what is told",
        spends="prompts",
        times=(0.4, 0.6),
    ),
    Kind(name="one_slow", text="one call never comes back", faults=("hang",), calls_max=1),
    Kind(name="nobody", text="no traffic at all", shape="nobody"),
    Kind(
        name="client_mistakes",
        text="clients send what a provider refuses",
        faults=("fail-400", "fail-422"),
        share=(0.1, 0.4),
        whole_model=True,
    ),
    Kind(name="clients_leave", text="clients leave before they have their answer", leave=0.3),
)

KINDS = {kind.name: kind for kind in (*_INCIDENTS, *_QUIET)}
