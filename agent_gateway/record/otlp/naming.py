"""What everything is called in OpenTelemetry: one table for traces, metrics and logs. `docs/monitoring.md` shows it, held by a test.

Names are those of OpenTelemetry's conventions (GenAI, HTTP, general; version 1.37 and later); what they have no word for is
`agent_gateway.*`. Times are in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from agent_gateway.core.call import Dialect
from agent_gateway.record.otlp.values import attribute

#: The span and the log event of a request; the span of a model call; points of metrics.
Place = Literal["request", "call", "metrics"]


class Name(NamedTuple):
    attribute: str
    #: A value of `story.Story` or `story.Called`.
    value: str
    places: tuple[Place, ...]


NAMES = (
    Name("gen_ai.operation.name", "operation", ("request", "call", "metrics")),
    Name("gen_ai.provider.name", "provider", ("request", "call", "metrics")),
    Name("gen_ai.request.model", "model", ("request", "call", "metrics")),
    Name("gen_ai.response.model", "answering_model", ("request", "metrics")),
    Name("gen_ai.response.finish_reasons", "finish_reasons", ("request",)),
    Name("gen_ai.usage.input_tokens", "input_tokens", ("request", "call")),
    Name("gen_ai.usage.output_tokens", "output_tokens", ("request", "call")),
    Name("gen_ai.usage.cache_read.input_tokens", "cache_read_tokens", ("request", "call")),
    Name("gen_ai.usage.cache_creation.input_tokens", "cache_write_tokens", ("request", "call")),
    Name("gen_ai.usage.reasoning.output_tokens", "reasoning_tokens", ("request", "call")),
    Name("gen_ai.token.type", "token_type", ("metrics",)),
    Name("gen_ai.conversation.id", "session_id", ("request",)),
    Name("user.id", "user_id", ("request",)),
    Name("http.request.method", "method", ("request",)),
    Name("http.route", "path", ("request",)),
    Name("http.response.status_code", "http_status", ("request", "call")),
    Name("error.type", "error", ("request", "call", "metrics")),
    Name("server.address", "address", ("call", "metrics")),
    Name("server.port", "port", ("call", "metrics")),
    Name("agent_gateway.request.id", "id", ("request",)),
    Name("agent_gateway.client_request.id", "client_request_id", ("request",)),
    Name("agent_gateway.status", "status", ("request", "metrics")),
    Name("agent_gateway.reason", "reason", ("request",)),
    Name("agent_gateway.dialect", "dialect", ("request",)),
    Name("agent_gateway.pattern", "pattern", ("request",)),
    Name("agent_gateway.deployment", "deployment", ("request", "call")),
    Name("agent_gateway.key.id", "key_id", ("request",)),
    Name("agent_gateway.cost_usd", "cost_usd", ("request", "call")),
    Name("agent_gateway.quality", "quality", ("request",)),
    Name("agent_gateway.tokens_estimated", "tokens_estimated", ("request",)),
    Name("agent_gateway.attempts", "attempts_count", ("request",)),
    Name("agent_gateway.overhead", "overhead_s", ("request",)),
    Name("agent_gateway.time_to_first_token", "first_token_s", ("request", "call")),
    Name("agent_gateway.queued", "queued_s", ("call",)),
    Name("agent_gateway.guards", "guards", ("request",)),
)


class Instrument(NamedTuple):
    """A metric; `bounds` of a histogram are those that the conventions name, None: it is a sum."""

    name: str
    unit: str
    description: str
    bounds: tuple[float, ...] | None


_TOKENS = tuple(4.0**power for power in range(14))
_SECONDS = tuple(0.01 * 2**power for power in range(14))
_FIRST_TOKEN_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_PER_TOKEN_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)

#: Of a model call: the gateway is the client.
OPERATION = Instrument("gen_ai.client.operation.duration", "s", "Time of a model call.", _SECONDS)
TOKENS = Instrument("gen_ai.client.token.usage", "{token}", "Tokens of a model call, in and out.", _TOKENS)
FIRST_CHUNK = Instrument(
    "gen_ai.client.operation.time_to_first_chunk", "s", "Streams: from a model call to its first content.", _FIRST_TOKEN_S
)
#: Of a request: the gateway is the server.
REQUEST = Instrument("gen_ai.server.request.duration", "s", "Whole time of a request.", _SECONDS)
FIRST_TOKEN = Instrument("gen_ai.server.time_to_first_token", "s", "Streams: from a request to the first content.", _FIRST_TOKEN_S)
PER_TOKEN = Instrument("gen_ai.server.time_per_output_token", "s", "Streams: mean time of a token after the first.", _PER_TOKEN_S)
COST = Instrument("agent_gateway.cost", "{USD}", "Cost of model calls.", None)
INSTRUMENTS = (OPERATION, TOKENS, FIRST_CHUNK, REQUEST, FIRST_TOKEN, PER_TOKEN, COST)

#: The log record of a request.
EVENT = "gen_ai.client.inference.operation.details"
#: Of that event, where content is sent.
INPUT_MESSAGES, OUTPUT_MESSAGES = "gen_ai.input.messages", "gen_ai.output.messages"
#: Events of a model call's span.
MARKS = {
    "agent_gateway.connected": "connected_ms",
    "agent_gateway.first_byte": "first_byte_ms",
    "agent_gateway.first_token": "first_token_ms",
}

OPERATIONS: dict[Dialect, str] = {
    "openai_chat": "chat",
    "openai_completions": "text_completion",
    "openai_embeddings": "embeddings",
    "openai_responses": "chat",
    "anthropic": "chat",
    "anthropic_count": "count_tokens",
    "gemini": "generate_content",
}
#: Kinds of providers that the conventions call otherwise than `gateway.yaml` does.
PROVIDERS = {"azure": "azure.ai.openai", "gemini": "gcp.gemini", "mistral": "mistral_ai", "xai": "x_ai"}

_IN = {place: tuple((name.attribute, name.value) for name in NAMES if place in name.places) for place in ("request", "call", "metrics")}


def attributes(field: int, place: Place, values: Mapping[str, Any]) -> bytes:
    """All that is known of what is told there, as the message's repeated `field`."""
    told = [attribute(field, name, value) for name, source in _IN[place] if (value := values.get(source)) is not None]
    return b"".join(told)
