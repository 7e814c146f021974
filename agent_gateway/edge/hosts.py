"""Which names a request may call the gateway by. A web page that points its own name at 127.0.0.1 gets nowhere (DNS rebinding)."""

from __future__ import annotations

from agent_gateway.core.errors import Forbidden
from agent_gateway.core.settings import Server

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
ANY = "*"


def check_host(server: Server, host: bytes | None) -> None:
    """Raises `Forbidden`. Browsers always say a host; what says none is none, and is let in."""
    if not host:
        return
    name = _name(host)
    allowed = server.allowed_hosts
    if allowed is None:
        if not server.loopback or name in _LOOPBACK or name.endswith(".localhost") or name == server.host:
            return
    elif ANY in allowed or any(name == _name(listed.encode()) for listed in allowed):
        return
    raise Forbidden(
        f"This gateway does not answer to the host {name[:100]!r}. Add it to `server.allowed_hosts`, or call it as it is bound."
    )


def same_origin(origin: bytes | None, host: bytes | None) -> bool:
    """Whether a request comes from a page of the gateway's own, or from no page at all. `origin` and `host` are the headers."""
    if origin is None:
        return True
    _, scheme_ends, own = origin.partition(b"://")
    return bool(scheme_ends) and host is not None and own.lower() == host.strip().lower()


def _name(host: bytes) -> str:
    """Without the port, in lower case; an IPv6 address keeps its brackets."""
    text = host.decode("latin-1").strip().lower()
    if text.startswith("["):
        return text.partition("]")[0] + "]"
    return text.partition(":")[0].removesuffix(".")
