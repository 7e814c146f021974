"""The one error tree: each class fixes its status, code, whose fault it is and whether another try may help.

`message` is shown to the client and is always text of ours; `detail` (what a socket or a provider said) goes to records only.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from agent_gateway.core.call import Dialect

Fault = Literal["client", "provider", "gateway"]
TimeoutKind = Literal["connect", "first_token", "idle", "attempt", "total"]


class GatewayError(Exception):
    """Root of every error that is the world's, not a bug of ours."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    type: ClassVar[str] = "server_error"
    fault: ClassVar[Fault] = "gateway"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
        detail: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.detail = detail

    @property
    def shown_status(self) -> int:
        """What the client gets, where no head has gone out before."""
        return self.status


class InternalError(GatewayError):
    """A bug of ours, after it has been logged; the client learns nothing but that."""


class Overloaded(GatewayError):
    status = 503
    code = "overloaded"
    type = "overloaded_error"


class ShuttingDown(Overloaded):
    code = "shutting_down"


class StoreDown(GatewayError):
    status = 503
    code = "store_down"


class GuardFailed(GatewayError):
    """A check that must be made could not be; `param` names it."""

    status = 503
    code = "guard_failed"


class StreamLost(GatewayError):
    """The process that made an answer is gone, and the rest of the answer with it."""

    status = 503
    code = "stream_lost"


# --- the client's -----------------------------------------------------------------------------------------------------


class ClientError(GatewayError):
    status = 400
    code = "bad_request"
    type = "invalid_request_error"
    fault: ClassVar[Fault] = "client"


class BadRequest(ClientError):
    """The request cannot be understood or is not allowed by its protocol; `param` names the field."""


class PreviousResponseNotFound(BadRequest):
    """Of the responses that a request goes on from, one is not there: unknown, expired, deleted or another owner's."""

    code = "previous_response_not_found"


class ConversationLocked(BadRequest):
    """Another answer is being made in the conversation."""

    code = "conversation_locked"


class NotCapable(BadRequest):
    """No deployment that may answer takes what the request holds (images, tools, a JSON schema, …)."""

    code = "not_supported_by_model"


class Unauthenticated(ClientError):
    status = 401
    code = "invalid_api_key"
    type = "authentication_error"


class Forbidden(ClientError):
    status = 403
    code = "forbidden"
    type = "permission_error"


class NotFound(ClientError):
    status = 404
    code = "not_found"


class EventsGone(NotFound):
    """Of a stream that is taken up again, those that come next are not kept any more."""

    code = "events_gone"


class UnknownModel(NotFound):
    code = "model_not_found"


class MethodNotAllowed(ClientError):
    status = 405
    code = "method_not_allowed"


class RequestTimeout(ClientError):
    """The client took too long to send its request."""

    status = 408
    code = "request_timeout"
    type = "timeout_error"


class Conflict(ClientError):
    status = 409
    code = "conflict"


class TooLarge(ClientError):
    status = 413
    code = "request_too_large"


class UnsupportedMedia(ClientError):
    status = 415
    code = "unsupported_media_type"


class Unprocessable(ClientError):
    status = 422
    code = "unprocessable"


class RateLimited(ClientError):
    """`param` names the limit; `limit_lines` are the headers that tell how all of them stand."""

    status = 429
    code = "rate_limit_exceeded"
    type = "rate_limit_error"
    limit_lines = ""


class BudgetSpent(RateLimited):
    """`retry_after_s` is until its next period begins; None: it has none."""

    code = "budget_exceeded"


class GuardRefused(ClientError):
    """What was asked, or what the model answered, is not let through; `param` names the check."""

    code = "guard_refused"


class HeadersTooLarge(ClientError):
    status = 431
    code = "headers_too_large"


class ClientLeft(ClientError):
    """Never sent, only recorded."""

    status = 499
    code = "client_left"


class ResponseCancelled(ClientLeft):
    """The client has had its background response cancelled."""

    code = "response_cancelled"


# --- the provider's ---------------------------------------------------------------------------------------------------


