"""The batch APIs and the bill as one door: from a request's path to who answers it."""

from __future__ import annotations

import random

from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import ClientLeft, GatewayError, MethodNotAllowed
from agent_gateway.protocols.base import codec_of
from agent_gateway.simulator.batches.anthropic import AnthropicBatches
from agent_gateway.simulator.batches.billing import Billing
from agent_gateway.simulator.batches.desk import BatchApi, Desk, failure
from agent_gateway.simulator.batches.gemini import GeminiBatches
from agent_gateway.simulator.batches.jobs import Jobs
from agent_gateway.simulator.batches.openai import OpenAIBatches
from agent_gateway.simulator.batches.settings import BatchSettings
from agent_gateway.simulator.batches.shelf import Shelf
from agent_gateway.simulator.exchange import Answer, Ask
from agent_gateway.simulator.faults import Fail, Hang, Slow, steered_fault
from agent_gateway.simulator.player import Sleep
from agent_gateway.simulator.simulator import Simulator

#: Ids differ from one run to the next, whatever its seed: a client may still know those of the last.
_random = random.SystemRandom()


class BatchApis:
    def __init__(self, simulator: Simulator, billing: Billing, settings: BatchSettings, clock: Clock, sleep: Sleep) -> None:
        self._sleep = sleep

        def desk(*, is_all_or_nothing: bool = False) -> Desk:
            jobs = Jobs(simulator, billing, settings, clock, sleep, is_all_or_nothing=is_all_or_nothing)
            return Desk(jobs, Shelf(), clock, _new_id)

        #: OpenAI and Google have some paths in common; how the key is shown says whose is meant.
        self._apis: tuple[BatchApi, ...] = (
            OpenAIBatches(desk()),
            AnthropicBatches(desk()),
            GeminiBatches(desk(is_all_or_nothing=True)),
        )

    async def answer(self, ask: Ask) -> Answer | None:
        """None: no batch API has the path."""
        for api in reversed(self._apis) if ask.has_google_key else self._apis:
            routes = [(route, match) for route in api.routes if (match := route.path.fullmatch(ask.path))]
            if not routes:
                continue
            try:
                if (refused := await self._steered(ask, api)) is not None:
                    return refused
                for route, match in routes:
                    if route.method == ask.method:
                        return await route.handler(ask, *match.groups())
                raise MethodNotAllowed(f"{ask.path} takes {' or '.join([route.method for route, _ in routes])}.")
            except ClientLeft:
                raise
            except GatewayError as error:
                return Answer(error.status, codec_of(api.dialect).write_error(error, _new_id(24)))
        return None

    async def _steered(self, ask: Ask, api: BatchApi) -> Answer | None:
        """A key that names a fault of live calls makes these fail too."""
        match steered_fault(ask.key):
            case Fail(status):
                return failure(status, api.dialect)
            case Hang(after_frames=None):
                await ask.departure()
                raise ClientLeft("The client would wait no longer.")
            case Slow(milliseconds):
                await self._sleep(milliseconds / 1000)
            case _:
                pass
        return None


def _new_id(digits: int) -> str:
    return f"{_random.getrandbits(4 * digits):0{digits}x}"
