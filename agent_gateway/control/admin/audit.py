"""`/admin/v1/audit`: the audit log, newest first, and its signed end."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Raw

from agent_gateway.control.admin_route import Asked, Listed, PageQuery, Route
from agent_gateway.control.audit import AuditLog
from agent_gateway.control.audit_chain import Entry, Head
from agent_gateway.core.errors import BadRequest, NotFound
from agent_gateway.stores.base import AuditRow


def audit_routes(log: AuditLog) -> Sequence[Route]:
    async def listed(asked: Asked[PageQuery, None]) -> Listed[Raw]:
        limit, cursor = asked.query.limit, asked.query.cursor
        if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
            raise BadRequest("cursor: this is none that was given here.", param="cursor")
        rows = await log.newest(limit, None if cursor is None else int(cursor))
        return Listed([shown(row) for row in rows], str(rows[-1].number) if rows and rows[-1].number > 1 else None)

    async def head(_: Asked[msgspec.Struct, None]) -> Head:
        if (found := await log.head()) is None:
            raise NotFound("The audit log is empty.")
        return found

    return (
        Route(
            method="GET",
            path="audit",
            summary="The audit log, newest first",
            query=PageQuery,
            answer=Listed[Entry],
            handler=listed,
        ),
        Route(
            method="GET",
            path="audit/head",
            summary="The audit log's signed end, to be kept elsewhere",
            answer=Head,
            handler=head,
        ),
    )


def shown(row: AuditRow) -> Raw:
    """As it was written; what somebody made unreadable is shown as text."""
    try:
        msgspec.json.decode(row.body, type=Entry)
    except msgspec.MsgspecError:
        return Raw(msgspec.json.encode({"number": row.number, "unreadable": row.body.decode("utf-8", "replace")}))
    return Raw(row.body)
