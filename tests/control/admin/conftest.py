"""The admin API on a real store and real records, asked as an edge asks it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest

from agent_gateway.admission.keys import ADMIN, Key, KeyRing
from agent_gateway.admission.logins import Logins
from agent_gateway.batch.batches import Batches
from agent_gateway.batch.files import Files
from agent_gateway.batch.native.plan import parts_of
from agent_gateway.cache.exact import Exact
from agent_gateway.cache.memory import MemoryEntries
from agent_gateway.control.admin.api import AdminApi
from agent_gateway.control.admin.batches import BatchHands
from agent_gateway.control.audit import AuditLog
from agent_gateway.control.interventions import Interventions
from agent_gateway.control.load import compile_mapping
from agent_gateway.control.oversight import OwnOversight
from agent_gateway.control.replays import Replays
from agent_gateway.control.snapshot import Configuration
from agent_gateway.core.admin import AdminAnswer, AdminAsk
from agent_gateway.core.clock import Clock
from agent_gateway.core.settings import Budget, Limits
from agent_gateway.health.registry import Health
from agent_gateway.record.alerting.watch import Watch
from agent_gateway.record.cost import settle
from agent_gateway.record.recorder import Recorder
from agent_gateway.session.live_streams import MemoryStreams
from agent_gateway.stores.base import Store, open_store
from agent_gateway.upstream.transport import Transport
from agent_gateway.upstream.web import Web

NOW = 1_760_000_100.0
CLOCK = Clock(wall=lambda: NOW)
AUDITOR = Key("aud", "the auditor", role="auditor")
SECRETS = ("provider-secret-0123456789", "admin-secret-0123456789", "audit-secret-0123456789", "token-secret-0123456789")
AUDIT_KEY = b"k" * 32


@dataclass
class Stage:
    configuration: Configuration
    api: AdminApi
    store: Store
    audit: AuditLog
    recorder: Recorder
    streams: MemoryStreams
    answers: MemoryEntries
    alerts: Watch
    replays: Replays

    async def ask(
        self, method: str, path: str, body: Any = b"", query: Mapping[str, str] | None = None, key: Key | None = ADMIN
    ) -> tuple[int, Any]:
        """Status and the answer, as JSON tells it. Raises `GatewayError`."""
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        told = await self.api.answer(AdminAsk("req_1", method, path, query or {}, data, key, "10.0.0.1"))
        assert isinstance(told, AdminAnswer)
        return told.status, msgspec.json.decode(msgspec.json.encode(told.body))

    async def get(self, path: str, **query: str) -> Any:
        status, told = await self.ask("GET", path, query=query)
        assert status == 200
        return told

    async def entries(self) -> list[Any]:
        """Of the audit log, newest first."""
        return [msgspec.json.decode(row.body) for row in await self.audit.newest(100)]


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    configuration = compile_mapping(
        {
            "auth": {"admin_key": SECRETS[1], "audit_key": SECRETS[2]},
            "state": {"database": f"sqlite:///{tmp_path}/gateway.db"},
            "providers": {
                "sim": {"kind": "simulated"},
                "local": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key": SECRETS[0]},
            },
            "models": {"chat": {"deployments": [{"provider": "sim", "model": "small", "price": {"input": 1, "output": 2}}]}},
        }
    )
    limits = Limits(budget=Budget(usd=100, per="month"))
    configuration = replace(configuration, settings=msgspec.structs.replace(configuration.settings, limits=limits))
    store = open_store(configuration.settings.state.database)
    audit = AuditLog(store, lambda: AUDIT_KEY, CLOCK)
    recorder = Recorder.for_settings(configuration.settings, CLOCK)
    streams, health = MemoryStreams(), Health()
    alerts = Watch(recorder.metrics, dict, Web(Transport(environ={}), CLOCK).post, CLOCK)
    alerts.configure(configuration.settings.alerts, {})
    for route in configuration.routes.values():
        health.follow(route)
    logins = Logins(store, KeyRing(store, CLOCK, auth=configuration.settings.auth), CLOCK)
    answers = MemoryEntries(CLOCK, bytes_max=2**20)
    erase = Exact(answers, settle, CLOCK).erase
    interventions = Interventions(store, health, CLOCK)
    oversight = OwnOversight(alerts, CLOCK)
    batches = BatchHands(Batches(store, None, CLOCK).cancel, parts_of, Files(store, CLOCK).content)
    replays = Replays(lambda: configuration, {**os.environ, "OTHER_TOKEN": SECRETS[3]}, {}, store, CLOCK)
    of_the_gateway = (store, audit, recorder, streams, health, erase, oversight, logins, interventions)

    def no_pipeline() -> NoReturn:
        pytest.fail("there is no pipeline here")

    api = AdminApi(lambda: configuration, *of_the_gateway, CLOCK, batches=batches, replays=replays, runtime=no_pipeline)
    yield Stage(configuration, api, store, audit, recorder, streams, answers, alerts, replays)
    await replays.close(10)
    await logins.close()
    await recorder.close(10)
    await store.close()
