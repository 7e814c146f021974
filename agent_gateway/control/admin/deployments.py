"""`/admin/v1/deployments/{id}`: takes a deployment out by hand, or puts it first; every process follows within a second."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct

from agent_gateway.control.admin_route import Asked, NoQuery, Route
from agent_gateway.control.audit import AuditLog
from agent_gateway.control.interventions import Intervention, Interventions, InterventionShown, Mode
from agent_gateway.control.snapshot import Configuration
from agent_gateway.core import route as core
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import Conflict, NotFound
from agent_gateway.health.registry import Health

#: For longer than this it is the configuration that should say so (s).
FOR_MAX_S = 30 * 86_400


class NewIntervention(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`auto` ends what was decided before."""

    mode: Mode
    #: Null: until it is ended.
    for_s: Annotated[float, Meta(gt=0, le=FOR_MAX_S)] | None = None
    reason: Annotated[str, Meta(max_length=500)] = ""
    #: Also where a model is then left without any deployment of its own that takes calls.
    force: bool = False


class DeploymentShown(Struct, frozen=True, kw_only=True):
    id: str
    #: Null: none, the strategy chooses.
    intervention: InterventionShown | None


class DeploymentRoutes:
    def __init__(
        self,
        interventions: Interventions,
        configuration: Callable[[], Configuration],
        shown: Callable[[], Awaitable[dict[str, Any]]],
        health: Health,
        audit: AuditLog,
        clock: Clock,
    ) -> None:
        """`shown`: the routes as operators see them, of all workers."""
        self._shown = shown
        self._interventions = interventions
        self._configuration = configuration
        self._health = health
        self._audit = audit
        self._clock = clock

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="PUT",
                path="deployments/{id}",
                slashes=True,
                summary="Takes a deployment out of all routes (drain), puts it first in them (prefer), or leaves it to them again (auto)",
                role="admin",
                body=NewIntervention,
                answer=DeploymentShown,
                handler=self._put,
            ),
        )

    async def _put(self, asked: Asked[NoQuery, NewIntervention]) -> DeploymentShown:
        name, body = asked.of, asked.body
        routes = [route for route in await self._routes() if any(each.id == name for each in route.deployments)]
        if not routes and self._interventions.shown(name) is None:
            raise NotFound(f"There is no deployment {name[:100]!r}. GET /admin/v1/routes lists those that there are, as provider/model.")
        if body.mode == "drain" and not body.force:
            self._check_left(name, routes)
        now = self._clock.wall()
        made = Intervention(
            mode=body.mode,
            until=None if body.for_s is None else now + body.for_s,
            by=asked.by.name,
            reason=body.reason,
        )
        before = self._interventions.shown(name)
        after = None if made.mode == "auto" else made.shown()
        async with self._audit.acting("deployments.intervene", name, asked.by, before=before, after=after):
            await self._interventions.put(name, made)
        return DeploymentShown(id=name, intervention=self._interventions.shown(name))

    async def _routes(self) -> list[core.Route]:
        """Those of the configuration, and those beside it that any worker has met."""
        find = self._configuration().find
        return [route for shown in (await self._shown())["data"] if (route := find(shown["name"])) is not None]

    def _check_left(self, name: str, routes: Sequence[core.Route]) -> None:
        """Raises `Conflict` where a route would have nobody of its own any more."""
        now = self._clock.monotonic()
        for route in routes:
            others = [each.id for each in route.deployments if each.id != name]
            if any(self._health.of(each).available(now) and self._health.interventions.get(each) != "drain" for each in others):
                continue
            then = f"go to {', '.join(route.fallbacks)}" if route.fallbacks else "are refused"
            raise Conflict(
                f"{name} is the last deployment of the model {route.name[:200]} that takes calls: without it its requests {then}. "
                'Send "force": true if that is meant.',
                param="force",
            )
