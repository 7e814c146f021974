"""Where a provider is: scheme, host and port, and nothing of the path."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?")
_HOST_MAX = 253  # RFC 1035 §2.3.4, as text


@dataclass(frozen=True, slots=True)
class Origin:
    """`host` in lower case: a name, or an IP address without brackets."""

    host: str
    port: int
    tls: bool

    def __hash__(self) -> int:
        """Asked at every request: cheaper than that of all fields, and they hardly ever differ in anything else."""
        return hash(self.host)

    @classmethod
    def from_url(cls, url: str) -> Origin:
        """The origin of an http:// or https:// URL; its path is ignored. Raises `ValueError` that says what is wrong with it.

        The text of the error never repeats the URL, which may hold a password.
        """
        if url != url.strip() or not url.isprintable():
            raise ValueError("the URL holds white space or control characters")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"not a URL: {_without_values(error)}") from None
        if parts.scheme not in ("http", "https"):
            raise ValueError("the URL must begin with http:// or https://")
        if parts.username is not None or parts.password is not None:
            raise ValueError("the URL must not hold a user name or password")
        if port == 0:
            raise ValueError("port 0 cannot be connected to")
        tls = parts.scheme == "https"
        return cls(_host(parts.hostname or ""), port or (443 if tls else 80), tls)

    @property
    def authority(self) -> str:
        """`host:port`, an IPv6 address in brackets."""
        return f"{self._bracketed}:{self.port}"

    @property
    def host_header(self) -> str:
        """The value of `host` (RFC 9110 §7.2): without the scheme's own port."""
        return self._bracketed if self.port == (443 if self.tls else 80) else self.authority

    @property
    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


def _host(host: str) -> str:
    if not host:
        raise ValueError("the URL has no host")
    if ":" in host:
        return str(ipaddress.IPv6Address(host))
    try:
        ascii_host = host.encode("ascii" if host.isascii() else "idna").decode("ascii").lower()
    except UnicodeError:
        raise ValueError("the URL's host is not a valid name") from None
    if len(ascii_host) > _HOST_MAX or not _HOST_NAME.fullmatch(ascii_host):
        raise ValueError("the URL's host is not a valid name")
    return ascii_host


def _without_values(error: ValueError) -> str:
    text = str(error).lower()
    if "port" in text:
        return "the port must be a number from 1 to 65535"
    return "the host is not valid"
