"""Where a model's calls may go: the configuration of one model, compiled."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from msgspec import Struct

from agent_gateway.core.call import NO_NEEDS, Need
from agent_gateway.core.pricing import Price
from agent_gateway.core.settings import (
    Allowance,
    Batching,
    Breaker,
    Cache,
    Concurrency,
    Fallback,
    Guards,
    Hedging,
    Retries,
    Sessions,
    Streaming,
    Timeouts,
)

#: How a model is told to carry on from a text: an assistant message at the end as it is; that message with `prefix: true`;
#: or vLLM's `continue_final_message`.
Prefill = Literal["plain", "prefix", "continue_final_message"]
#: The name that an OpenAI-compatible server has for the limit on the answer's length.
OutputLimitField = Literal["max_completion_tokens", "max_tokens"]


@dataclass(frozen=True, slots=True)
class Deployment:
    """One model at one provider. `id` is `provider/model`, the name that clients and metrics see."""

    id: str
    provider: str
    model: str
    weight: float = 1.0
    price: Price | None = None
    #: Tokens of prompt and answer together; None: not known.
    context_window: int | None = None
    #: None: it cannot carry on from a text that another began.
    prefill: Prefill | None = None
    #: What it cannot take: a request that needs any of it is not planned onto it.
    lacks: frozenset[Need] = NO_NEEDS
    #: It exists on OpenAI's Responses API only.
    only_responses: bool = False
    output_limit_field: OutputLimitField = "max_completion_tokens"
    #: Parameters the client left out (`default`) and parameters it cannot change (`override`).
    default: dict[str, Any] = field(default_factory=dict)
    override: dict[str, Any] = field(default_factory=dict)


#: Holds everything that any deployment holds: what a session gives it is all that may be sent.
WIDEST = Deployment(id="", provider="", model="")


class Route(Struct, frozen=True, kw_only=True):
    """One name under `models`, with the policies that hold for it."""

    name: str
    deployments: tuple[Deployment, ...]
    strategy: str = "balanced"
    #: The strategy's own settings; None: its defaults.
    strategy_settings: Any = None
    #: Other routes' names, in order, the globally configured fallback model included.
    fallbacks: tuple[str, ...] = ()
    timeouts: Timeouts = Timeouts()
    retries: Retries = Retries()
    hedging: Hedging = Hedging()
    breaker: Breaker = Breaker()
    streaming: Streaming = Streaming()
    batching: Batching = Batching()
    fallback: Fallback = Fallback()
    sessions: Sessions = Sessions()
    concurrency: Concurrency = Concurrency()
    guards: Guards = Guards()
    cache: Cache = Cache()
    limits: Allowance = Allowance()
