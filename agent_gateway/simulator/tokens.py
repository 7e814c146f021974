"""Text cut into pieces the size of tokens, and token counts estimated without a tokenizer."""

from __future__ import annotations

import re

#: A word (a long one in parts) with the space before it, a punctuation mark, or a rest of white space.
_PIECE = re.compile(r"\s*\w{1,10}|\s*[^\w\s]|\s+")
_CODE_PIECE = re.compile(r".{1,4}", re.DOTALL)

#: Of English, in OpenAI's tokenizers (https://help.openai.com/en/articles/4936856).
_CHARACTERS_PER_TOKEN = 4


def pieces_of_text(text: str) -> list[str]:
    return _PIECE.findall(text)


def pieces_of_json(text: str) -> list[str]:
    return _CODE_PIECE.findall(text)


def estimated_tokens(characters: int) -> int:
    return -(-characters // _CHARACTERS_PER_TOKEN)
