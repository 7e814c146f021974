"""From a request's head and body to an `Exchange`: who asks, for what, and which headers matter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import get_args

from msgspec import Struct, structs

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.clock import Clock, new_request_id
from agent_gateway.core.errors import BadRequest, UnsupportedMedia
from agent_gateway.core.exchange import Exchange
from agent_gateway.protocols.base import codec_of
from agent_gateway.session.identity import checked_session, checked_user, session_in

#: Of the client's headers, only these go on to the provider.
FORWARDED = (b"traceparent", b"tracestate", b"openai-beta", b"anthropic-version", b"anthropic-beta")
#: Where a key may stand, looked for in this order.
KEY_HEADERS = (b"x-api-key", b"api-key", b"x-goog-api-key")
#: What a request may say only once.
ONCE = (b"host", b"authorization", *KEY_HEADERS, b"content-length", b"content-type", b"content-encoding", b"x-session-id", b"x-user-id")
#: A client's own request id is kept up to this length.
CLIENT_ID_MAX_LENGTH = 128

_UNREAD: dict[Dialect, Call] = {dialect: Call(dialect=dialect, model="", body=b"") for dialect in get_args(Dialect)}

Headers = Mapping[bytes, bytes]
"""Lower-case names; of repeated ones the last."""


class Head(Struct, frozen=True):
    """What the headers of a request say to the gateway."""

    #: The key that is shown.
    secret: bytes | None = None
    accept_encoding: bytes | None = None
    timeout: bytes | None = None
    #: What it says of the cache.
    cache: bytes | None = None
    client_request_id: str | None = None
    session: str | None = None
    user: str | None = None
    #: What it says of taking up again the stream that is asked for.
    resumption: bytes | None = None
    #: What goes on to the provider.
    forward: dict[str, str] = {}

    @property
    def resumable(self) -> bool:
        return self.resumption is not None and self.resumption.lower() == b"true"


def read_head(headers: Headers) -> Head:
    client_id = headers.get(b"x-request-id")
    session = headers.get(b"x-session-id")
    user = headers.get(b"x-user-id")
    return Head(
        secret=_secret(headers),
        accept_encoding=headers.get(b"accept-encoding"),
        timeout=headers.get(b"x-gateway-timeout-s"),
        cache=headers.get(b"x-gateway-cache"),
        client_request_id=client_id.decode("latin-1")[:CLIENT_ID_MAX_LENGTH] if client_id else None,
        session=session.decode("latin-1") if session else None,
        user=user.decode("latin-1") if user else None,
        resumption=headers.get(b"x-gateway-resumable"),
        forward={name.decode(): headers[name].decode("latin-1") for name in FORWARDED if name in headers},
    )


def new_exchange(head: Head, clock: Clock, dialect: Dialect = "openai_chat") -> Exchange:
    """An exchange that begins now; its call is not read yet, but for the protocol in which it is answered."""
    wall = clock.wall()
    return Exchange(
        id=new_request_id(wall),
        call=_UNREAD[dialect],
        started=clock.monotonic(),
        started_wall=wall,
        client_request_id=head.client_request_id,
        session=head.session,
    )


def read_into(exchange: Exchange, head: Head, body: bytes, url: str = "") -> None:
    """Parses the body. `url` as it stands in the request's first line: some protocols say things there. Raises `BadRequest`."""
    read_wishes(exchange, head)
    call = codec_of(exchange.call.dialect).read_call(body, head.forward, url)
    exchange.call = call if head.user is None else structs.replace(call, user=checked_user(head.user))
    exchange.session = session_in(body) if head.session is None else checked_session(head.session, "x-session-id")


def read_wishes(exchange: Exchange, head: Head) -> None:
    """What the headers ask of the gateway itself. Raises `BadRequest`."""
    if head.timeout is not None:
        exchange.timeout_s = timeout_of(head.timeout)
    if head.cache is not None:
        exchange.uses_cache = uses_cache(head.cache)
    if head.resumption is not None and head.resumption.lower() not in (b"true", b"false"):
        shown = head.resumption[:32].decode("latin-1")
        raise BadRequest(f"x-gateway-resumable: {shown!r} is not known; send true, or leave it out.", param="x-gateway-resumable")


def _secret(headers: Headers) -> bytes | None:
    authorization = headers.get(b"authorization")
    if authorization is not None:
        scheme, _, secret = authorization.partition(b" ")
        return secret.strip() if scheme.lower() == b"bearer" else None
    for name in KEY_HEADERS:
        if name in headers:
            return headers[name].strip()
    return None


def check_media(headers: Headers) -> None:
    """Raises `UnsupportedMedia`: what a web page may send to other sites unasked (text, forms) is no request to a model."""
    value = headers.get(b"content-type")
    if not value:
        return
    media = value.partition(b";")[0].strip().lower()
    if media != b"application/json" and not (media.startswith(b"application/") and media.endswith(b"+json")):
        shown = media[:64].decode("latin-1")
        raise UnsupportedMedia(f"content-type: {shown!r} is not supported; send application/json.", param="content-type")


def check_framing(pairs: Collection[tuple[bytes, bytes]], headers: Headers) -> None:
    """`pairs`: the headers as they came. Raises `BadRequest` for what another on the way may have understood otherwise."""
    encoding = headers.get(b"transfer-encoding")
    if encoding is not None and encoding.strip().lower() != b"chunked":
        raise BadRequest("transfer-encoding: only chunked is taken.", param="transfer-encoding")
    if len(pairs) != len(headers):
        counts = Counter(name for name, _ in pairs)
        for name in ONCE:
            if counts[name] > 1:
                raise BadRequest(f"{name.decode()}: this header is there {counts[name]} times; send it once.", param=name.decode())


def body_length(headers: Headers) -> int | None:
    """The announced length; None when there is none."""
    value = headers.get(b"content-length")
    if value is None:
        return None
    if not value.strip().isdigit():
        raise BadRequest("content-length: expected a number of bytes.", param="content-length")
    return int(value)


def uses_cache(value: bytes) -> bool:
    """`x-gateway-cache`: false. Raises `BadRequest` for what is no word of its."""
    if value.strip().lower() != b"no-store":
        shown = value[:32].decode("latin-1")
        raise BadRequest(f"x-gateway-cache: {shown!r} is not known; send no-store, or leave it out.", param="x-gateway-cache")
    return False


def timeout_of(value: bytes) -> float:
    """`x-gateway-timeout-s`. Raises `BadRequest`."""
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise BadRequest(
            f"x-gateway-timeout-s: {value[:32].decode('latin-1')!r} is not a number of seconds above 0.", param="x-gateway-timeout-s"
        )
    return seconds
