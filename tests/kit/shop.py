"""A gateway that somebody uses: what an operator's dashboard is held against, with something to see on every page.

Its names, prompts and users are markup throughout: a page that took any of it for its own would set `window.broken`.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import msgspec
from openai import AsyncOpenAI

from tests.kit.batches import chats, jsonl, line
from tests.kit.client import CHAT, Reply, ask
from tests.kit.gateway import Gateway

ADMIN_KEY = "sk-admin-0123456789abcdef"
MARKUP = '<img src=x onerror="window.broken = 1"><script>window.broken = 1</script>&lt;b&gt;\'"`{{7*7}}'
#: A model that answers, as its clients name it.
MARKED_MODEL = '<img src=x onerror="window.broken=1">'
#: This one never does.
BROKEN_MODEL = "broken"
PRICE = {"input": 0.15, "output": 0.6}
SPARE = "spare/small"
#: No batch of the shop's takes longer, and no alert: it is looked every ten seconds whether there is one (s).
BATCH_S = 20.0
ALERT_S = 30.0
#: Requests of a model that never answers: enough for an alert.
FAULTS = 8


def configuration() -> dict[str, Any]:
    quick = {"kind": "simulated", "ttft_ms": 5, "tokens_per_s": 2000, "output_tokens": 20, "jitter": 0}
    answers = {"provider": "sim", "model": "small", "price": PRICE}
    return {
        "auth": {"admin_key": ADMIN_KEY},
        "state": {"database": "sqlite:///agent-gateway.db"},
        "providers": {
            "sim": quick,
            "front": quick,
            "spare": {**quick, "output_tokens": 30},
            "paced": {**quick, "ttft_ms": 60, "tokens_per_s": 100},
            "bad": {**quick, "error_rate": 1},
        },
        "models": {
            "chat": {"strategy": "priority", "deployments": [{**answers, "provider": name} for name in ("front", "spare")]},
            "slow": {"deployments": [{**answers, "provider": "paced"}], "batching": {"concurrency": 2}},
            MARKED_MODEL: {"deployments": [answers]},
            BROKEN_MODEL: {"deployments": [{**answers, "provider": "bad"}]},
        },
        "retries": {"max_attempts": 1},
        "fallback": {"reply": None},
    }


class Shop:
    """`client` asks by a key named in markup, of a team with a budget. `faults`: requests of a model that never answers."""

    session = "trip-to-lisbon"
    _user = "ann@example.com"

    def __init__(self, gateway: Gateway, *, faults: int = FAULTS) -> None:
        self.gateway = gateway
        self.key_id = ""
        #: Of a request with markup in its prompt.
        self.request_id = ""
        #: Of one that has ended, of requests that are all the same; and of one whose only line cannot be run.
        self.batch_id = self.refused_batch_id = ""
        self.client: AsyncOpenAI
        self._faults = faults

    @property
    def session_path(self) -> str:
        return f"/sessions/{self.session}?key={self.key_id}&user={quote(self._user)}"

    async def __aenter__(self) -> Shop:
        await self.admin("POST", "teams", {"id": "blue", "name": f"Blue {MARKUP}", "budget": {"usd": 50, "per": "month"}})
        key = await self.admin("POST", "keys", {"name": f"storefront {MARKUP}", "team": "blue", "budget": {"usd": 5, "per": "day"}})
        self.key_id = key["id"]
        self.client = AsyncOpenAI(base_url=f"{self.gateway.url}/v1", api_key=key["key"], max_retries=0, timeout=15)
        for text in (f"Where shall I stay? {MARKUP}", "And what do I eat?"):
            await self.ask("chat", text, **{"x-session-id": self.session, "x-user-id": self._user})
        self.request_id = (await self._reply("chat", f"What is this? {MARKUP}")).headers["x-request-id"]
        await asyncio.gather(
            *(self.ask(model, f"Question {number}: {MARKUP}") for model in ("chat", MARKED_MODEL) for number in range(15)),
            *(self.ask(BROKEN_MODEL, "Is anybody there?") for _ in range(self._faults)),
        )
        same = {"model": MARKED_MODEL, "messages": [{"role": "user", "content": "The same?"}], "temperature": 0}
        self.batch_id = await self._batch([line(f"item-{number}", same) for number in range(12)])
        self.refused_batch_id = await self._batch([line(MARKUP, same, url=MARKUP)])
        for batch_id in (self.batch_id, self.refused_batch_id):
            await self.batch_ended(batch_id)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()

    async def alert_fires(self) -> None:
        """Returns when that of the broken model does; from here it goes on for three minutes, and no longer."""
        await asyncio.gather(*(self.ask(BROKEN_MODEL, "Is anybody there?") for _ in range(FAULTS)))
        async with asyncio.timeout(ALERT_S):
            while not await self._fires("errors_fast"):  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.1)

    async def _fires(self, rule: str) -> bool:
        return any(alert["rule"] == rule for alert in (await self.admin("GET", "alerts?state=firing"))["data"])

    async def ask(self, model: str, text: str, **headers: str) -> int:
        """Its HTTP status."""
        return (await self._reply(model, text, **headers)).status

    async def answered_by(self, model: str) -> str:
        """The deployment that did."""
        return (await self._reply(model, "Who are you?")).headers["x-gateway-model"]

    async def _reply(self, model: str, text: str, **headers: str) -> Reply:
        body = {"model": model, "messages": [{"role": "user", "content": text}]}
        return await ask(self.gateway.url, CHAT, body, headers={"authorization": f"Bearer {self.client.api_key}", **headers})

    async def batch(self, count: int, model: str = "chat") -> str:
        """Its id; it goes on by itself."""
        return await self._batch(chats(count, model))

    async def batch_ended(self, batch_id: str) -> str:
        """Its status, once it has."""
        async with asyncio.timeout(BATCH_S):
            while not (batch := await self.admin("GET", f"batches/{batch_id}"))["ended_at"]:  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.05)
        return str(batch["status"])

    async def _batch(self, lines: list[dict[str, Any]]) -> str:
        file = await self.client.files.create(file=("requests.jsonl", jsonl(lines)), purpose="batch")
        batch = await self.client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        return batch.id

    async def admin(self, method: str, path: str, body: Any = None) -> Any:
        """As a program that has the admin key."""
        reply = await ask(self.gateway.url, f"/admin/v1/{path}", body, method=method, headers={"authorization": f"Bearer {ADMIN_KEY}"})
        assert reply.status < 300, (method, path, reply.status, reply.body)
        return msgspec.json.decode(reply.content)

    async def audited(self, action: str) -> list[dict[str, Any]]:
        """What the audit log has of it, newest first."""
        return [entry for entry in (await self.admin("GET", "audit?limit=100"))["data"] if entry["action"] == action]
