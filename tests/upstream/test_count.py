"""Tokens counted where the provider cannot: by an estimate of ours."""

from __future__ import annotations

import msgspec
import pytest

from agent_gateway.core.errors import ProviderError
from agent_gateway.protocols.anthropic_count.codec import AnthropicCount
from agent_gateway.upstream.refusal import refusal
from tests.upstream.stage import Outcome, Script, Stage, fails, route

COUNT = AnthropicCount().read_call(b'{"model":"chat","messages":[{"role":"user","content":"How long is this?"}]}', {}, "")


def refused(status: int, body: bytes = b'{"detail":"Not Found"}') -> ProviderError:
    return refusal(status, {}, body, 0.0, "anthropic_count")


def counted(script: Script, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    stage = Stage(route("a")).script(a=script)
    monkeypatch.setattr(stage.provider, "speaks", lambda call, deployment: call.dialect)
    return stage.tell(COUNT)


@pytest.mark.parametrize("error", [refused(404), refused(405), refused(404, b'{"error":{"type":"not_found_error"}}')])
def test_a_server_that_cannot_count_is_helped_out(error: ProviderError, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = counted(fails(error), monkeypatch)
    assert 2 < msgspec.json.decode(outcome.data)["input_tokens"] < 20
    assert outcome.outcomes == ["success"]


def test_one_that_can_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert counted(Script(after=(b'{"input_tokens":42}',)), monkeypatch).data == b'{"input_tokens":42}'


@pytest.mark.parametrize("status", [400, 401])
def test_what_is_wrong_with_the_request_or_the_key_is_told(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    error = refused(status)
    assert counted(fails(error), monkeypatch).error is error
