"""`/admin/v1/alerts`: what is wrong now and what was, as the gateway's own engine sees it; an alert can be silenced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from agent_gateway.control.admin_route import Asked, Listed, NoQuery, PageQuery, Route
from agent_gateway.control.audit import AuditLog
from agent_gateway.control.oversight import Oversight
from agent_gateway.control.times import told
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import BadRequest, NotFound
from agent_gateway.record.alerting.notice import AlertShown, shown

SILENCE_MAX_S = 30 * 86_400


class AlertsQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    state: Literal["firing", "resolved"] | None = None


class Silence(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """0 ends a silence."""

    for_s: Annotated[float, Meta(ge=0, le=SILENCE_MAX_S)] = 3600.0


class AlertRoutes:
    def __init__(self, oversight: Oversight, audit: AuditLog, clock: Clock) -> None:
        self._oversight = oversight
        self._audit = audit
        self._clock = clock

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="GET",
                path="alerts",
                summary="Alerts: those that fire, then those that are over, newest first",
                query=AlertsQuery,
                answer=Listed[AlertShown],
                handler=self._list,
            ),
            Route(
                method="POST",
                path="alerts/{id}/silence",
                summary="Tells nobody of an alert for a while, also if it is over and begins again",
                role="admin",
                body=Silence,
                answer=AlertShown,
                handler=self._silence,
                may_be_empty=True,
            ),
        )

    async def _list(self, asked: Asked[AlertsQuery, None]) -> Listed[AlertShown]:
        query = asked.query
        firing, past = await self._oversight.alerts()
        alerts = [*([] if query.state == "resolved" else firing), *([] if query.state == "firing" else past)]
        begin = _place(query.cursor)
        end = begin + query.limit
        return Listed([shown(alert) for alert in alerts[begin:end]], str(end) if end < len(alerts) else None)

    async def _silence(self, asked: Asked[NoQuery, Silence]) -> AlertShown:
        firing, past = await self._oversight.alerts()
        known = next((alert for alert in (*firing, *past) if alert.id == asked.of), None)
        if known is None:
            raise _no_such_alert(asked.of)
        until = self._clock.wall() + asked.body.for_s
        said = {"before": {"silenced_until": told(known.silenced_until)}, "after": {"silenced_until": told(until)}}
        async with self._audit.acting("alerts.silence", f"{known.rule}:{known.label}", asked.by, **said):
            if (silenced := await self._oversight.silence(known.id, until)) is None:  # it was forgotten just now
                raise _no_such_alert(asked.of)
            return shown(silenced)


def _no_such_alert(alert_id: str) -> NotFound:
    return NotFound(f"There is no alert {alert_id[:100]!r}. GET /admin/v1/alerts lists those that there are.")


def _place(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 8):
        raise BadRequest("This cursor is none that was given here.", param="cursor")
    return int(cursor)
