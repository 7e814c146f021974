"""Which origin goes through which proxy, by the environment."""

from __future__ import annotations

import pytest

from agent_gateway.upstream.origin import Origin
from agent_gateway.upstream.proxy import Proxy, ProxyRules

PROXY = Proxy(Origin("proxy.test", 3128, False))


def _rules(**environ: str) -> ProxyRules:
    return ProxyRules(environ)


def test_each_scheme_has_its_own_proxy() -> None:
    rules = _rules(HTTPS_PROXY="http://secure.test:1", HTTP_PROXY="https://plain.test:2")
    assert rules.proxy_for(Origin("a.test", 443, True)) == Proxy(Origin("secure.test", 1, False))
    assert rules.proxy_for(Origin("a.test", 80, False)) == Proxy(Origin("plain.test", 2, True))


def test_without_a_variable_there_is_no_proxy() -> None:
    for environ in ({}, {"HTTPS_PROXY": " ", "HTTP_PROXY": ""}):
        assert ProxyRules(environ).proxy_for(Origin("a.test", 443, True)) is None
        assert ProxyRules(environ).proxy_for(Origin("a.test", 80, False)) is None


def test_lower_case_names_win() -> None:
    rules = _rules(https_proxy="http://lower.test:1", HTTPS_PROXY="http://upper.test:1")
    proxy = rules.proxy_for(Origin("a.test", 443, True))
    assert proxy is not None
    assert proxy.address.host == "lower.test"


@pytest.mark.parametrize(
    ("url", "address", "authorization"),
    [
        ("http://proxy.test:3128", Origin("proxy.test", 3128, False), None),
        ("proxy.test:3128", Origin("proxy.test", 3128, False), None),
        ("proxy.test", Origin("proxy.test", 80, False), None),
        ("https://proxy.test", Origin("proxy.test", 443, True), None),
        ("http://[::2]:3128/", Origin("::2", 3128, False), None),
        ("http://me:pw@proxy.test:3128", Origin("proxy.test", 3128, False), b"Basic bWU6cHc="),
        ("http://me@proxy.test", Origin("proxy.test", 80, False), b"Basic bWU6"),
        ("http://m%40e:p%3Aw%C3%A9@proxy.test", Origin("proxy.test", 80, False), b"Basic bUBlOnA6d8Op"),
        ("me:pw@proxy.test:3128", Origin("proxy.test", 3128, False), b"Basic bWU6cHc="),
    ],
)
def test_the_proxys_address_and_credentials(url: str, address: Origin, authorization: bytes | None) -> None:
    proxy = _rules(HTTPS_PROXY=url).proxy_for(Origin("a.test", 443, True))
    assert proxy == Proxy(address, authorization)
    assert "Basic" not in repr(proxy)


@pytest.mark.parametrize("url", ["socks5://me:secret@proxy.test:1080", "http://me:secret@:3128", "http://proxy.test:port", "http://"])
def test_a_proxy_that_cannot_be_is_refused_by_the_variables_name(url: str) -> None:
    with pytest.raises(ValueError, match=r"^https_proxy: ") as caught:
        _rules(https_proxy=url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("*", "https://a.test", True),
        ("a.test", "https://a.test", True),
        ("A.Test", "https://a.test", True),
        ("a.test", "https://sub.a.test", True),
        (".a.test", "https://sub.a.test", True),
        (".a.test", "https://a.test", True),
        ("*.a.test", "https://sub.a.test", True),
        ("a.test.", "https://a.test", True),
        ("a.test", "https://a.test.", True),
        ("a.test", "https://ba.test", False),
        ("a.test", "https://a.test.evil", False),
        (".", "https://a.test", False),
        (",, ,", "https://a.test", False),
        ("b.test, a.test", "https://a.test", True),
        ("b.test a.test", "https://a.test", True),
        ("a.test:443", "https://a.test", True),
        ("a.test:8443", "https://a.test", False),
        ("a.test:8443", "https://a.test:8443", True),
        ("10.0.0.0/8", "https://10.1.2.3", True),
        ("10.0.0.0/8", "https://11.1.2.3", False),
        ("10.1.2.3/8", "https://10.9.9.9", True),
        ("10.0.0.0/8", "https://ten.test", False),
        ("192.0.2.7", "https://192.0.2.7", True),
        ("192.0.2.7:8443", "https://192.0.2.7", False),
        ("192.0.2.7:443", "https://192.0.2.7", True),
        ("192.0.2", "https://192.0.2.7", False),
        ("2001:db8::/32", "https://[2001:db8::1]", True),
        ("2001:db8::1", "https://[2001:db8:0::1]", True),
        ("[2001:db8::1]", "https://[2001:db8::1]", True),
        ("[2001:db8::1]:443", "https://[2001:db8::1]", True),
        ("[2001:db8::1]:444", "https://[2001:db8::1]", False),
        ("10.0.0.0/8", "https://[2001:db8::1]", False),
        ("999.0.0.0/8", "https://10.0.0.1", False),
    ],
)
def test_no_proxy(no_proxy: str, url: str, direct: bool) -> None:
    rules = _rules(HTTPS_PROXY="http://proxy.test:3128", NO_PROXY=no_proxy)
    assert rules.proxy_for(Origin.from_url(url)) == (None if direct else PROXY)


@pytest.mark.parametrize("host", ["localhost", "localhost.", "app.localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_is_direct_unless_told_otherwise(host: str) -> None:
    environ = {"HTTP_PROXY": "http://proxy.test:3128"}
    assert ProxyRules(environ).proxy_for(Origin(host, 80, False)) is None
    assert ProxyRules(environ, proxy_loopback=True).proxy_for(Origin(host, 80, False)) == PROXY


def test_the_connect_request() -> None:
    assert PROXY.connect_head(Origin("::2", 443, True)) == b"CONNECT [::2]:443 HTTP/1.1\r\nhost: [::2]:443\r\n\r\n"
