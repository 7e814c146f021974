"""How long simulated batches take, and what the simulated provider bills."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from agent_gateway.core.pricing import Price
from agent_gateway.simulator.settings import Milliseconds

#: What a batch costs, as a share of the price of live calls: so it is at OpenAI, Anthropic and Google.
BATCH_PRICE_SHARE = 0.5

#: Per million tokens.
Usd = Annotated[float, Meta(ge=0, le=1_000_000)]


class BatchSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    #: From a batch's making to its end; its items are answered evenly in between.
    batch_ms: Milliseconds = 3000
    #: Of live calls.
    price_input: Usd = 0.15
    price_output: Usd = 0.6

    @property
    def price(self) -> Price:
        return Price(self.price_input, self.price_output)
