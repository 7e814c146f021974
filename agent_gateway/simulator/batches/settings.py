"""How long simulated batches take, and what the simulated provider bills."""

from __future__ import annotations

from msgspec import Struct

from agent_gateway.core.pricing import Price, Rate
from agent_gateway.simulator.settings import Milliseconds

#: What a batch costs, as a share of the price of live calls: so it is at OpenAI, Anthropic and Google.
BATCH_PRICE_SHARE = 0.5


class BatchSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    #: From a batch's making to its end; its items are answered evenly in between.
    batch_ms: Milliseconds = 3000
    #: USD per million tokens, of live calls.
    price_input: Rate = 0.15
    price_output: Rate = 0.60

    @property
    def price(self) -> Price:
        return Price(self.price_input, self.price_output)
