"""Every way a provider fails, as a table: what it does, what the gateway calls it, and how often it is worth another try."""

from __future__ import annotations

from dataclasses import dataclass

from tests.kit import replies, samples
from tests.kit.chains import ATTEMPT_S, CONNECT_S, FIRST_TOKEN_S, IDLE_S
from tests.kit.provider import Peer, Script

FRAMES = samples.text_frames(["Hel", "lo", "!"])
BEGUN = FRAMES[:2]
_HALF = samples.COMPLETION[:300]
_JSON_HEAD = replies.head(200, {"content-type": "application/json", "content-length": str(len(samples.COMPLETION))})
_SSE_HEAD = replies.head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
_STATUS_LINE = b"HTTP/1.1 200 OK\r\n"
_ERROR = {"message": "secret of the provider", "type": "server_error", "code": "boom"}
_ERROR_FRAME = samples.sse({"error": _ERROR})
_EMPTY_COMPLETION = samples.COMPLETION.replace(b'"content": "I am', b'"content": "", "was": "I am')
_HTML = b"<html>secret</html>"
_TORN = b'data: {"id":"chatcmpl-1","choices":[{"index":0,"del\n\n'
_NOT_UTF8 = b"data: \xff\xfe{]\n\n"
_MEGABYTE = 1 << 20
#: Over the bound of one event.
_HUGE = samples.sse(samples.delta({"content": "a" * (17 * _MEGABYTE)}))


@dataclass(frozen=True, slots=True)
class Fault:
    script: Script
    #: What the gateway calls it, and the status of a client that gets no fixed reply.
    code: str
    status: int = 502
    #: Calls that are made when every deployment has it: two candidates, and one repeat where that may help.
    calls: int = 3
    #: How long one call lasts (s), and how long the provider wants to be left alone before the repeat.
    lasts_s: float = 0
    pause_s: float = 0
    #: Of the provider's own reply, where it gave one.
    provider_status: int | None = None
    #: Where its deployments are, and whether a call reaches the provider's script.
    provider: str = "scripted"
    heard: bool = True
    #: The client is told to wait so long (s), where it gets the error.
    retry_after: str | None = None


def _answers(status: int, headers: dict[str, str] | None = None) -> Script:
    return replies.whole(samples.error_body("secret", "boom", "server_error"), status=status, headers=headers)


def _timeout(script: Script, lasts_s: float, provider_status: int | None = None) -> Fault:
    return Fault(script, "provider_timeout", 504, lasts_s=lasts_s, provider_status=provider_status)


def _malformed(script: Script, calls: int = 3) -> Fault:
    return Fault(script, "provider_malformed_reply", provider_status=200, calls=calls)


#: Those that no byte of a reply tells apart.
_ANY = {
    "refuse": Fault(replies.hang, "provider_unreachable", provider="closed", heard=False),
    "untrusted certificate": Fault(replies.hang, "provider_tls_failed", provider="untrusted", heard=False),
    "certificate of another host": Fault(replies.hang, "provider_tls_failed", provider="misnamed", heard=False),
    "unknown host": Fault(replies.hang, "provider_name_not_resolved", provider="unknown", heard=False, lasts_s=CONNECT_S),
    "cut in the headers": Fault(replies.raw(_STATUS_LINE + b"content-", end="cut"), "provider_connection_cut"),
    "429": Fault(_answers(429), "provider_rate_limited", 429, pause_s=1, provider_status=429, retry_after="1"),
    "429, wait 1 s": Fault(
        _answers(429, {"retry-after": "1"}), "provider_rate_limited", 429, pause_s=1, provider_status=429, retry_after="1"
    ),
    "429, wait 30 s": Fault(
        _answers(429, {"retry-after": "30"}), "provider_rate_limited", 429, calls=2, provider_status=429, retry_after="30"
    ),
    "500": Fault(_answers(500), "provider_error", provider_status=500),
    "503": Fault(_answers(503), "provider_error", provider_status=503),
    "529": Fault(_answers(529), "provider_error", provider_status=529),
    "our key refused": Fault(_answers(401), "provider_key_refused", calls=2, provider_status=401),
    "200 with an error body": Fault(
        replies.whole(samples.error_body("secret", "boom", "server_error")), "provider_error", provider_status=200
    ),
}

