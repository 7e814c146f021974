"""Batches as operators have them: watched while they run, cancelled, and their results downloaded, whoever's they are.

The gateway has two workers: what one of them runs is told and ended by the other as well.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from openai import AsyncOpenAI

from tests.journeys.test_admin import administer, made
from tests.journeys.test_batches import ended, submitted
from tests.journeys.test_dashboard_doors import Events
from tests.kit.batches import ADMIN_KEY, chats, configuration, new_key
from tests.kit.chains import running
from tests.kit.client import ask, connect, request
from tests.kit.eventually import eventually
from tests.kit.gateway import Gateway

WORKERS = 2
#: So many streams that each worker has some of them.
LISTENERS = 8


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running(tmp_path_factory.mktemp("admin-batches"), "fast lane", configuration(server={"workers": WORKERS})) as gateway:
        yield gateway


@pytest.fixture
async def alice(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=new_key(gateway, "alice"), max_retries=0, timeout=15) as client:
        yield client


async def whole(gateway: Gateway, batch_id: str) -> Any:
    reply = await administer(gateway, "GET", f"batches/{batch_id}")
    assert reply.status == 200, reply.body
    return reply.json


async def test_a_batch_is_watched_as_it_runs_and_cancelled(gateway: Gateway, alice: AsyncOpenAI) -> None:
    auditor = (await made(gateway, role="auditor"))["key"]
    async with AsyncExitStack() as stack:
        listeners = [await _listening(gateway, stack) for _ in range(LISTENERS)]
        batch = await submitted(alice, chats(60, "slow"))
        for events in listeners:
            row = await _told(events, batch.id, lambda row: row["counts"]["completed"] > 0)
            assert row["counts"]["total"] == 60
            assert row["rate_per_s"] > 0
            assert row["eta_s"] > 0
        assert (await whole(gateway, batch.id))["running"] <= WORKERS
        place = f"batches/{batch.id}/cancel"
        assert (await administer(gateway, "POST", place, {}, auditor)).status == 403
        assert (await alice.batches.retrieve(batch.id)).status == "in_progress"
        reply = await administer(gateway, "POST", place, {})
        assert (reply.status, reply.json["status"]) == (200, "cancelling")
        (after, *others) = [await _told(events, batch.id, lambda row: row["status"] == "cancelled") for events in listeners]
        assert others == [after] * (LISTENERS - 1)
    batch = await alice.batches.retrieve(batch.id)
    assert (batch.status, after["ended_at"] is not None) == ("cancelled", True)
    assert batch.request_counts is not None
    assert batch.request_counts.completed == after["counts"]["completed"] < 60
    (entry,) = [entry for entry in (await administer(gateway, "GET", "audit")).json["data"] if entry["action"] == "batches.cancel"]
    assert (entry["target"], entry["before"]["status"], entry["outcome"]) == (batch.id, "in_progress", "allowed")
    unrun = (await whole(gateway, batch.id))["failures"]
    assert {(failure["code"], failure["status_code"]) for failure in unrun} == {("batch_cancelled", None)}


async def test_what_has_ended_cannot_be_cancelled(gateway: Gateway, alice: AsyncOpenAI) -> None:
    batch = await ended(alice, await submitted(alice, chats(1)))
    refused = await administer(gateway, "POST", f"batches/{batch.id}/cancel", {})
    assert (refused.status, refused.error["message"]) == (409, f"The batch {batch.id} is completed; it cannot be cancelled any more.")
    outcomes = [entry["outcome"] for entry in (await administer(gateway, "GET", "audit")).json["data"] if entry["target"] == batch.id]
    assert outcomes == ["failed", "allowed"], "newest first"


async def test_its_files_are_downloaded_as_their_owner_has_them(gateway: Gateway, alice: AsyncOpenAI) -> None:
    batch = await ended(alice, await submitted(alice, [*chats(300), *_renamed(chats(2, "refusing"))]))
    shown = await whole(gateway, batch.id)
    assert shown["counts"] == {"total": 302, "completed": 300, "failed": 2}
    auditor = (await made(gateway, role="auditor"))["key"]
    for what, file_id, name in (("output", batch.output_file_id, "output"), ("errors", batch.error_file_id, "error")):
        assert file_id is not None
        own = (await alice.files.content(file_id)).content
        reply, read = [await administer(gateway, "GET", f"batches/{batch.id}/{what}", key=key) for key in (ADMIN_KEY, auditor)]
        assert (reply.status, read.status, reply.content, read.content) == (200, 200, own, own)
        assert reply.headers["content-type"] == "application/jsonl"
        assert reply.headers["content-disposition"] == f'attachment; filename="{batch.id}_{name}.jsonl"'
        assert int(reply.headers["content-length"]) == len(own) == shown[what]["bytes"]
    user = await ask(gateway.url, f"/admin/v1/batches/{batch.id}/output", headers={"authorization": f"Bearer {alice.api_key}"})
    assert user.status == 403
    assert [(failure["custom_id"], failure["status_code"]) for failure in shown["failures"]] == [("bad-0", 400), ("bad-1", 400)]
    for failure in shown["failures"]:
        await eventually(lambda seen=failure: gateway.record(seen["request_id"]), "its record")  # type: ignore[misc]
        assert (await administer(gateway, "GET", f"records/{failure['request_id']}")).json["http_status"] == 400


async def _listening(gateway: Gateway, stack: AsyncExitStack) -> Events:
    wire = await stack.enter_async_context(connect(gateway.url))
    await wire.send(request("GET", "/admin/v1/live?topics=batches", headers={"authorization": f"Bearer {ADMIN_KEY}"}))
    await wire.head()
    return Events(wire)


async def _told(events: Events, batch_id: str, holds: Any) -> Any:
    """The batch, as it is told live once that holds."""

    def row(told: Any) -> Any:
        return next((row for row in told["data"] if row["id"] == batch_id and holds(row)), None)

    return row(await events.until("batches", row))


def _renamed(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**line, "custom_id": f"bad-{number}"} for number, line in enumerate(lines)]
