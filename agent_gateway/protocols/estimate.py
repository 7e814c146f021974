"""Tokens counted without a tokenizer: rough, for where nobody else has counted them."""

from __future__ import annotations

import msgspec
from msgspec import Struct

#: Characters of a token, on average of English text. Source: OpenAI's help centre, "What are tokens and how to count them".
CHARS_PER_TOKEN = 4
#: Characters beyond ASCII are near a token each (CJK in the o200k vocabulary: 0.7–1.1).
CHARS_PER_TOKEN_BEYOND_ASCII = 1
#: Tokens of a message beyond its text: role and separators. Source: OpenAI cookbook, "How to count tokens with tiktoken".
TOKENS_PER_MESSAGE = 4
#: Tokens of an image or another part that is no text: a 1024 × 1024 image at OpenAI's high detail.
TOKENS_PER_MEDIUM = 765


class _Part(Struct):
    type: str | None = None
    text: str | None = None


class _Message(Struct):
    content: str | list[_Part] | None = None


class _Request(Struct):
    messages: list[_Message] = []
    tools: msgspec.Raw = msgspec.Raw(b"")


_request = msgspec.json.Decoder(_Request)


def estimate_input_tokens(body: bytes) -> int:
    """Of the text that the model reads, so that base64 is not counted as words; of any other shape, the whole body."""
    try:
        request = _request.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return -(-len(body) // CHARS_PER_TOKEN)
    tokens = -(-len(bytes(request.tools)) // CHARS_PER_TOKEN)
    for message in request.messages:
        tokens += TOKENS_PER_MESSAGE
        if isinstance(message.content, str):
            tokens += text_tokens(message.content)
        else:
            for part in message.content or ():
                tokens += TOKENS_PER_MEDIUM if part.text is None else text_tokens(part.text)
    return tokens


def text_tokens(text: str) -> int:
    if text.isascii():
        return -(-len(text) // CHARS_PER_TOKEN)
    ascii_chars = len(text.encode("ascii", "ignore"))
    return -(-ascii_chars // CHARS_PER_TOKEN) + (len(text) - ascii_chars) // CHARS_PER_TOKEN_BEYOND_ASCII
