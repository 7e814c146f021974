"""Where a request comes from: the peer, or whom a trusted proxy names. Asked only where somebody will read it: of refusals and admins.

`x-forwarded-for` counts only as far as it was written by trusted proxies; `x-forwarded-proto` and `-host` are never read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from agent_gateway.core.settings import Server

#: Proxies in a row; who claims more is taken for the last of these.
HOPS_MAX = 16
#: Of a peer that has no address: a Unix socket's.
UNKNOWN = "unknown"

_Address = IPv4Address | IPv6Address
_Networks = tuple[IPv4Network | IPv6Network, ...]


def source_of(scope: Mapping[str, Any], server: Server) -> str:
    """`scope` is ASGI's."""
    forwarded = b",".join([value for name, value in scope["headers"] if name == b"x-forwarded-for"])
    return client_address(scope.get("client"), forwarded, server.trusted_proxies)


def client_address(peer: Sequence[object] | None, forwarded: bytes, trusted_proxies: tuple[str, ...]) -> str:
    """`peer`: address and port of the connection; `forwarded`: the request's `x-forwarded-for`, several joined in order."""
    address = _address(str(peer[0])) if peer else None
    if address is None:
        return UNKNOWN
    if trusted_proxies and forwarded:
        networks = _networks(trusted_proxies)
        claimed = forwarded.decode("latin-1").rsplit(",", HOPS_MAX)[-HOPS_MAX:]
        while claimed and _is_in(address, networks):
            before = _address(claimed.pop())
            if before is None:  # no proxy wrote this: it is the first that says something
                break
            address = before
    return str(address)


def _address(text: str) -> _Address | None:
    """Some proxies add the port."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_in(address: _Address, networks: _Networks) -> bool:
    return any(address in network for network in networks)


@lru_cache(maxsize=4)
def _networks(texts: tuple[str, ...]) -> _Networks:
    return tuple(ip_network(text) for text in texts)
