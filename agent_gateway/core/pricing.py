"""What tokens cost."""

from __future__ import annotations

from typing import Annotated

import msgspec

from agent_gateway.core.usage import Usage

Rate = Annotated[float, msgspec.Meta(ge=0)]


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """USD per million tokens, and per request on top. A cache price left out is the input price."""

    input: Rate
    output: Rate
    cache_read: Rate | None = None
    cache_write: Rate | None = None
    request: Rate = 0.0

    def cost_usd(self, usage: Usage) -> float:
        read, write = usage.cache_read, usage.cache_write
        micro = (usage.input - read - write) * self.input + usage.output * self.output
        if read:
            micro += read * (self.input if self.cache_read is None else self.cache_read)
        if write:
            micro += write * (self.input if self.cache_write is None else self.cache_write)
        return micro / 1_000_000 + self.request

    def at(self, share: float) -> Price:
        """All of it at that share."""
        read, write = (None if rate is None else rate * share for rate in (self.cache_read, self.cache_write))
        return Price(input=self.input * share, output=self.output * share, cache_read=read, cache_write=write, request=self.request * share)
