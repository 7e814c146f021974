"""OpenAI embeddings as types (https://platform.openai.com/docs/api-reference/embeddings): what the gateway reads of them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class Request(Struct):
    model: Annotated[str, Meta(min_length=1)]
    #: A text, texts, or tokens: one list, or a list of lists.
    input: str | Annotated[list[str | int | list[int]], Meta(min_length=1)]
    user: str | None = None
