"""How a simulated model behaves; also the configuration of a provider of kind `simulated`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Share = Annotated[float, Meta(ge=0, le=1)]
#: Up to an hour; what lasts longer is a hang.
Milliseconds = Annotated[float, Meta(ge=0, le=3_600_000)]

#: The names of the settings that each give the share of requests that go wrong in one way.
RATES = ("error_rate", "rate_limit_rate", "hang_rate", "cut_rate", "slow_rate")


class SimulatorSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request goes wrong in at most one way, so the rates together are at most 1."""

    kind: Literal["simulated"] = "simulated"
    #: Time to first token.
    ttft_ms: Milliseconds = 300
    #: 0: all tokens at once.
    tokens_per_s: Annotated[float, Meta(ge=0, le=1_000_000)] = 60
    #: Mean length of an answer, and its standard deviation as a share of the mean.
    output_tokens: Annotated[int, Meta(ge=1, le=100_000)] = 120
    output_spread: Annotated[float, Meta(ge=0, le=3)] = 0.3
    #: Sigma of the lognormal factor (of mean 1) on every wait; 0: like clockwork.
    jitter: Annotated[float, Meta(ge=0, le=3)] = 0.2
    #: Shares of requests: answered 500, 503 or 529; answered 429; never answered; cut in the middle; `slow_ms` late.
    error_rate: Share = 0
    rate_limit_rate: Share = 0
    hang_rate: Share = 0
    cut_rate: Share = 0
    slow_rate: Share = 0
    slow_ms: Milliseconds = 5000
    #: What a 429 tells the client to wait.
    retry_after_s: Annotated[float, Meta(ge=0, le=86_400)] = 1
    #: Of each so many seconds since it began, every request of the last `outage_s` is answered 503; 0: never.
    outage_every_s: Annotated[float, Meta(ge=0, le=86_400)] = 0
    outage_s: Annotated[float, Meta(ge=0, le=86_400)] = 0
    seed: int = 0

    def __post_init__(self) -> None:
        total = sum(getattr(self, name) for name in RATES)
        if total > 1 + 1e-9:
            raise ValueError(f"{', '.join(RATES)} add up to {total:g}; together they can be at most 1")
        if self.outage_every_s < self.outage_s:
            raise ValueError(f"outage_s is {self.outage_s:g}; it cannot be longer than outage_every_s, {self.outage_every_s:g}")
