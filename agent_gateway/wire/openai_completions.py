"""OpenAI's legacy completions as types (https://platform.openai.com/docs/api-reference/completions).

What comes in tolerates unknown fields; what goes out writes its nulls where OpenAI writes them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from agent_gateway.wire.openai_chat import StreamOptions, Usage


class RequestHead(Struct):
    """Of a request only what the gateway itself acts on."""

    model: Annotated[str, Meta(min_length=1)]
    #: A string, a list of strings, or tokens: one list, or a list of lists.
    prompt: Raw
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    user: str | None = None


class Request(Struct, omit_defaults=True):
    """What a model needs to answer."""

    model: Annotated[str, Meta(min_length=1)]
    prompt: Any
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    best_of: int | None = None
    stop: str | Annotated[list[str], Meta(max_length=4)] | None = None
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    #: Alternatives told for each token; 0: the tokens alone.
    logprobs: int | None = None
    logit_bias: Any = None
    echo: bool | None = None
    suffix: str | None = None
    user: str | None = None


class Logprobs(Struct):
    """Lists of one element a token. The alternatives of a token are told by it; `text_offset` counts characters of the text."""

    tokens: list[str] = []
    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float] | None] | None = None
    text_offset: list[int] = []


class Choice(Struct, gc=False):
    index: int = 0
    text: str = ""
    logprobs: Logprobs | None = None
    finish_reason: str | None = None


class Completion(Struct, kw_only=True):
    """A whole answer, or a chunk of a stream."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[Choice]
    system_fingerprint: str | None = None
    #: Unset in a stream of a client that did not ask for usage; null in every chunk but the last when it did.
    usage: Usage | UnsetType | None = UNSET
