"""What an edge and the admin API say to each other: one asks, the other answers; neither knows the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from msgspec import Struct

from agent_gateway.core.streamed import Streamed

#: Below `/admin/v1/`: where one logs in, which is asked without a key.
LOGIN = "login"


class AdminAsk(Struct, frozen=True):
    """One request below `/admin/v1`. Who asks may use the admin API at all: the gate has seen to that."""

    request_id: str
    method: str
    #: What follows `/admin/v1/`, decoded, without a slash at its end.
    path: str
    #: Of names given twice the last.
    query: Mapping[str, str]
    body: bytes
    #: The key shown (`stores.base.Key`); None: there is no admin key, and everybody who reaches the API is an admin.
    key: Any
    #: The client's address, as far as it can be trusted.
    source: str
    #: What the cookie of a page of the gateway's own says; it was not looked at where `path` is `LOGIN`.
    login: str | None = None


class AdminAnswer(Struct, frozen=True):
    #: Anything that msgspec makes JSON of.
    body: Any
    status: int = 200
    #: Of who has just logged in; "": out. None: the cookie stays as it is.
    login: str | None = None
    #: How long it lasts.
    login_s: float = 0.0


class Admin(Protocol):
    async def answer(self, ask: AdminAsk) -> AdminAnswer | Streamed:
        """Raises `GatewayError`: `NotFound` for a path that is none, `Forbidden` for what the key's role may not, …"""

    def openapi(self) -> bytes:
        """The document of all of the gateway's paths, as JSON."""
