"""One request's story, from the edge to its record; the only mutable thing on the path."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable
from typing import Any, Literal, Protocol

from msgspec import Struct

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.delta import Delta
from agent_gateway.core.errors import ClientLeft, GatewayError, InternalError, ShuttingDown
from agent_gateway.core.plan import Plan
from agent_gateway.core.pricing import Price
from agent_gateway.core.route import Deployment, Route
from agent_gateway.core.usage import Usage

Status = Literal["success", "fallback", "degraded", "cached", "error", "cancelled"]
#: `native`: a provider's own batch, whose time says nothing of anybody's speed.
Edge = Literal["http", "websocket", "batch", "native"]
#: Writes frames to the client at once; False: it is slow to take them, so that what follows has to wait for it the usual way.
Tap = Callable[[bytes], bool]


class Reservation(Protocol):
    """What admission has set aside for a request, until it is known what it used. Both may be called again and do nothing then."""

    def release(self) -> None:
        """It runs no more."""

    def settle(self, tokens: int, cost_usd: float) -> None:
        """What it used in the end, of every attempt; 0 where nothing is known of it."""

    def lines(self, dialect: Dialect) -> str:
        """How much is left now, as response headers of the client's protocol."""


class Hold(Protocol):
    """Memory that is set aside for a request's body."""

    def release(self) -> None:
        """Idempotent."""


class Attempt(Struct):
    """One call of one deployment. Times are monotonic seconds."""

    deployment: str
    started: float
    #: When the request was sent on a connection; None while connecting.
    connected: float | None = None
    first_byte: float | None = None
    first_token: float | None = None
    ended: float | None = None
    #: `success`, `cancelled`, or the code of the error.
    outcome: str | None = None
    provider_status: int | None = None
    error_detail: str | None = None
    usage: Usage | None = None
    cost_usd: float | None = None
    #: Of the deployment; with it the recorder bills what is found out only later (the tokens of a cut stream). None: not known.
    price: Price | None = None
    #: Until it began, the request had waited for room so long in all (s).
    queued_s: float = 0.0
    #: The call was made once for so many requests, and this is one's part of it (`upstream/merging.py`).
    shared_by: int = 1


class Exchange(Struct):
    # Set at the edge, then never again.
    id: str
    call: Call
    started: float  # monotonic
    started_wall: float
    client_request_id: str | None = None
    key: Any = None
    session: str | None = None
    #: Set by a session: the call with as much of its memory as a deployment's context holds. What was sent stays in `call`.
    fit: Callable[[Deployment], Call] | None = None
    #: The client's own bound on the whole request, from `x-gateway-timeout-s`.
    timeout_s: float | None = None
    edge: Edge = "http"
    #: False: neither answered from the cache nor kept in it (`x-gateway-cache: no-store`).
    uses_cache: bool = True

    #: Of an edge that can write at any time: text of a stream that nothing looks at may go out by it, past the stages
    #: (docs/decisions/0006). A stage that has to see every event sets it to None.
    tap: Tap | None = None

    #: Of its body, until it ends.
    hold: Hold | None = None

    # Grown by the stages.
    reservation: Reservation | None = None
    route: Route | None = None
    plan: Plan | None = None  # who might answer, in their order
    deadline: float = 0.0  # monotonic; every network await is under it
    attempts: list[Attempt] = []
    queued_s: float = 0.0  # waited for room at a deployment, or for another's answer to the same request
    deployment: str | None = None  # the one that answered
    reason: str | None = None  # why not `success`
    usage: Usage | None = None
    cost_usd: float | None = None
    #: What an answer from the cache had cost when it was made.
    saved_usd: float = 0.0
    finish_reason: str | None = None
    quality: float | None = None
    #: What guards did, each once: the check, and `block`, `mask`, `flag` or, of one that could not be made, `failed`.
    guards: tuple[tuple[str, str], ...] = ()
    #: The answer as it was sent, made into text by the recorder: OpenAI chat's SSE frames or JSON body, or deltas.
    answer: list[bytes | Delta] = []
    answer_bytes: int = 0
    #: What the recorder has read of the answer so far (its own type; see protocols/transcript.py), and how many of its bytes that was:
    #: a long stream does not keep its frames.
    transcript: object | None = None
    compacted_bytes: int = 0

    # The end.
    status: Status | None = None
    #: What the client got: the edge sets it as the head of a stream goes out; until then it is what the end would show.
    http_status: int = 0
    error: GatewayError | None = None
    #: Set by the edge before it cancels.
    client_left: bool = False
    #: The client has all of a stream: whether it stays for the end of the body means nothing any more.
    answered: bool = False
    first_token: float | None = None
    ended: float | None = None

    def why(self, raised: BaseException) -> GatewayError:
        """What has ended the work on it, as clients and records are told."""
        if isinstance(raised, GatewayError):
            return raised
        if not isinstance(raised, CancelledError | GeneratorExit):
            return InternalError("The gateway failed.", detail=repr(raised))
        if self.client_left:
            return ClientLeft("The client closed the connection.")
        return ShuttingDown("The gateway was stopped before the answer was complete.")

    def end(self, error: GatewayError | None, now: float) -> None:
        """What became of it: called once, when nothing more will happen."""
        self.ended = now
        if self.reservation is not None:
            self.reservation.release()
        if self.hold is not None:
            self.hold.release()
        if self.answered and isinstance(error, ClientLeft):
            error = None
        self.error = error or self.error
        if self.error is None:
            self.http_status = 200
        elif isinstance(self.error, ClientLeft):
            self.status, self.http_status = "cancelled", ClientLeft.status
        else:
            self.status = "error"
            self.http_status = self.http_status or self.error.shown_status
            self.reason = self.error.code
