"""URLs that are origins, and those that are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.upstream.origin import Origin


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://api.openai.com/v1", Origin("api.openai.com", 443, True)),
        ("http://127.0.0.1:9101/v1", Origin("127.0.0.1", 9101, False)),
        ("HTTPS://API.Provider.TEST:8443", Origin("api.provider.test", 8443, True)),
        ("http://[::1]:8080/v1?a=b#c", Origin("::1", 8080, False)),
        ("http://[0:0:0:0:0:0:0:1]", Origin("::1", 80, False)),
        ("http://vllm_1", Origin("vllm_1", 80, False)),
        ("https://bücher.test", Origin("xn--bcher-kva.test", 443, True)),
        ("https://provider.test.", Origin("provider.test.", 443, True)),
    ],
)
def test_the_origin_of_a_url(url: str, origin: Origin) -> None:
    assert Origin.from_url(url) == origin


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "must begin with http:// or https://"),
        ("api.openai.com", "must begin with http:// or https://"),
        ("ftp://a", "must begin with http:// or https://"),
        ("https://", "no host"),
        ("https:///v1", "no host"),
        ("https://:443", "no host"),
        ("https://a b", "not a valid name"),
        ("https://a..b", "not a valid name"),
        ("https://-a.test", "not a valid name"),
        ("https://a/\r\nx", "white space or control"),
        (" https://a", "white space or control"),
        ("https://a:0", "port 0"),
        ("https://a:65536", "from 1 to 65535"),
        ("https://a:http", "from 1 to 65535"),
        ("https://user:secret@a", "user name or password"),
        ("https://[::1", "host is not valid"),
        ("https://[not::ip::6]", "host is not valid"),
    ],
)
def test_what_is_not_an_origin_says_why(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        Origin.from_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "authority", "host_header"),
    [
        ("https://a.test", "a.test:443", "a.test"),
        ("http://a.test:80", "a.test:80", "a.test"),
        ("http://a.test:443", "a.test:443", "a.test:443"),
        ("https://[::1]:443", "[::1]:443", "[::1]"),
        ("https://[::1]:444", "[::1]:444", "[::1]:444"),
    ],
)
def test_how_an_origin_is_written(url: str, authority: str, host_header: str) -> None:
    origin = Origin.from_url(url)
    assert (origin.authority, origin.host_header) == (authority, host_header)


@given(st.one_of(st.text(), st.text().map("https://{}".format), st.text(alphabet="abc:/@[]%.1-\\").map("http://{}".format)))
def test_any_text_is_an_origin_or_a_value_error(text: str) -> None:
    try:
        origin = Origin.from_url(text)
    except ValueError:
        return
    assert 0 < origin.port < 65536
    assert origin.host
    assert origin.authority.isascii()
    assert not set(origin.authority) & set(" \r\n/@\\")
