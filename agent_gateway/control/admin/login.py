"""`/admin/v1/login`: a browser shows a key once, and a cookie in its place from then on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

from msgspec import Meta, Struct

from agent_gateway import __version__
from agent_gateway.admission.logins import LASTS_S, Login, Logins
from agent_gateway.control.admin_route import Asked, NoQuery, Route
from agent_gateway.control.audit import AuditLog, By
from agent_gateway.control.audit_chain import Actor
from agent_gateway.control.snapshot import Configuration
from agent_gateway.control.times import told
from agent_gateway.core.admin import LOGIN, AdminAnswer
from agent_gateway.core.errors import Unauthenticated
from agent_gateway.stores.base import Key, Role


class NewLogin(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    key: Annotated[str, Meta(min_length=1, max_length=16_384)]


class LoginShown(Struct, frozen=True, kw_only=True):
    #: False: there is no admin key, and whoever reaches the gateway is an admin.
    required: bool
    #: Null: nobody is logged in.
    role: Role | None = None
    name: str | None = None
    #: To be shown in the header `x-csrf-token` where something is changed.
    csrf: str | None = None
    expires_at: str | None = None
    #: The gateway's.
    version: str = __version__


class LoginRoutes:
    def __init__(self, logins: Logins, configuration: Callable[[], Configuration], audit: AuditLog) -> None:
        self._logins = logins
        self._configuration = configuration
        self._audit = audit

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="GET",
                path=LOGIN,
                summary="Who is logged in, and whether one has to be",
                role="anyone",
                answer=LoginShown,
                handler=self._show,
            ),
            Route(
                method="POST",
                path=LOGIN,
                summary="Logs a browser in with an admin's or an auditor's key: from then on a cookie stands for it",
                role="anyone",
                body=NewLogin,
                answer=LoginShown,
                handler=self._begin,
            ),
            Route(method="DELETE", path=LOGIN, summary="Logs out", role="anyone", answer=LoginShown, handler=self._end),
        )

    @property
    def _is_open(self) -> bool:
        return self._configuration().settings.auth.admin_key is None

    async def _show(self, asked: Asked[NoQuery, None]) -> LoginShown:
        if self._is_open:
            return LoginShown(required=False, role="admin")
        login = await self._known(asked)
        return LoginShown(required=True) if login is None else _shown(login)

    async def _begin(self, asked: Asked[NoQuery, NewLogin]) -> AdminAnswer:
        secret = asked.body.key.strip().encode("utf-8", "replace")
        key = await self._logins.check(secret)
        async with self._audit.acting("login", key.id, _by(asked, key)):
            token, login = await self._logins.begin(secret, key)
        return AdminAnswer(_shown(login), login=token, login_s=LASTS_S)

    async def _end(self, asked: Asked[NoQuery, None]) -> AdminAnswer:
        """Whoever is not logged in is out already."""
        login = await self._known(asked)
        if login is not None and asked.ask.login is not None:
            async with self._audit.acting("logout", login.key.id, _by(asked, login.key)):
                await self._logins.end(asked.ask.login)
        return AdminAnswer(LoginShown(required=not self._is_open, role="admin" if self._is_open else None), login="")

    async def _known(self, asked: Asked[NoQuery, None]) -> Login | None:
        if asked.ask.login is None:
            return None
        try:
            return await self._logins.find(asked.ask.login)
        except Unauthenticated:
            return None


def _shown(login: Login) -> LoginShown:
    key = login.key
    return LoginShown(required=True, role=key.role, name=key.name or key.id, csrf=login.csrf, expires_at=told(login.expires_at))


def _by(asked: Asked[NoQuery, NewLogin] | Asked[NoQuery, None], key: Key) -> By:
    return By(Actor(key.id, key.name, key.role), asked.ask.source, asked.ask.request_id)