class ProviderError(GatewayError):
    """One attempt at one deployment failed."""

    status = 502
    code = "provider_failed"
    type = "provider_error"
    fault: ClassVar[Fault] = "provider"
    retryable = True

    #: The provider's own status, where it gave one.
    provider_status: int | None = None


class ConnectFailed(ProviderError):
    code = "provider_unreachable"


class NameNotResolved(ConnectFailed):
    code = "provider_name_not_resolved"


class TlsFailed(ConnectFailed):
    code = "provider_tls_failed"


class ProviderTimeout(ProviderError):
    status = 504
    code = "provider_timeout"
    type = "timeout_error"

    def __init__(self, message: str, *, kind: TimeoutKind, detail: str | None = None) -> None:
        super().__init__(message, detail=detail)
        self.kind: TimeoutKind = kind


class NoConnectionFree(ProviderError):
    """Too many requests wait for a connection to this provider already; it was not asked."""

    status = 503
    code = "provider_connections_exhausted"
    type = "overloaded_error"


class ConnectionCut(ProviderError):
    """The connection ended before the reply did."""

    code = "provider_connection_cut"


class MalformedReply(ProviderError):
    """Bytes that are not the protocol: bad HTTP, bad JSON, bad SSE, a wrong content type, a body over its bound."""

    code = "provider_malformed_reply"


class EmptyReply(ProviderError):
    code = "provider_empty_reply"


class LowQuality(ProviderError):
    """A complete answer that the quality check rejected; `answer` is kept, for when nothing better comes."""

    code = "quality"

    def __init__(self, message: str, *, answer: object | None = None, detail: str | None = None) -> None:
        super().__init__(message, detail=detail)
        self.answer = answer


class ProviderFault(ProviderError):
    """5xx, 529, 408, 409, or an error body under a 200."""

    code = "provider_error"


class ProviderRateLimited(ProviderError):
    status = 429
    code = "provider_rate_limited"
    type = "rate_limit_error"


class ProviderKeyRefused(ProviderError):
    """401 or 403: the key that the gateway holds was refused. The operator must act, the client cannot."""

    code = "provider_key_refused"


class ProviderModelMissing(ProviderError):
    """404: the provider has no such model (any more). As with a refused key, the operator must act."""

    code = "provider_model_missing"


class NotExpressible(ProviderError):
    """The protocol of this provider has no way to say what the client asked for; it was not asked, and another may be able to."""

    status = 400
    code = "not_supported_by_provider"
    type = "invalid_request_error"
    fault: ClassVar[Fault] = "client"


class ProviderRefusedRequest(ProviderError):
    """The provider found the request itself wrong (400, 404, 413, 422): the client gets the provider's own words, never a retry.

    `body` is told in `dialect` and can be passed on only to a client that speaks it; all others get what it says in `message`.
    """

    status = 400
    code = "provider_refused_request"
    type = "invalid_request_error"
    fault: ClassVar[Fault] = "client"
    retryable = False

    def __init__(
        self,
        message: str,
        *,
        status: int,
        body: bytes,
        content_type: str,
        dialect: Dialect | None = None,
        detail: str | None = None,
    ) -> None:
        super().__init__(message, detail=detail)
        self.provider_status = status
        self.body = body
        self.content_type = content_type
        self.dialect = dialect

    @property
    def passed_on(self) -> bool:
        """The body is an error object, as all protocols have it: shown as it stands, with its status, to a client of its `dialect`."""
        return bool(self.provider_status) and _is_error_object(self.body)

    @property
    def shown_status(self) -> int:
        return self.provider_status if self.provider_status and self.passed_on else self.status


class ContextTooLong(ProviderRefusedRequest):
    """Another deployment with a larger window may still take it."""

    code = "context_length_exceeded"
    retryable = True


class ContentFiltered(ProviderRefusedRequest):
    code = "content_filter"


class _Message(msgspec.Struct):
    message: str


class _ErrorObject(msgspec.Struct):
    error: _Message


def _is_error_object(body: bytes) -> bool:
    try:
        msgspec.json.decode(body, type=_ErrorObject)
    except msgspec.MsgspecError:
        return False
    return True
