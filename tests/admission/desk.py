"""Where limits are tried: time that stands still until it is moved, and requests that are let in or not."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from agent_gateway.admission import cluster
from agent_gateway.admission.lease import LEASE_S
from agent_gateway.admission.limits import Limiter
from agent_gateway.core.call import Call
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import RateLimited
from agent_gateway.core.exchange import Exchange, Reservation
from agent_gateway.core.pricing import Price
from agent_gateway.core.route import Deployment, Route
from agent_gateway.core.settings import Limits
from agent_gateway.stores import promptness
from agent_gateway.stores.backends.memory import MemoryStore
from agent_gateway.stores.base import Key, SpendStore, Team
from agent_gateway.stores.meeting_place import Place

#: 2026-03-04, a Wednesday, at noon.
NOON = 1_772_625_600.0
#: A request is estimated at a quarter of a dollar, whatever it asks for.
QUARTER = Price(input=0, output=0, request=0.25)

#: Long enough for a place on a busy machine (s).
PATIENCE_S = 10.0

_numbers = count()


def wait_long(change: Callable[[Any, str, Any], None]) -> None:
    """From here on requests wait for the place where all meet, where a user's would be let in unshared. `change` sets a module's name."""
    for module, names in (
        (promptness, ("QUICK_S", "WAIT_MIN_S", "WAIT_MAX_S")),
        (cluster, ("WAIT_MAX_S", "ANSWER_TIMEOUT_S", "CONNECT_TIMEOUT_S")),
    ):
        for name in names:
            change(module, name, PATIENCE_S)


class Time:
    def __init__(self) -> None:
        self.now = 0.0
        self.clock = Clock(monotonic=lambda: 1000.0 + self.now, wall=lambda: NOON + self.now)


class Desk:
    """Asks for requests as the gate does; the teams are those that are put into `teams`."""

    def __init__(
        self, store: SpendStore | None = None, clock: Clock | None = None, place: Place | None = None, lease_s: float = LEASE_S
    ) -> None:
        self.time = Time()
        self.store = store or MemoryStore()
        self.teams: dict[str, Team] = {}
        self.soft: list[tuple[str, float]] = []
        self.limiter = Limiter(
            clock or self.time.clock,
            self.store,
            self.teams.get,
            place=place,
            lease_s=lease_s,
            on_soft=lambda account, spent, budget: self.soft.append((account, spent)),
        )

    async def ask(
        self, limits: Limits, key: str | Key | None = "k", *, user: str | None = None, route: Route | None = None, tokens: int = 200
    ) -> Reservation:
        """What was reserved; raises as the limiter does."""
        exchange = exchange_of(user, tokens)
        shown = Key(key, key) if isinstance(key, str) else key
        waiting = self.limiter.reserve(exchange, route or route_of(), shown, limits)
        if waiting is not None:
            await waiting
        assert exchange.reservation is not None
        return exchange.reservation

    async def let_in(self, limits: Limits, times: int, key: str | Key | None = "k", *, user: str | None = None) -> int:
        """How many of so many, one after the other."""
        done = 0
        for _ in range(times):
            try:
                (await self.ask(limits, key, user=user)).release()
            except RateLimited:
                continue
            done += 1
        return done


def exchange_of(user: str | None = None, tokens: int = 200) -> Exchange:
    """Half of the tokens in, half out."""
    call = Call("openai_chat", "chat", b"x" * 2 * tokens, max_output_tokens=tokens - tokens // 2, user=user)
    return Exchange(id=f"req_{next(_numbers)}", call=call, started=0, started_wall=0)


def route_of(name: str = "chat", price: Price | None = QUARTER, **policies: object) -> Route:
    return Route(name=name, deployments=(Deployment(f"p/{name}", "p", name, price=price),), **policies)  # type: ignore[arg-type]


def spend(reservation: Reservation, tokens: int, cost_usd: float) -> None:
    reservation.release()
    reservation.settle(tokens, cost_usd)
