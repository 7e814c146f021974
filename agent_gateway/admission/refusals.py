"""Who was refused, and from where: counted by the minute for the audit log, and who shows wrong keys all the time has to wait.

Promise: whatever is sent, a minute takes a bounded amount of memory and makes a bounded number of entries.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, ip_address, ip_network

from msgspec import Struct

from agent_gateway.core.clock import SYSTEM_CLOCK, Clock
from agent_gateway.core.errors import Forbidden, GatewayError, RateLimited, Unauthenticated

#: A minute: how long refusals are gathered into one entry, and how long who showed too many wrong keys has to wait (s).
MINUTE_S = 60.0
#: Keys refused to one source within a minute; any more that are not known here are not looked up.
REFUSED_KEYS_MAX = 30
#: Sources and reasons told apart within a minute; all others are counted together.
ENTRIES_MAX = 500
OTHERS = "other"
#: The reason of requests that were refused because so many before them were.
TOO_MANY = "too_many_refused_keys"
#: Who has one IPv6 address has as many as a network of this size holds.
_IPV6_PREFIX = 64

_log = logging.getLogger("agent_gateway.admission")


class RefusedAccess(Struct, frozen=True):
    """What one source was refused for one reason within a minute. Times are Unix seconds."""

    source: str
    #: The code of the error, or `TOO_MANY`.
    reason: str
    count: int
    first_at: float
    last_at: float


HandOn = Callable[[Sequence[RefusedAccess]], Awaitable[None]]


class Refusals:
    """One a process. `hand_on` is given what a minute brought, once it is over and at the end."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK, hand_on: HandOn | None = None) -> None:
        self._clock = clock
        self._hand_on = hand_on
        # Of the minute that began with its first refusal.
        self._entries: dict[tuple[str, str], list[float]] = {}
        self._refused_keys: dict[str, int] = {}
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._handing_on: set[asyncio.Task[None]] = set()

    def count(self, error: GatewayError, source: Callable[[], str], *, key_shown: bool) -> None:
        """Of all errors, those that refuse access. `source` is only asked for them."""
        if isinstance(error, Unauthenticated | Forbidden):
            self._turn_over()
            address = source()
            self._add(address, error.code)
            if key_shown and isinstance(error, Unauthenticated):
                self._add_refused_key(address)

    def check(self, source: str) -> None:
        """Before a key that is not known is looked up. Raises `RateLimited` where too many from there were refused within the minute."""
        if not self._refused_keys:
            return
        self._turn_over()
        if self._refused_keys.get(_network(source), 0) >= REFUSED_KEYS_MAX:
            self._add(source, TOO_MANY)
            raise RateLimited(
                f"{REFUSED_KEYS_MAX} keys from your address were refused within a minute. Try again later.",
                retry_after_s=self._until - self._clock.monotonic(),
            )

    async def close(self) -> None:
        """Hands on what there is, and waits until all is taken."""
        self._end_minute()
        if self._handing_on:
            await asyncio.wait(self._handing_on)

    def _add(self, source: str, reason: str) -> None:
        key = (source, reason)
        if key not in self._entries and len(self._entries) >= ENTRIES_MAX:
            key = (OTHERS, reason)
        now = self._clock.wall()
        entry = self._entries.setdefault(key, [0, now, now])
        entry[0] += 1
        entry[2] = now

    def _add_refused_key(self, source: str) -> None:
        """Of this machine nobody has to wait: it is you, or all the clients of a proxy that `server.trusted_proxies` does not name."""
        if _is_loopback(source):
            return
        network = _network(source)
        if network in self._refused_keys or len(self._refused_keys) < ENTRIES_MAX:
            self._refused_keys[network] = self._refused_keys.get(network, 0) + 1

    def _turn_over(self) -> None:
        now = self._clock.monotonic()
        if now >= self._until:
            self._end_minute()
            self._until = now + MINUTE_S
            self._timer = asyncio.get_running_loop().call_later(MINUTE_S, self._end_minute)

    def _end_minute(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._until = 0.0
        self._refused_keys = {}
        entries, self._entries = self._entries, {}
        if entries and self._hand_on is not None:
            told = [RefusedAccess(*key, int(count), first_at, last_at) for key, (count, first_at, last_at) in entries.items()]
            task = asyncio.get_running_loop().create_task(self._tell(self._hand_on, told))
            self._handing_on.add(task)
            task.add_done_callback(self._handing_on.discard)

    async def _tell(self, hand_on: HandOn, entries: Sequence[RefusedAccess]) -> None:
        try:
            await hand_on(entries)
        except (GatewayError, OSError) as error:
            refused = sum(entry.count for entry in entries)
            _log.error("%d refused accesses could not be written to the audit log: %s", refused, error)


def _network(source: str) -> str:
    try:
        address = ip_address(source)
    except ValueError:
        return source
    return source if isinstance(address, IPv4Address) else str(ip_network((address.packed, _IPV6_PREFIX), strict=False))


def _is_loopback(source: str) -> bool:
    try:
        return ip_address(source).is_loopback
    except ValueError:
        return False
