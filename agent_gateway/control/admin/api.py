"""The admin API's one door: finds the route, holds the caller's role and words against it, and has it answered.

Promise: an auditor changes nothing; what changes something is in the audit log before it takes effect, or does not take place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property

from agent_gateway.admission.logins import Logins
from agent_gateway.control.admin.alerts import AlertRoutes
from agent_gateway.control.admin.audit import audit_routes
from agent_gateway.control.admin.batches import BatchHands, BatchRoutes
from agent_gateway.control.admin.configuration import configuration_routes
from agent_gateway.control.admin.deployments import DeploymentRoutes
from agent_gateway.control.admin.feedback import feedback_routes
from agent_gateway.control.admin.figures import figure_routes
from agent_gateway.control.admin.keys import KeyRoutes
from agent_gateway.control.admin.live import live_feed, live_routes
from agent_gateway.control.admin.login import LoginRoutes
from agent_gateway.control.admin.models import model_routes, routes_of_all
from agent_gateway.control.admin.newest import NewestRecords
from agent_gateway.control.admin.now import now_routes
from agent_gateway.control.admin.playground import PlaygroundRoutes
from agent_gateway.control.admin.records import record_routes
from agent_gateway.control.admin.replays import replay_routes
from agent_gateway.control.admin.sessions import session_routes
from agent_gateway.control.admin.slo import slo_routes
from agent_gateway.control.admin.teams import TeamRoutes
from agent_gateway.control.admin.usage import usage_routes
from agent_gateway.control.admin.users import Erasure, user_routes
from agent_gateway.control.admin_route import Route
from agent_gateway.control.audit import AuditLog
from agent_gateway.control.interventions import Interventions
from agent_gateway.control.openapi import document
from agent_gateway.control.oversight import Oversight
from agent_gateway.control.replays import Replays
from agent_gateway.control.snapshot import Configuration
from agent_gateway.core.admin import AdminAnswer, AdminAsk
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import Forbidden, MethodNotAllowed, NotFound
from agent_gateway.core.siblings import ALONE, Siblings
from agent_gateway.core.streamed import Streamed
from agent_gateway.health.registry import Health
from agent_gateway.pipeline import Runtime
from agent_gateway.record.recorder import Recorder
from agent_gateway.session.live_streams import LiveStreams
from agent_gateway.stores.base import Store


class AdminApi:
    """`core.admin.Admin`. `configuration` and `runtime` give the one that holds now; `over`: whether nothing more is to be told live."""

    def __init__(
        self,
        configuration: Callable[[], Configuration],
        store: Store,
        audit: AuditLog,
        recorder: Recorder,
        streams: LiveStreams,
        health: Health,
        erase_answers: Callable[[str], Awaitable[int]],
        oversight: Oversight,
        logins: Logins,
        interventions: Interventions,
        clock: Clock,
        *,
        batches: BatchHands,
        replays: Replays,
        runtime: Callable[[], Runtime],
        siblings: Siblings = ALONE,
        over: Callable[[], bool] = lambda: False,
    ) -> None:
        archive = recorder.archive
        assert archive is not None, "the gateway's own recorder has one"

        routes = routes_of_all(configuration, health, interventions, clock, siblings)
        batch_routes = BatchRoutes(store, batches, audit, clock)
        self.live = live_feed(oversight, NewestRecords(recorder, siblings), {"routes": routes}, {"batches": batch_routes.news}, over)
        self.routes: Sequence[Route] = (
            *LoginRoutes(logins, configuration, audit).routes(),
            *live_routes(self.live),
            *now_routes(oversight),
            *KeyRoutes(store, audit, configuration, clock).routes(),
            *TeamRoutes(store, audit, clock).routes(),
            *usage_routes(archive, clock),
            *figure_routes(archive, clock),
            *feedback_routes(archive, clock),
            *model_routes(routes),
            *DeploymentRoutes(interventions, configuration, routes, health, audit, clock).routes(),
            *record_routes(archive, clock),
            *slo_routes(archive, oversight, clock),
            *AlertRoutes(oversight, audit, clock).routes(),
            *session_routes(store, audit, clock),
            *batch_routes.routes(),
            *PlaygroundRoutes(runtime, audit).routes(),
            *audit_routes(audit),
            *configuration_routes(configuration, replays.draft),
            *replay_routes(replays, audit, clock),
            *user_routes(store, audit, streams, Erasure(recorder, erase_answers, siblings)),
        )

    async def answer(self, ask: AdminAsk) -> AdminAnswer | Streamed:
        allowed = []
        for route in self.routes:
            if (of := route.place_in(ask.path)) is None:
                continue
            if route.method != ("GET" if ask.method == "HEAD" else ask.method):
                allowed.append(route.method)
                continue
            if route.role == "admin" and ask.key is not None and ask.key.role != "admin":
                raise Forbidden(f"This needs an admin key; the role of the key shown is {ask.key.role}.")
            told = await route.answered(ask, of)
            return told if isinstance(told, AdminAnswer | Streamed) else AdminAnswer(told, route.status)
        if not allowed:
            raise NotFound(f"There is nothing at '/admin/v1/{ask.path[:200]}'. GET /openapi.json lists what there is.")
        takes = ", ".join(dict.fromkeys(allowed))
        raise MethodNotAllowed(f"/admin/v1/{ask.path[:200]} does not take {ask.method}; it takes {takes}.", param=takes)

    def openapi(self) -> bytes:
        return self._document

    @cached_property
    def _document(self) -> bytes:
        return document(self.routes)
