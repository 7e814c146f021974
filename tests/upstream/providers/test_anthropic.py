"""Where Anthropic is asked, in which version of its API."""

from __future__ import annotations

import pytest

from agent_gateway.core.call import Call
from agent_gateway.core.clock import SYSTEM_CLOCK
from agent_gateway.core.route import Deployment
from agent_gateway.upstream.providers.anthropic import AnthropicProvider, AnthropicSettings
from agent_gateway.upstream.transport import Transport

CALL = Call("anthropic", "m", b"{}")
DEPLOYMENT = Deployment("p/m", "p", "m")


def provider(base_url: str) -> AnthropicProvider:
    return AnthropicProvider(AnthropicSettings(base_url=base_url), Transport(environ={}), SYSTEM_CLOCK)


@pytest.mark.parametrize(
    ("base_url", "path"),
    [
        ("https://api.anthropic.com", "/v1/messages"),
        ("https://api.anthropic.com/", "/v1/messages"),
        ("https://api.anthropic.com/v1", "/v1/messages"),
        ("https://api.anthropic.com/v1/", "/v1/messages"),
        ("https://api.deepseek.com/anthropic", "/anthropic/v1/messages"),
        ("http://127.0.0.1:9/v2", "/v2/messages"),
    ],
)
def test_the_version_may_stand_in_the_address_or_not(base_url: str, path: str) -> None:
    made = provider(base_url)
    assert made.endpoint(CALL, DEPLOYMENT, "anthropic").path == path
    assert made.endpoint(CALL, DEPLOYMENT, "anthropic_count").path == f"{path}/count_tokens"


def test_a_version_is_told_that_a_client_need_not_know() -> None:
    headers = provider("https://api.anthropic.com").endpoint(CALL, DEPLOYMENT, "anthropic").headers
    assert headers == {"anthropic-version": "2023-06-01"}
