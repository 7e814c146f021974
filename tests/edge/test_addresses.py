"""Whose address it is: what a client writes of itself never counts, what a trusted proxy writes does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.edge.addresses import HOPS_MAX, UNKNOWN, client_address

PROXIES = ("10.0.0.0/8", "192.0.2.9", "2001:db8:1::/48")


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("198.51.100.1", b"", "198.51.100.1"),
        ("198.51.100.1", b"203.0.113.5", "198.51.100.1"),
        ("10.1.2.3", b"203.0.113.5", "203.0.113.5"),
        ("10.1.2.3", b" 203.0.113.5 , 10.9.9.9,192.0.2.9", "203.0.113.5"),
        ("10.1.2.3", b"1.1.1.1, 203.0.113.5, 10.9.9.9", "203.0.113.5"),
        ("10.1.2.3", b"", "10.1.2.3"),
        ("10.1.2.3", b"10.0.0.1, 10.0.0.2", "10.0.0.1"),
        ("10.1.2.3", b"203.0.113.5:4711", "203.0.113.5"),
        ("10.1.2.3", b"[2001:db8::7]:4711", "2001:db8::7"),
        ("2001:db8:1::5", b"2001:DB8::7", "2001:db8::7"),
        ("::ffff:10.1.2.3", b"::ffff:203.0.113.5", "203.0.113.5"),
        ("10.1.2.3", b"unknown", "10.1.2.3"),
        ("10.1.2.3", b"203.0.113.5, _hidden, 10.9.9.9", "10.9.9.9"),
        ("10.1.2.3", b",".join([b"10.0.0.1"] * 1000), "10.0.0.1"),
    ],
)
def test_the_rightmost_that_is_no_trusted_proxy(peer: str, forwarded: bytes, address: str) -> None:
    assert client_address((peer, 1234), forwarded, PROXIES) == address


def test_nobody_is_trusted_unless_named() -> None:
    assert client_address(("10.1.2.3", 1), b"203.0.113.5", ()) == "10.1.2.3"


@pytest.mark.parametrize("peer", [None, (), ("",), ("/run/gateway.sock", 0)])
def test_a_peer_without_an_address(peer: tuple[object, ...] | None) -> None:
    assert client_address(peer, b"203.0.113.5", PROXIES) == UNKNOWN


def test_more_proxies_in_a_row_than_there_are() -> None:
    forwarded = b"203.0.113.5," + b",".join([b"10.0.0.1"] * HOPS_MAX)
    assert client_address(("10.1.2.3", 1), forwarded, PROXIES) == "10.0.0.1"


@given(st.binary(max_size=200), st.sampled_from(["10.1.2.3", "198.51.100.1"]))
def test_whatever_is_written_there(forwarded: bytes, peer: str) -> None:
    address = client_address((peer, 1), forwarded, PROXIES)
    assert address
    assert address == peer or peer == "10.1.2.3"
