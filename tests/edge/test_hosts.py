"""Which Host headers are let in, by where the gateway is bound and what its configuration lists, and whose pages are its own."""

from __future__ import annotations

import pytest

from agent_gateway.core.errors import Forbidden
from agent_gateway.core.settings import Server
from agent_gateway.edge.hosts import check_host, same_origin

LOOPBACK = Server()
PUBLIC = Server(host="0.0.0.0")  # nothing is bound
LISTED = Server(allowed_hosts=("Gateway.example", "::1-is-no-name"))
ANY = Server(allowed_hosts=("*",))


@pytest.mark.parametrize(
    ("server", "host"),
    [
        (LOOPBACK, None),
        (LOOPBACK, b"localhost"),
        (LOOPBACK, b"LOCALHOST:8080"),
        (LOOPBACK, b"127.0.0.1:1"),
        (LOOPBACK, b"[::1]:8080"),
        (LOOPBACK, b"agents.localhost:8080"),
        (Server(host="127.0.0.2"), b"127.0.0.2:8080"),
        (PUBLIC, b"anything.example"),
        (LISTED, b"gateway.example:443"),
        (LISTED, b"gateway.example."),
        (ANY, b"anything.example"),
    ],
)
def test_a_name_that_is_let_in(server: Server, host: bytes | None) -> None:
    check_host(server, host)


@pytest.mark.parametrize(
    ("server", "host"),
    [
        (LOOPBACK, b"evil.example:8080"),
        (LOOPBACK, b"localhost.evil.example"),
        (LOOPBACK, b"127.0.0.1.evil.example"),
        (LOOPBACK, b"evillocalhost"),
        (LOOPBACK, b"[::2]"),
        (LISTED, b"localhost"),
        (LISTED, b"sub.gateway.example"),
        (Server(allowed_hosts=()), b"localhost"),
    ],
)
def test_a_name_that_is_not(server: Server, host: bytes) -> None:
    with pytest.raises(Forbidden, match="allowed_hosts"):
        check_host(server, host)


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        (None, b"localhost:8080", True),
        (None, None, True),
        (b"http://localhost:8080", b"localhost:8080", True),
        (b"https://Gateway.example", b"gateway.example", True),
        (b"http://localhost:3000", b"localhost:8080", False),
        (b"http://evil.example", b"localhost:8080", False),
        (b"http://localhost:8080.evil.example", b"localhost:8080", False),
        (b"null", b"localhost:8080", False),
        (b"null", b"", False),
        (b"", b"localhost:8080", False),
        (b"http://evil.example", None, False),
    ],
)
def test_whether_a_page_is_the_gateways_own(origin: bytes | None, host: bytes | None, same: bool) -> None:
    assert same_origin(origin, host) is same
