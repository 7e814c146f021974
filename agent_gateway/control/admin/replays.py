"""`/admin/v1/replays`: what recorded traffic would have come to under configurations that somebody thinks of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct

from agent_gateway.control.admin_route import Asked, Listed, NoQuery, Route
from agent_gateway.control.audit import AuditLog
from agent_gateway.control.replay_order import Draft, Failed
from agent_gateway.control.replays import Replay, Replays, State, Tried, Wanted, new_replay_id
from agent_gateway.control.times import span, told
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import BadRequest


class NewConfiguration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    #: Says in the result which it is.
    name: Annotated[str, Meta(min_length=1, max_length=60)]
    #: As `gateway.yaml`; what is masked in it is what the running configuration has there.
    yaml: Annotated[str, Meta(min_length=1, max_length=200_000)]


class NewReplay(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    configurations: Annotated[list[NewConfiguration], Meta(min_length=1, max_length=2)]
    since: str = "1h"
    #: Null: until now.
    until: str | None = None
    #: The same one gives the same result.
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    #: How often each is rehearsed, with one seed after the other.
    runs: Annotated[int, Meta(ge=1, le=10)] = 3


class ReplayShown(Struct, frozen=True, kw_only=True):
    id: str
    state: State
    #: 0–1.
    progress: float
    started_at: str
    #: Null: it has not.
    ended_at: str | None
    by: str
    #: Of its configurations.
    names: Sequence[str]
    since: str
    until: str
    seed: int
    runs: int
    #: Why it failed.
    error: Failed | None


class TriedShown(Struct, frozen=True, kw_only=True):
    name: str
    #: What was set in it; secrets masked.
    yaml: str
    #: As `agent-gateway replay --json` prints it; null until it is done.
    result: dict[str, Any] | None


class ReplayWhole(ReplayShown, frozen=True, kw_only=True):
    configurations: Sequence[TriedShown]


def replay_routes(replays: Replays, audit: AuditLog, clock: Clock) -> Sequence[Route]:
    async def start(asked: Asked[NoQuery, NewReplay]) -> ReplayShown:
        wanted = _wanted(asked.body, clock.wall())
        replay_id = new_replay_id()
        after = {
            "configurations": [each.name for each in wanted.configurations],
            "since": told(wanted.since),
            "until": told(wanted.until),
            "seed": wanted.seed,
            "runs": wanted.runs,
        }
        async with audit.acting("replays.start", replay_id, asked.by, after=after):
            return _shown(await replays.start(replay_id, wanted, asked.by.name))

    async def listed(_: Asked[NoQuery, None]) -> Listed[ReplayShown]:
        return Listed([_shown(replay) for replay in await replays.all()])

    async def one(asked: Asked[NoQuery, None]) -> ReplayWhole:
        return _whole(*await replays.find(asked.of))

    async def stop(asked: Asked[NoQuery, None]) -> ReplayWhole:
        replay, _ = await replays.find(asked.of)
        if replay.state == "running":
            async with audit.acting("replays.stop", asked.of, asked.by):
                await replays.stop(asked.of)
        return _whole(*await replays.find(asked.of))

    return (
        Route(
            method="GET",
            path="replays",
            summary="What-if replays that run or are kept, newest first",
            answer=Listed[ReplayShown],
            handler=listed,
        ),
        Route(
            method="POST",
            path="replays",
            summary="Replays recorded traffic under one or two other configurations, in a process of its own; one at a time",
            role="admin",
            body=NewReplay,
            answer=ReplayShown,
            status=202,
            handler=start,
        ),
        Route(
            method="GET",
            path="replays/{id}",
            summary="One replay: how far it is, its configurations, and what came of them",
            answer=ReplayWhole,
            handler=one,
        ),
        Route(
            method="DELETE",
            path="replays/{id}",
            summary="Stops a replay; one that has ended stays as it is",
            role="admin",
            answer=ReplayWhole,
            handler=stop,
        ),
    )


def _wanted(body: NewReplay, now: float) -> Wanted:
    """Raises `BadRequest`."""
    names = [each.name for each in body.configurations]
    for place, name in enumerate(names):
        field = f"configurations[{place}].name"
        if not name.isprintable():
            raise BadRequest(f"{field}: holds characters that cannot be shown; use letters, digits and spaces.", param=field)
        if name in names[:place]:
            raise BadRequest(f"{field}: {name!r} is there twice; give each a name of its own.", param=field)
    since, until = span(body.since, body.until, now)
    assert since is not None, "it has a default"
    until = now if until is None else min(until, now)
    if since >= until:
        raise BadRequest(f"since: there is no time from {told(since)} to {told(until)}.", param="since")
    drafts = [Draft(each.name, each.yaml) for each in body.configurations]
    return Wanted(configurations=drafts, since=since, until=until, seed=body.seed, runs=body.runs)


def _shown(replay: Replay) -> ReplayShown:
    return ReplayShown(**_fields(replay))


def _whole(replay: Replay, tried: Sequence[Tried]) -> ReplayWhole:
    configurations = [TriedShown(name=each.name, yaml=each.yaml, result=each.result) for each in tried]
    return ReplayWhole(**_fields(replay), configurations=configurations)


def _fields(replay: Replay) -> dict[str, Any]:
    return {
        **{name: getattr(replay, name) for name in ("id", "state", "progress", "by", "names", "seed", "runs", "error")},
        "started_at": told(replay.started_at),
        "ended_at": None if replay.state == "running" else told(replay.heard_at),
        "since": told(replay.since),
        "until": told(replay.until),
    }
