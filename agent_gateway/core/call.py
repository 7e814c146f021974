"""What a client asked for, parsed once at the edge."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

#: The protocols that are spoken, each with a codec in `protocols/`.
Dialect = Literal["openai_chat", "openai_completions", "openai_embeddings", "openai_responses", "anthropic", "anthropic_count", "gemini"]
#: Where clients ask models. Gemini's paths hold the model, and what is asked of it.
MODEL_PATHS: dict[Dialect, str] = {
    "openai_chat": "/v1/chat/completions",
    "openai_completions": "/v1/completions",
    "openai_embeddings": "/v1/embeddings",
    "openai_responses": "/v1/responses",
    "anthropic": "/v1/messages",
    "anthropic_count": "/v1/messages/count_tokens",
}
#: What a request asks of a model beyond text: it is planned only onto deployments that have it, but for `reasoning`, a wish.
Need = Literal["vision", "documents", "audio", "tools", "json_schema", "reasoning"]
NO_NEEDS: frozenset[Need] = frozenset()


class Keeping(Struct, frozen=True):
    """What an OpenAI Responses request asks to be kept, and what it goes on from."""

    store: bool = True
    #: A response.
    previous: str | None = None
    conversation: str | None = None
    #: The answer is made without its client, who comes back for it.
    background: bool = False

    @property
    def goes_on(self) -> bool:
        return self.previous is not None or self.conversation is not None


class Call(Struct, frozen=True):
    """Only what the gateway acts on is typed; `body` is the client's own JSON, byte for byte."""

    dialect: Dialect
    model: str
    body: bytes
    stream: bool = False
    #: The client asked for the usage chunk itself, so it is not stripped (OpenAI chat and completions; the others always tell usage).
    wants_usage: bool = False
    max_output_tokens: int | None = None
    user: str | None = None
    #: The answer has to be JSON (`response_format` and its likes).
    wants_json: bool = False
    #: A fixed text may stand in for the answer: no schema to keep to, no tool that must be called.
    conversational: bool = True
    #: Of the client's headers, those that may go on to the provider (lower-case name → value).
    forward_headers: dict[str, str] = {}
    needs: frozenset[Need] = NO_NEEDS
    #: How a stream is cut on the wire: server-sent events, or (Gemini without `alt=sse`) one JSON array that grows.
    framing: Literal["sse", "json_array"] = "sse"
    #: None: nothing is kept of it under an id of its own.
    keeping: Keeping | None = None

    @property
    def path(self) -> str:
        """Where it came in, by whatever edge; of several paths that mean the same the one that documents name."""
        if self.dialect == "gemini":
            return f"/v1beta/models/{self.model}:{'streamGenerateContent' if self.stream else 'generateContent'}"
        return MODEL_PATHS[self.dialect]

    @property
    def in_background(self) -> bool:
        return self.keeping is not None and self.keeping.background

    @property
    def estimated_input_tokens(self) -> int:
        """By the request's size, 4 bytes a token: cheap enough for routing. What is billed is counted by `protocols.estimate`."""
        return len(self.body) // 4
