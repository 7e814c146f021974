"""One webhook: what it is to be told gathers here, and goes out in its own time.

Promise: nobody waits for it, what waits for it is bounded, and what it was not told is counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import GatewayError
from agent_gateway.core.settings import AlertWebhook
from agent_gateway.core.webhook import is_open_to_others, signed
from agent_gateway.record.alerting.engine import Change
from agent_gateway.record.alerting.notice import generic, slack

#: What changes so soon after a notice was sent comes together in the next one (s).
GROUP_S = 30.0
TIMEOUT_S = 10.0
#: One notice is tried so often, and given up after some eight minutes; the wait doubles from try to try (s).
TRIES_MAX = 10
FIRST_WAIT_S = 1.0
#: Alerts that wait to be told.
WAITING_MAX = 1_000
_SLACK_HOST = "hooks.slack.com"
#: Answers by which another try may help, beside 5xx.
_PASSING = (408, 425, 429)

#: URL, body, headers and seconds; status and body. Raises `GatewayError` or `OSError`.
Post = Callable[[str, bytes, Mapping[str, str], float], Awaitable[tuple[int, bytes]]]
_log = logging.getLogger("agent_gateway.alerts")


class Webhook:
    """Belongs to the event loop. `gateway`: what it calls this gateway."""

    def __init__(self, target: AlertWebhook, post: Post, clock: Clock, gateway: str, *, first_wait_s: float = FIRST_WAIT_S) -> None:
        self.target = target
        self.sent = self.failed = self.dropped = 0
        self._place = urlsplit(target.url).netloc
        is_slack = target.format == "slack" or (target.format is None and urlsplit(target.url).hostname == _SLACK_HOST)
        self._written = slack if is_slack else generic
        self._post = post
        self._clock = clock
        self._gateway = gateway
        self._first_wait_s = first_wait_s
        #: By the alert's id, what it is now.
        self._waiting: dict[str, Change] = {}
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        if is_open_to_others(target.url):
            _log.warning("alerts are sent to %s unencrypted; use https", self._place)

    def tell(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._waiting.pop(change.alert.id, None)  # an alert that is over before it was told is told once, as over
            if len(self._waiting) >= WAITING_MAX:
                del self._waiting[next(iter(self._waiting))]
                self.dropped += 1
            self._waiting[change.alert.id] = change
        if self._waiting:
            self._news.set()
            if self._task is None:
                self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self, timeout_s: float) -> None:
        """What waits gets one more try."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        changes, self._waiting = list(self._waiting.values()), {}
        if changes:
            await self._try(changes, min(timeout_s, TIMEOUT_S))

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            changes, self._waiting = list(self._waiting.values()), {}
            try:
                await self._deliver(changes)
            except asyncio.CancelledError:
                self._waiting = {change.alert.id: change for change in changes} | self._waiting
                raise
            await asyncio.sleep(GROUP_S)

    async def _deliver(self, changes: Sequence[Change]) -> None:
        wait_s = self._first_wait_s
        for number in range(1, TRIES_MAX + 1):
            if await self._try(changes, TIMEOUT_S, is_last=number == TRIES_MAX):
                return
            await asyncio.sleep(wait_s)
            wait_s *= 2

    async def _try(self, changes: Sequence[Change], timeout_s: float, *, is_last: bool = True) -> bool:
        """Whether it is done with."""
        wall = self._clock.wall()
        body = self._written(changes, self._gateway, wall)
        try:
            status, _ = await self._post(self.target.url, body, signed(body, self.target.secret, wall), timeout_s)
        except (OSError, TimeoutError, GatewayError, ValueError) as error:
            status, said = 0, f"{type(error).__name__}: {error}"
        else:
            said = f"it answered with status {status}"
        if 200 <= status < 300:
            self.sent += 1
            return True
        if not is_last and (status == 0 or status >= 500 or status in _PASSING):
            return False
        self.failed += 1
        _log.error("%d alerts could not be told to %s: %s", len(changes), self._place, said)
        return True
