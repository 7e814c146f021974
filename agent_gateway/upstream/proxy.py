"""Which proxy an origin is reached through, by `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, and the CONNECT that opens the way.

http:// origins go through CONNECT as well, never in absolute form: the proxy's password never travels with a request, and the
request path knows nothing of proxies. (A proxy that allows CONNECT to port 443 only must be told to allow more.)
"""

from __future__ import annotations

import ipaddress
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from agent_gateway.upstream.origin import Origin

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Proxy:
    """`address.tls`: the proxy itself is spoken to over TLS."""

    address: Origin
    #: The value of `proxy-authorization`.
    authorization: bytes | None = field(default=None, repr=False)

    def connect_head(self, origin: Origin) -> bytes:
        """The CONNECT request that asks for a tunnel to `origin`."""
        target = origin.authority.encode()
        lines = [b"CONNECT %b HTTP/1.1" % target, b"host: " + target]
        if self.authorization is not None:
            lines.append(b"proxy-authorization: " + self.authorization)
        return b"\r\n".join([*lines, b"", b""])


class ProxyRules:
    """Read once from the environment. Loopback is never reached through a proxy unless `proxy_loopback`."""

    __slots__ = ("_exempt", "_http", "_https", "_proxy_loopback")

    def __init__(self, environ: Mapping[str, str], *, proxy_loopback: bool = False) -> None:
        """Raises `ValueError` that names the variable; lower-case names win, as they do for curl."""
        self._https = _proxy(environ, "HTTPS_PROXY")
        self._http = _proxy(environ, "HTTP_PROXY")
        _, no_proxy = _variable(environ, "NO_PROXY")
        self._exempt = no_proxy.lower().replace(",", " ").split()
        self._proxy_loopback = proxy_loopback

    def proxy_for(self, origin: Origin) -> Proxy | None:
        proxy = self._https if origin.tls else self._http
        if proxy is None or (not self._proxy_loopback and _is_loopback(origin.host)):
            return None
        return None if any(_matches(rule, origin) for rule in self._exempt) else proxy


def _variable(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    for spelling in (name.lower(), name):
        if value := environ.get(spelling, "").strip():
            return spelling, value
    return name, ""


def _proxy(environ: Mapping[str, str], name: str) -> Proxy | None:
    variable, url = _variable(environ, name)
    if not url:
        return None
    if "://" not in url:
        url = f"http://{url}"
    try:
        parts = urlsplit(url)
        address = Origin.from_url(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())
    except ValueError as error:
        raise ValueError(f"{variable}: {error} (what is right: http://host:port or http://user:password@host:port)") from None
    if parts.username is None:
        return Proxy(address)
    credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(address, b"Basic " + b64encode(credentials.encode()))


def _is_loopback(host: str) -> bool:
    address = _ip(host)
    if address is None:
        name = host.rstrip(".")
        return name == "localhost" or name.endswith(".localhost")
    return address.is_loopback


def _matches(rule: str, origin: Origin) -> bool:
    """One entry of NO_PROXY: `*`, a host and all below it (with or without a leading dot), an IP, a CIDR; also with `:port`."""
    if rule == "*":
        return True
    rule, port = _split_port(rule)
    if port is not None and port != origin.port:
        return False
    address = _ip(origin.host)
    if address is not None:
        try:
            return address in ipaddress.ip_network(rule, strict=False)
        except ValueError:
            return False
    name = rule.removeprefix("*").strip(".")
    host = origin.host.rstrip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _split_port(rule: str) -> tuple[str, int | None]:
    """`[::1]:80`, `host:80` → with the port; a bare IPv6 address or network has none."""
    if rule.startswith("["):
        inside, _, rest = rule[1:].partition("]")
        port = rest.removeprefix(":")
        return inside, int(port) if port.isdecimal() else None
    name, colon, port = rule.rpartition(":")
    if colon and ":" not in name and port.isdecimal():
        return name, int(port)
    return rule, None


def _ip(host: str) -> _Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
