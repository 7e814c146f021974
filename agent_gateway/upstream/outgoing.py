"""A client's call as the body that goes out to a provider, in the protocol that the provider speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from msgspec import structs

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.route import Deployment
from agent_gateway.protocols.base import codec_of
from agent_gateway.protocols.estimate import estimate_input_tokens
from agent_gateway.protocols.openai_chat.relay import provider_body
from agent_gateway.upstream.base import ReadyAnswer

if TYPE_CHECKING:  # loaded by the first call that asks for it
    from agent_gateway.protocols.anthropic_count.codec import AnthropicCount


def outgoing(call: Call, spoken: Dialect, deployment: Deployment) -> bytes:
    """Raises `NotExpressible`, and `BadRequest` for what shows to be wrong only when all of the request is read."""
    if spoken != call.dialect:
        conversation = codec_of(call.dialect).read_conversation(call)
        if "reasoning" in deployment.lacks:  # it would refuse to be told how much to think
            conversation = structs.replace(conversation, thinking=None)
        return codec_of(spoken).write_request(conversation, deployment)
    if spoken == "openai_chat":
        return provider_body(call, deployment)
    return codec_of(spoken).pass_request(call, deployment)


def estimated_count(call: Call) -> ReadyAnswer:
    """The answer to "how many tokens is this?" where no provider that can count is configured: our own estimate."""
    return ReadyAnswer(cast("AnthropicCount", codec_of("anthropic_count")).counted(estimate_input_tokens(call)))
