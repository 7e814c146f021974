"""Whether a request may go on: whose key it shows, which model and place it names, and whether the one may use the others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from agent_gateway.admission.budgets import Purse
from agent_gateway.admission.keys import ADMIN, GATEWAY, Key, KeyRing
from agent_gateway.admission.limits import Limiter
from agent_gateway.core.errors import Forbidden, GatewayError, Unauthenticated, UnknownModel
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.route import Route
from agent_gateway.core.settings import Limits

#: Of a request's time this much is kept back (s), so that when all else has failed, the last word still comes within it.
LAST_WORD_S = 0.1

_SEND_IT = "Send it in a header: `Authorization: Bearer …`, `x-api-key: …` or `x-goog-api-key: …`; one in the URL (`?key=`) is not read."
_NO_KEY = f"This gateway needs a key. {_SEND_IT}"
_NO_ADMIN_KEY = f"This needs an admin key. {_SEND_IT}"
#: Of the admin key, so that nobody locks himself out, and of the gateway's own calls; the models' own limits hold for both.
_UNLIMITED = Limits()


class Gate:
    """`find` gives the route of a model's name; `names` are those that can be listed; `limits` are every key's that has none of its
    own; `admin_open`: there is no admin key.
    """

    def __init__(
        self,
        find: Callable[[str], Route | None],
        names: Iterable[str],
        keys: KeyRing,
        limiter: Limiter,
        *,
        limits: Limits,
        key_required: bool,
        admin_open: bool,
    ) -> None:
        self._find = find
        self._names = sorted(names)
        self._keys = keys
        self._limiter = limiter
        self._limits = limits
        self._key_required = key_required
        self._admin_open = admin_open

    # --- whose key it is

    def check_shown(self, secret: bytes | None) -> None:
        """Before a body is waited for: raises `Unauthenticated` where nothing is shown that could be a key. Asks nobody."""
        if self._key_required:
            if secret is None:
                raise Unauthenticated(_NO_KEY)
            self._keys.check_format(secret)

    def authenticate(self, exchange: Exchange, secret: bytes | None) -> Awaitable[None] | None:
        """Puts the key on the exchange. Raises `Unauthenticated` or `StoreDown`; an awaitable when the store has to be asked."""
        if secret is None:
            if self._key_required:
                raise Unauthenticated(_NO_KEY)
            return None
        ignorable = not self._key_required and not self._keys.may_be_known(secret)
        if ignorable and self._admin_open:
            return None
        exchange.key = self._keys.cached(secret)
        if exchange.key is None and not ignorable:
            return self._look_up(exchange, secret)
        return None

    async def _look_up(self, exchange: Exchange, secret: bytes) -> None:
        try:
            exchange.key = await self._keys.find(secret)
        except GatewayError:
            if self._key_required:
                raise

    # --- what it may do

    def route(self, model: str) -> Route | None:
        """Of a model's name, whoever asks."""
        return self._find(model)

    def admit(self, exchange: Exchange) -> Route:
        """The route of the model asked for. Raises `UnknownModel` or `Forbidden`."""
        call, key = exchange.call, exchange.key
        if key is not None:
            if not _may_use(key, call.model):
                raise Forbidden(f"This key may not use the model {call.model[:200]!r}.", param="model")
            if key.endpoints is not None:
                self.check_endpoint(exchange, call.path)
        route = self._find(call.model)
        if route is None:
            raise UnknownModel(f"The model {call.model[:200]!r} does not exist here. GET /v1/models lists those that do.", param="model")
        exchange.route = route
        timeout_s = route.timeouts.total_s if exchange.timeout_s is None else min(route.timeouts.total_s, exchange.timeout_s)
        exchange.deadline = exchange.started + timeout_s - min(LAST_WORD_S, timeout_s / 10)
        return route

    def reserve(self, exchange: Exchange, route: Route) -> Awaitable[None] | None:
        """Draws on what the key, its user, its team and the model may use. Raises `RateLimited` or `BudgetSpent`; an awaitable when
        other processes have to be asked.
        """
        return self._limiter.reserve(exchange, route, exchange.key, self._limits_of(exchange))

    async def left_usd(self, exchange: Exchange, route: Route) -> dict[Purse, float]:
        """What each of its budgets still has (USD)."""
        return await self._limiter.left_usd(exchange, route, exchange.key, self._limits_of(exchange))

    def charge(self, exchange: Exchange, route: Route) -> None:
        """Instead of `reserve`, for what was run without having been let in: its budgets pay for it."""
        self._limiter.charge(exchange, route, exchange.key, self._limits_of(exchange))

    def _limits_of(self, exchange: Exchange) -> Limits:
        return _UNLIMITED if exchange.key is ADMIN or exchange.key is GATEWAY else self._limits

    def check_endpoint(self, exchange: Exchange, path: str) -> None:
        """`path`: decoded, below where the app is mounted. Raises `Forbidden`."""
        key: Key | None = exchange.key
        if key is not None and key.endpoints is not None and not _covers(key.endpoints, path.rstrip("/")):
            raise Forbidden(f"This key may not be used at {path[:200]}.")

    def admit_admin(self, exchange: Exchange, *, writes: bool = False) -> None:
        """An auditor may read, an admin all. Raises `Unauthenticated` or `Forbidden`. Where there is no admin key, whoever comes as far
        as here without a key is an admin; with one, he is what it says.
        """
        key: Key | None = exchange.key
        if key is None:
            if not self._admin_open:
                raise Unauthenticated(_NO_ADMIN_KEY)
        elif key.role == "user":
            raise Forbidden("This needs an admin's key; the key shown is a user's.")
        elif writes and key.role != "admin":
            raise Forbidden("This needs an admin's key; the key shown is an auditor's, who may only read.")

    def visible_models(self, exchange: Exchange) -> list[str]:
        key: Key | None = exchange.key
        return self._names if key is None else [name for name in self._names if _may_use(key, name)]


def _may_use(key: Key, model: str) -> bool:
    return key.models is None or model in key.models


def _covers(endpoints: Iterable[str], path: str) -> bool:
    return any(path.startswith(place[:-1]) if place.endswith("*") else path == place.rstrip("/") for place in endpoints)
