"""A part's items as the requests that a provider gets, and what its answer to them means."""

from __future__ import annotations

import asyncio

from agent_gateway.batch.native.base import Job
from agent_gateway.batch.native.gathering import held
from agent_gateway.batch.native.plan import Part
from agent_gateway.batch.native.planner import IsCached, Place
from agent_gateway.batch.native.results import item_call, not_run
from agent_gateway.batch.tenure import Tenure
from agent_gateway.core.call import Call
from agent_gateway.core.errors import (
    BadRequest,
    ConnectFailed,
    NoConnectionFree,
    NotExpressible,
    ProviderError,
    ProviderKeyRefused,
    ProviderModelMissing,
    ProviderRateLimited,
    ProviderRefusedRequest,
)
from agent_gateway.routing.capability import Demand
from agent_gateway.stores.batches import BatchStore, ClaimedItem, ReturnedItem
from agent_gateway.upstream.outgoing import outgoing

#: After so many others get their turn on the event loop (one takes some 50 µs).
WRITTEN_AT_ONCE = 20


async def requests_of(store: BatchStore, tenure: Tenure, part: Part, place: Place, is_cached: IsCached | None) -> list[bytes]:
    """The lines of its items. Those that a batch of the provider's cannot have, or need not, are given back, and no longer the part's."""
    lines: list[bytes] = []
    async for items in held(store, tenure.batch.id, part):
        unfit: list[ReturnedItem] = []
        for count, item in enumerate(items):
            if count % WRITTEN_AT_ONCE == 0:
                await asyncio.sleep(0)
                await tenure.renew()  # a cache may take its time
            call = item_call(item)
            line = None if is_cached is not None and await is_cached(call) else _line(item, call, part, place)
            if line is None:
                unfit.append(not_run(item, attempted=False))
            else:
                lines.append(line)
        if unfit:
            await store.return_items(unfit)
    part.items = len(lines)
    return lines


def job_of(part: Part, place: Place) -> Job:
    return Job(part.id, place.deployment, place.dialect, part.account, part.items, part.sent_at, part.upstream)


def is_refused(error: ProviderError) -> bool:
    """It will not have the part, now or ever."""
    return isinstance(error, ProviderRefusedRequest | ProviderModelMissing | NotExpressible)


def is_gone(error: ProviderError) -> bool:
    return isinstance(error, ProviderModelMissing | ProviderRefusedRequest) and error.provider_status in (404, 410)


def is_certain(error: ProviderError) -> bool:
    """Nothing came of what was asked; else nobody can know."""
    return is_refused(error) or isinstance(error, ConnectFailed | NoConnectionFree | ProviderKeyRefused | ProviderRateLimited)


def _line(item: ClaimedItem, call: Call, part: Part, place: Place) -> bytes | None:
    if not _may_go(call, place):
        return None
    try:
        body = outgoing(call, place.dialect, place.deployment)
    except (NotExpressible, BadRequest):  # a live call is told so, or goes elsewhere
        return None
    return place.api.line(f"{part.id}-{item.number}", body, place.dialect)


def _may_go(call: Call, place: Place) -> bool:
    """Nothing of it is to be kept here, and the deployment takes it."""
    if call.keeping is not None and (call.keeping.store or call.keeping.goes_on):
        return False
    demand = Demand.of(call)
    return demand is None or demand.met_by(place.deployment)
