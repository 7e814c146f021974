"""What a drilled gateway has around it: simulated providers, a store and a disk, any of which can fail; and clients.

Promise: nothing is left to real time or to real chance, and nothing leaves the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from inspect import iscoroutinefunction
from random import Random
from typing import Any, cast

import msgspec

from agent_gateway.core.call import MODEL_PATHS, Call, Dialect
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import StoreDown
from agent_gateway.core.route import Deployment
from agent_gateway.protocols.base import codec_of
from agent_gateway.protocols.estimate import CHARS_PER_TOKEN
from agent_gateway.record.row import Record
from agent_gateway.rehearsal.scenario import SPENDER_SHARE, USUAL, Scenario
from agent_gateway.simulator.settings import SimulatorSettings
from agent_gateway.stores.base import IN_MEMORY, Key, Store, open_store
from agent_gateway.upstream.base import PROVIDERS, Provider

#: A 429 asks clients to wait so long (s).
_RETRY_AFTER_S = 5.0
_STREAMS = 0.5
#: Of requests, those of a conversation that the gateway remembers; of so many after each other those that are make one, by model.
_SESSIONS = 0.2
_SPREAD = 30
#: Whoever leaves does so within this time (s); an answer takes about as long.
_LEAVES_S = 0.8
_DIALECTS: tuple[tuple[Dialect, float], ...] = (("openai_chat", 0.7), ("anthropic", 0.3))
_MAX_TOKENS = 500
_WORD = "why ".rjust(CHARS_PER_TOKEN)


class Faults:
    """What goes wrong at providers. `met`: how many calls were hit."""

    def __init__(self, scenario: Scenario, clock: Clock, chance: Random) -> None:
        self._scenario = scenario
        self._clock = clock
        self._chance = chance
        self.met = 0

    def of(self, deployment: Deployment) -> str:
        """The name of what goes wrong with a call that is made now; "" where nothing does."""
        scenario, kind = self._scenario, self._scenario.kind
        if deployment.id not in scenario.deployments or not kind.faults or not scenario.is_on(self._clock.monotonic()):
            return ""
        if self._chance.random() >= scenario.share or (kind.calls_max is not None and self.met >= kind.calls_max):
            return ""
        self.met += 1
        return self._chance.choice(kind.faults)

    def provider(self, seed: int) -> Provider:
        settings = SimulatorSettings(
            ttft_ms=300, tokens_per_s=10, output_tokens=USUAL.output, jitter=0.3, retry_after_s=_RETRY_AFTER_S, seed=seed
        )
        made: Provider = PROVIDERS.load(settings.kind)(settings, None, self._clock, steering=self.of)
        return made


class Disk:
    """A sink: records are safe while it can be written, else lost. It adds up what keys have spent, as the ledger of an operator's own."""

    name = "database"
    adopted = 0

    def __init__(self, scenario: Scenario, clock: Clock) -> None:
        self._scenario = scenario
        self._clock = clock
        self._spent_usd = 0.0
        self.written = 0
        self.dropped = 0
        #: When the soft share of the scenario's budget was spent (s since it began).
        self.soft_spent_s: float | None = None

    def start(self) -> None:
        """Nothing runs."""

    def keep(self, retention_days: float) -> None:
        """Nothing stays."""

    def write(self, records: Sequence[Record]) -> None:
        now = self._clock.monotonic()
        if self._scenario.kind.down == "records" and self._scenario.is_on(now):
            self.dropped += len(records)
        else:
            self.written += len(records)
        budget = self._scenario.budget
        if budget is not None and self.soft_spent_s is None:
            self._spent_usd += sum(record.cost_usd or 0.0 for record in records if record.key_id == SPENDER)
            if self._spent_usd >= budget.soft * budget.usd:
                self.soft_spent_s = now

    async def erase(self, user: str) -> int:
        """There is nobody in it."""
        return 0

    async def close(self, timeout_s: float) -> None:
        """Nothing waits."""


def store_of(scenario: Scenario, clock: Clock) -> Store:
    """One in memory, which cannot be reached while the scenario says so."""
    return cast(Store, _Reached(open_store(IN_MEMORY), lambda: scenario.kind.down == "store" and scenario.is_on(clock.monotonic())))


class _Reached:
    def __init__(self, store: Store, is_down: Callable[[], bool]) -> None:
        self._store = store
        self._is_down = is_down

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not iscoroutinefunction(found):
            return found

        @wraps(found)
        async def asked(*args: Any, **options: Any) -> Any:
            if self._is_down():
                raise StoreDown("The database cannot be reached.")
            return await found(*args, **options)

        return asked


# --- clients


SPENDER = "key_spender"
_ANYBODY = Key(id="key_anybody", name="anybody")


class Ask(msgspec.Struct, frozen=True):
    """One request; seconds since the scenario began."""

    at: float
    call: Call
    key: Key
    session: str | None
    #: So long after it was asked (s); None: its client stays.
    leaves_after_s: float | None


def asks(scenario: Scenario, chance: Random, length_s: float) -> Iterator[Ask]:
    """As they come: a Poisson process whose rate is the demand's."""
    demand = scenario.demand
    spender = Key(id=SPENDER, name="spender", budget=scenario.budget)
    models, weights = list(demand.weights), list(demand.weights.values())
    dialects, shares = zip(*_DIALECTS, strict=True)
    most, at, number = demand.most_per_s, 0.0, 0
    while most and (at := at + chance.expovariate(most)) < length_s:
        if chance.random() * most >= demand.per_s_at(at):
            continue
        number += 1
        model = chance.choices(models, weights)[0]
        call = _call(scenario, at, model, chance.choices(dialects, shares)[0], number, chance)
        key = spender if scenario.budget is not None and chance.random() < SPENDER_SHARE else _ANYBODY
        session = f"{model}-{number // _SPREAD}" if chance.random() < _SESSIONS else None
        leaves = chance.uniform(0.0, _LEAVES_S) if chance.random() < demand.leave else None
        yield Ask(at, call, key, session, leaves)


def _call(scenario: Scenario, at: float, model: str, dialect: Dialect, number: int, chance: Random) -> Call:
    tokens = int(USUAL.input * chance.lognormvariate(-0.3, 0.6))
    if scenario.prompt_tokens and model in scenario.models and scenario.is_on(at):
        tokens = scenario.prompt_tokens
    body = {
        "model": model,
        "stream": chance.random() < _STREAMS,
        "max_tokens": _MAX_TOKENS,
        "messages": [{"role": "user", "content": f"{number} {_WORD * tokens}"}],
    }
    return codec_of(dialect).read_call(msgspec.json.encode(body), {}, MODEL_PATHS[dialect])
