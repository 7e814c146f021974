"""What a server's settings may say of proxies, origins and TLS, and what is said of mistakes in them."""

from __future__ import annotations

import pytest

from agent_gateway.control.load import compile_mapping
from tests.control.conftest import Mistakes

FILE = "providers: {local: {kind: openai, base_url: 'http://127.0.0.1:9/v1', api_key: x}}\n"


@pytest.mark.parametrize(
    ("server", "error"),
    [
        ("trusted_proxies: [proxy.example]", "server.trusted_proxies[0]: is no address or network: "),
        ("trusted_proxies: [10.0.0.0/8, 10.0.0.1/8]", "server.trusted_proxies[1]: is no address or network: 10.0.0.1/8 has host bits set"),
        ("cors_origins: ['*', 'https://a.example']", "server.cors_origins: holds * beside others; keep * alone, or name every origin"),
        ("cors_origins: [a.example]", "server.cors_origins[0]: 'a.example' is no origin as browsers send it"),
        ("cors_origins: ['https://a.example/']", "server.cors_origins[0]: 'https://a.example/' is no origin"),
        ("cors_origins: ['https://A.example']", "server.cors_origins[0]: 'https://A.example' is no origin"),
        ("cors_origins: ['null']", "server.cors_origins[0]: 'null' is no origin"),
        ("cors_origins: ['https://a.example:443']", "server.cors_origins[0]: names the usual port, which browsers leave out"),
        ("tls: {cert_file: /nowhere/c.pem, key_file: /nowhere/k.pem}", "server.tls.cert_file: /nowhere/c.pem cannot be read: No such file"),
        ("tls: {cert_file: /nowhere/c.pem}", "server.tls.key_file"),
    ],
)
def test_a_mistake_is_named(mistakes: Mistakes, server: str, error: str) -> None:
    [told] = mistakes(f"{FILE}server: {{{server}}}")
    assert told.startswith(error)


def test_what_is_right() -> None:
    server = {
        "trusted_proxies": ["10.0.0.7", "10.1.0.0/16", "2001:db8::/32"],
        "cors_origins": ["https://a.example", "http://localhost:3000", "chrome-extension://abcdef", "http://[::1]:8000"],
    }
    providers = {"local": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key": "x"}}
    assert compile_mapping({"server": server, "providers": providers}).settings.server.trusted_proxies[0] == "10.0.0.7"
