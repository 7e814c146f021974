"""Whether a deployment can take a request at all: what the request holds, and how long it is.

Promise: nobody is left out on a guess. What is not known of a deployment it is taken to have, and a request is too long only clearly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent_gateway.core.call import Call, Need
from agent_gateway.core.errors import ContextTooLong, GatewayError, NotCapable
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.route import Deployment, Route
from agent_gateway.protocols.estimate import estimate_input_tokens

#: A body up to here is too long for no model that is sold (bytes).
SMALL_BYTES = 16 * 1024
#: Beyond its window by this factor a request is clearly too long. Tokens are estimated from characters, and providers' own counts of
#: the same text lie between two thirds and one and a half of that.
CLEARLY = 1.5
#: Models named to a client that needs another, at most.
NAMED_MAX = 10

#: Their tokens have little to do with their bytes.
_MEDIA: frozenset[Need] = frozenset({"vision", "documents", "audio"})
#: Not one prompt: a list of texts, each with the whole window.
_MANY_TEXTS = "openai_embeddings"
_WORDS: dict[Need, str] = {
    "vision": "images",
    "documents": "documents",
    "audio": "audio",
    "tools": "tools",
    "json_schema": "a JSON schema",
}
#: Asked for, but not worth a refusal: whoever has it goes first, and a model without it answers without.
_WISHES: frozenset[Need] = frozenset({"reasoning"})


class Demand:
    """What one request asks of a deployment."""

    __slots__ = ("_call", "_limited", "_output", "_tokens")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._limited = call.dialect != _MANY_TEXTS and call.needs.isdisjoint(_MEDIA)
        self._output = call.max_output_tokens or 0
        self._tokens: int | None = None

    @staticmethod
    def of(call: Call) -> Demand | None:
        """None for nearly every request: any deployment can take it."""
        return Demand(call) if call.needs or len(call.body) > SMALL_BYTES else None

    def met_by(self, deployment: Deployment) -> bool:
        return not self.missing(deployment) and not self.is_too_long(deployment.context_window)

    def missing(self, deployment: Deployment) -> frozenset[Need]:
        return (self._call.needs & deployment.lacks) - _WISHES

    def disappointed_by(self, deployment: Deployment) -> bool:
        """It can take the request, and another could do better."""
        return not _WISHES.isdisjoint(self._call.needs & deployment.lacks)

    def is_too_long(self, window: int | None) -> bool:
        """By the cheap estimate first; all of the request is read only where that says so."""
        if window is None or not self._limited or self._call.estimated_input_tokens + self._output <= window:
            return False
        return self.tokens > CLEARLY * window

    @property
    def tokens(self) -> int:
        """Of the request and its longest answer; estimated."""
        if self._tokens is None:
            self._tokens = estimate_input_tokens(self._call) + self._output
        return self._tokens


def unmet(demand: Demand, exchange: Exchange, deployments: Sequence[Deployment], routes: Mapping[str, Route]) -> GatewayError:
    """Of a demand that none of `deployments` meets: why, and which of the models that the client may use would."""
    asked = exchange.call.model[:200]
    advice = _advice(sorted(name for name, route in routes.items() if any(map(demand.met_by, route.deployments))), exchange.key)
    missing = min((demand.missing(deployment) for deployment in deployments), key=len)
    if missing:
        words = _listed([word for need, word in _WORDS.items() if need in missing])
        return NotCapable(f"The model {asked!r} cannot take what this request holds: {words}. {advice}", param="model")
    window = max(deployment.context_window or 0 for deployment in deployments if not demand.missing(deployment))
    said = f"With its answer the request is about {demand.tokens:,} tokens long, and the model {asked!r} holds {window:,}."
    return ContextTooLong(f"{said} {advice}", status=ContextTooLong.status, body=b"", content_type="")


def _advice(able: Sequence[str], key: object) -> str:
    allowed = getattr(key, "models", None)
    names = [name for name in able if allowed is None or name in allowed]
    if not names:
        return "No configured model can."
    return f"Models that can: {', '.join(names[:NAMED_MAX])}{', …' if len(names) > NAMED_MAX else ''}."


def _listed(words: Sequence[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last