UNARY: dict[str, Fault] = {
    **_ANY,
    "accept and hang": _timeout(replies.hang, ATTEMPT_S),
    "slow headers": _timeout(replies.raw(_STATUS_LINE + b"x-slow: " + b"a" * 200, sizes=1, gap_s=0.05, end="hang"), ATTEMPT_S),
    "slow first token": _timeout(replies.raw(_JSON_HEAD + samples.COMPLETION, sizes=40, gap_s=0.2, end="hang"), ATTEMPT_S, 200),
    "stall": _timeout(replies.raw(_JSON_HEAD + _HALF, end="hang"), ATTEMPT_S, 200),
    "cut": Fault(replies.raw(_JSON_HEAD + _HALF, end="cut"), "provider_connection_cut", provider_status=200),
    "truncated JSON": _malformed(replies.whole(_HALF)),
    "empty stream": _malformed(replies.whole(b"")),
    "empty content": Fault(replies.whole(_EMPTY_COMPLETION), "quality", calls=2, provider_status=200),
    "the other kind of answer": _malformed(replies.stream(FRAMES)),
    "wrong content type": _malformed(replies.whole(_HTML, content_type="text/html")),
}

BEFORE_CONTENT: dict[str, Fault] = {
    **_ANY,
    "accept and hang": _timeout(replies.hang, FIRST_TOKEN_S),
    "slow headers": _timeout(replies.raw(_STATUS_LINE + b"x-slow: " + b"a" * 200, sizes=1, gap_s=0.05, end="hang"), FIRST_TOKEN_S),
    "slow first token": _timeout(replies.stream(FRAMES[:1], then=replies.later(FIRST_TOKEN_S * 4, replies.hang)), FIRST_TOKEN_S, 200),
    "stall": _timeout(replies.stream([b": processing\n\n"] * 100, gap_s=0.05), FIRST_TOKEN_S, 200),
    "cut": Fault(replies.stream(FRAMES[:1], then=replies.cut), "provider_connection_cut", provider_status=200),
    "truncated JSON": _malformed(replies.stream([FRAMES[0], _TORN])),
    "malformed SSE": _malformed(replies.stream([_NOT_UTF8])),
    "garbage in the framing": _malformed(replies.raw(_SSE_HEAD + b"zz\r\nhello\r\n", end="hang")),
    "error event": Fault(replies.stream([FRAMES[0], _ERROR_FRAME]), "provider_error", provider_status=200),
    "empty stream": Fault(replies.stream([]), "provider_empty_reply", provider_status=200),
    "only the end": Fault(replies.stream([samples.DONE]), "provider_empty_reply", provider_status=200),
    "empty content": Fault(replies.stream([FRAMES[0], *FRAMES[-2:]]), "quality", calls=2, provider_status=200),
    "the other kind of answer": _malformed(replies.whole(samples.COMPLETION)),
    "wrong content type": _malformed(replies.whole(b"".join(FRAMES), content_type="text/html")),
}

#: An event over the bound; apart from the others, for it is a lot of work.
OVERSIZE = _malformed(replies.stream([_HUGE]))


def _breaks(code: str, script: Script, status: int = 502, lasts_s: float = 0) -> Fault:
    return Fault(script, code, status, calls=1, lasts_s=lasts_s, provider_status=200)


_CUT, _MALFORMED = "provider_connection_cut", "provider_malformed_reply"


async def _nothing_more(peer: Peer) -> None:
    await peer.send(replies.LAST_CHUNK)


async def _half_and_nothing_more(peer: Peer) -> None:
    await peer.send(replies.chunk(FRAMES[2][:40]) + replies.LAST_CHUNK)


#: What happens to a stream when the client has its beginning, `BEGUN`.
AFTER_CONTENT: dict[str, Fault] = {
    "stall": _breaks("provider_timeout", replies.hang, 504, IDLE_S),
    "cut": _breaks(_CUT, replies.cut),
    "cut inside an event": _breaks(_CUT, replies.raw(replies.chunk(FRAMES[2][:40]), end="cut")),
    "closed": _breaks(_CUT, replies.raw(b"")),
    "ended without an end": _breaks(_MALFORMED, _nothing_more),
    "ended inside an event": _breaks(_MALFORMED, _half_and_nothing_more),
    "truncated JSON": _breaks(_MALFORMED, replies.raw(replies.chunk(_TORN), end="hang")),
    "malformed SSE": _breaks(_MALFORMED, replies.raw(replies.chunk(_NOT_UTF8), end="hang")),
    "garbage in the framing": _breaks(_MALFORMED, replies.raw(b"zz\r\nhello\r\n", end="hang")),
    "error event": _breaks("provider_error", replies.raw(replies.chunk(_ERROR_FRAME), end="hang")),
    "17 MB event": _breaks(_MALFORMED, replies.raw(replies.chunk(_HUGE), end="hang")),
}
