"""The demo's sample traffic: over the gateway's own socket like any client's, one request after the other and a batch at all times."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from random import Random

import msgspec

from agent_gateway.cli.batch_client import BatchClient, Refused, Unreachable
from agent_gateway.cli.demo_clients import RATE_PER_S, REPORTS, Asked, Clients, batch
from agent_gateway.cli.demo_show import Sample, Show
from agent_gateway.core.call import MODEL_PATHS
from agent_gateway.core.errors import ConnectFailed
from agent_gateway.upstream.transport import Origin, Reply, Transport

ANSWER_TIMEOUT_S = 30.0
#: Requests that come with the first one, so that there is something to see at once.
AT_ONCE = 12
#: Of answers, those that somebody gives a score.
_SCORED_SHARE = 0.2
_SCORES = (2, 3, 4, 4, 5, 5, 5)
#: Items of the first batch, which is soon done, and of every further one.
_BATCH_ITEMS = (6, 200)
_LOOK_S = 0.1
_BATCH_LOOK_S, _BATCH_PAUSE_S = 1.0, 20.0


class Traffic:
    """`secrets`: of the keys, by name."""

    def __init__(
        self,
        origin: Origin,
        secrets: Mapping[str, str],
        clients: Clients,
        chance: Random,
        *,
        requests_max: int | None,
        show: Show,
    ) -> None:
        self._origin = origin
        self._secrets = secrets
        self._clients = clients
        self._chance = chance
        self._requests_max = requests_max
        self._show = show
        self._transport = Transport(environ={})
        #: Nobody listens any more.
        self._is_over = False

    async def run_until(self, is_over: Callable[[], bool]) -> None:
        """The clients leave then: a gateway that stops need not wait for their answers."""
        running = asyncio.create_task(self._run())
        while not (is_over() or running.done()):
            await asyncio.wait([running], timeout=_LOOK_S)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    async def _run(self) -> None:
        """Until the gateway stops; after `requests_max` requests, where there is such a number, it stops the gateway."""
        batches = asyncio.create_task(self._batches())
        try:
            async with asyncio.TaskGroup() as asking:
                for number in count() if self._requests_max is None else range(self._requests_max):
                    if self._is_over:
                        break
                    asking.create_task(self._first() if number == 0 else self._one(self._clients.next()))
                    if number >= AT_ONCE:
                        await asyncio.sleep(self._chance.expovariate(RATE_PER_S))
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            batches.cancel()
            await self._transport.close()

    async def _first(self) -> None:
        self._show.tell(await self._ask(self._clients.first(), is_first=True), is_first=True)

    async def _one(self, asked: Asked) -> None:
        sample = await self._ask(asked)
        if self._is_over:
            return
        self._show.tell(sample)
        if sample.status == 200 and self._chance.random() < _SCORED_SHARE:
            score = msgspec.json.encode({"request_id": sample.header(b"x-request-id"), "score": self._chance.choice(_SCORES)})
            with suppress(Exception):  # what somebody thought of it is not shown here
                await self._send(Asked(asked.key, "openai_chat", "/v1/feedback", score, stream=False), time.monotonic() + ANSWER_TIMEOUT_S)

    async def _ask(self, asked: Asked, *, is_first: bool = False) -> Sample:
        sample = Sample(asked)
        begun = time.monotonic()
        until = begun + ANSWER_TIMEOUT_S
        try:
            reply = await self._send(asked, until)
            sample.status, sample.headers = reply.status, reply.headers
            while data := await reply.next(until):
                if asked.stream and sample.first_token_s is None:
                    sample.first_token_s = time.monotonic() - begun
                if is_first:
                    self._show.take(data)
        except ConnectFailed:
            self._is_over = True
        except Exception as error:
            sample.failed = f"{type(error).__name__}: {error}"
        sample.total_s = time.monotonic() - begun
        return sample

    async def _send(self, asked: Asked, until: float) -> Reply:
        lines = {
            "host": self._origin.host_header,
            "content-type": "application/json",
            "content-length": len(asked.body),
            "authorization": f"Bearer {self._secrets[asked.key]}",
            **({} if asked.session is None else {"x-session-id": asked.session}),
            **({} if asked.user is None else {"x-user-id": asked.user}),
        }
        head = "".join([f"POST {asked.target} HTTP/1.1\r\n", *(f"{name}: {value}\r\n" for name, value in lines.items()), "\r\n"])
        return await self._transport.send(self._origin, head.encode(), asked.body, connect_until=until, until=until)

    async def _batches(self) -> None:
        """One after the other, in a thread; what is wrong with one ends them, and the gateway has told why."""
        client = BatchClient(f"http://{self._origin.host_header}", self._secrets[REPORTS])
        small, large = _BATCH_ITEMS
        with suppress(Refused, Unreachable):
            for number in count():
                lines = batch(self._chance, large if number else small)
                file_id = await asyncio.to_thread(client.upload, "reviews.jsonl", lines)
                made = await asyncio.to_thread(client.create, file_id, MODEL_PATHS["openai_chat"], "24h")
                while made["status"] in ("validating", "in_progress", "finalizing"):
                    await asyncio.sleep(_BATCH_LOOK_S)
                    made = await asyncio.to_thread(client.batch, made["id"])
                if number:
                    await asyncio.sleep(_BATCH_PAUSE_S)
