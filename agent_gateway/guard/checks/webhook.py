"""A check that an operator's own service makes.

Promise: only the configured address is ever asked; it has so long and so many bytes, and where it fails, what is configured happens.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from agent_gateway.core.errors import GatewayError
from agent_gateway.core.webhook import check_webhook, is_open_to_others, signed
from agent_gateway.guard.base import About, Action, CheckFailed, CheckSettings, Said, Side, Tools, Verdict

#: Of what is sent and of what comes back (bytes).
BODY_MAX_BYTES = 1024 * 1024

_log = logging.getLogger("agent_gateway.guard")


class Options(CheckSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: str = "webhook"
    #: What it may do at most: `block` and `mask` as it answers, or only `flag`.
    action: Literal["block", "flag"] = "block"
    url: str
    #: Signs what is sent. None: it is not signed.
    secret: str | None = None
    timeout_s: Annotated[float, Meta(gt=0, le=60)] = 1
    #: Where it does not answer: the request goes on (`open`) or gets 503 (`closed`).
    on_failure: Literal["open", "closed"] = "closed"

    def __post_init__(self) -> None:
        check_webhook(self.url, self.secret)

    def __repr__(self) -> str:
        return f"Options(kind='webhook', timeout_s={self.timeout_s}, on_failure={self.on_failure!r})"


class Asked(Struct, frozen=True):
    """What is sent. `roles` are those of `texts`, one by one."""

    texts: list[str]
    roles: list[str]
    direction: Side
    request_id: str
    model: str
    key_id: str | None


class Answered(Struct, frozen=True):
    """What comes back; with `mask`, as many texts as were sent."""

    action: Literal["allow", "flag", "mask", "block"]
    texts: list[str] | None = None


_json = msgspec.json.Encoder()
_answered = msgspec.json.Decoder(Answered)


class Check:
    Settings: ClassVar[type[Options]] = Options
    looks_at: ClassVar[Literal["whole"]] = "whole"
    sides: ClassVar[frozenset[Side]] = frozenset({"input", "output"})
    stream_max_chars: int | None = None

    def __init__(self, settings: Options, tools: Tools) -> None:
        self._settings = settings
        self._tools = tools
        if is_open_to_others(settings.url):
            _log.warning("the guard %s sends what is said to %s unencrypted; use https", settings.title, urlsplit(settings.url).netloc)

    async def judge(self, said: Sequence[Said], about: About) -> Verdict | None:
        asked = Asked([text for text, _ in said], [role for _, role in said], about.side, about.request_id, about.model, about.key_id)
        body = _json.encode(asked)
        if len(body) > BODY_MAX_BYTES:
            raise self._failed(f"{len(body)} bytes are to be sent; at most {BODY_MAX_BYTES}")
        timeout_s = min(self._settings.timeout_s, about.left_s)
        if timeout_s <= 0:
            raise self._failed("the request has no time left")
        headers = signed(body, self._settings.secret, self._tools.clock.wall())
        try:
            status, reply = await self._tools.post(self._settings.url, body, headers, timeout_s)
        except (OSError, TimeoutError, GatewayError) as error:
            raise self._failed(f"{type(error).__name__}: {error}") from None
        if status != 200 or len(reply) > BODY_MAX_BYTES:
            raise self._failed(f"status {status}, {len(reply)} bytes")
        try:
            answered = _answered.decode(reply)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self._failed(f"it answered something else: {error}") from None
        if answered.action == "allow":
            return None
        action: Action = answered.action
        if action == "mask" and (answered.texts is None or len(answered.texts) != len(said)):
            raise self._failed("with mask it has to give back as many texts as it got")
        return Verdict(action, answered.texts)

    def _failed(self, detail: str) -> CheckFailed:
        return CheckFailed(f"the webhook: {detail}", lets_pass=self._settings.on_failure == "open")
