"""Whether a request may go on: whose key it shows, which model it names, and whether the one may use the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from agent_gateway.admission.keys import ADMIN, KEY_PREFIX, Key, KeyRing
from agent_gateway.admission.limits import Allowance, Limiter
from agent_gateway.core.errors import Forbidden, GatewayError, Unauthenticated, UnknownModel
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.route import Route

#: Of a request's time this much is kept back (s), so that when all else has failed, the last word still comes within it.
LAST_WORD_S = 0.1

_NO_KEY = "This gateway needs a key. Send it as `Authorization: Bearer …` or `x-api-key: …`."


class Gate:
    """`find` gives the route of a model's name; `names` are those that can be listed; `allowance` is every key's that has no limits of
    its own; `admin_open`: there is no admin key.
    """

    def __init__(
        self,
        find: Callable[[str], Route | None],
        names: Iterable[str],
        keys: KeyRing,
        limiter: Limiter,
        *,
        allowance: Allowance,
        key_required: bool,
        admin_open: bool,
    ) -> None:
        self._find = find
        self._names = sorted(names)
        self._keys = keys
        self._limiter = limiter
        self._allowance = allowance
        self._key_required = key_required
        self._admin_open = admin_open

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
        ignorable = not self._key_required and not secret.startswith(KEY_PREFIX)
        if ignorable and self._admin_open:
            return None
        exchange.key = self._keys.cached(secret)
        if exchange.key is None and not ignorable:
            return self._look_up(exchange, secret)
        return None

    def admit(self, exchange: Exchange) -> Route:
        """The route of the model asked for; the key's limits are drawn on. Raises `UnknownModel`, `Forbidden` or `RateLimited`."""
        name, key = exchange.call.model, exchange.key
        if not _may_use(key, name):
            raise Forbidden(f"This key may not use the model {name[:200]!r}.", param="model")
        route = self._find(name)
        if route is None:
            raise UnknownModel(f"The model {name[:200]!r} does not exist here. GET /v1/models lists those that do.", param="model")
        if key is not ADMIN:
            exchange.reservation = self._limiter.reserve(key, self._allowance, exchange.call)
        exchange.route = route
        timeout_s = route.timeouts.total_s if exchange.timeout_s is None else min(route.timeouts.total_s, exchange.timeout_s)
        exchange.deadline = exchange.started + timeout_s - min(LAST_WORD_S, timeout_s / 10)
        return route

    def admit_admin(self, exchange: Exchange) -> None:
        """Raises `Unauthenticated` or `Forbidden`. Where there is no admin key, everybody who comes as far as here is an admin."""
        key = exchange.key
        if self._admin_open:
            return
        if key is None:
            raise Unauthenticated("This needs the admin key. Send it as `Authorization: Bearer …` or `x-api-key: …`.")
        if key.role != "admin":
            raise Forbidden("This needs an admin key; the key shown is a user's.")

    def visible_models(self, exchange: Exchange) -> list[str]:
        return [name for name in self._names if _may_use(exchange.key, name)]

    async def _look_up(self, exchange: Exchange, secret: bytes) -> None:
        try:
            exchange.key = await self._keys.find(secret)
        except GatewayError:
            if self._key_required:
                raise


def _may_use(key: Key | None, model: str) -> bool:
    return key is None or key.models is None or model in key.models
