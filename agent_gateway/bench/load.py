"""What a load test asks for: how often, for how long, and of which size."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from agent_gateway.core.call import MODEL_PATHS
from agent_gateway.core.pricing import Price

Mode = Literal["unary", "stream", "batch"]
Arrivals = Literal["poisson", "even"]

Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]

#: Under way at once, where no number is given: users of a closed loop; the bound of an open one.
USERS = 16
IN_FLIGHT_MAX = 10_000


class Load(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`rate`: requests a second, sent whether those before them are back or not (an open loop). None: each user asks again as soon as
    it has its answer (a closed loop).
    """

    url: str
    model: str
    mode: Mode = "unary"
    rate: Seconds | None = None
    #: Times between the requests of an open loop: random as independent users make them, or all the same.
    arrivals: Arrivals = "poisson"
    #: Users of a closed loop; in an open one the most that are under way at once.
    concurrency: Count
    #: How long it is measured, after the time that is not.
    duration_s: Seconds = 30
    warm_up_s: Annotated[float, Meta(ge=0)] = 5
    #: The users of a closed loop begin one after the other over this time, which is part of the warm-up.
    ramp_s: Annotated[float, Meta(ge=0)] = 0
    #: About so long a prompt, and at most so long an answer.
    prompt_tokens: Count = 200
    output_tokens: Count = 100
    #: Requests in one `POST /v1/batch`.
    batch_size: Annotated[int, Meta(ge=1, le=1000)] = 50
    #: Questions of one conversation, which the gateway remembers (`x-session-id`); 1: each request stands for itself.
    turns: Count = 1
    timeout_s: Seconds = 120
    #: For what the answer itself does not say: the cost of a stream.
    price: Price | None = None
    seed: int = 0

    @property
    def path(self) -> str:
        return "/v1/batch" if self.mode == "batch" else MODEL_PATHS["openai_chat"]

    @property
    def requests_each(self) -> int:
        """Requests to a model in one request to the gateway."""
        return self.batch_size if self.mode == "batch" else 1
