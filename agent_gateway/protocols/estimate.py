"""Tokens counted without a tokenizer: rough, for where nobody else has counted them."""

from __future__ import annotations

import msgspec

from agent_gateway.core.call import Call
from agent_gateway.core.conversation import File, Image, Part, Reasoning, Refusal, Text, ToolResult, ToolUse
from agent_gateway.core.errors import GatewayError
from agent_gateway.protocols.base import codec_of

#: Characters of a token, on average of English text. Source: OpenAI's help centre, "What are tokens and how to count them".
CHARS_PER_TOKEN = 4
#: Characters beyond ASCII are near a token each (CJK in the o200k vocabulary: 0.7–1.1).
CHARS_PER_TOKEN_BEYOND_ASCII = 1
#: Tokens of a message beyond its text: role and separators. Source: OpenAI cookbook, "How to count tokens with tiktoken".
TOKENS_PER_MESSAGE = 4
#: Tokens of an image or another part that is no text: a 1024 × 1024 image at OpenAI's high detail.
TOKENS_PER_MEDIUM = 765

_json = msgspec.json.Encoder()


def estimate_input_tokens(call: Call) -> int:
    """Of what the model reads, so that base64 is not counted as words; of a request that cannot be read as a conversation, all of it."""
    try:
        conversation = codec_of(call.dialect).read_conversation(call)
    except GatewayError:
        return -(-len(call.body) // CHARS_PER_TOKEN)
    tools = _json.encode([(tool.name, tool.description, tool.parameters) for tool in conversation.tools])
    tokens = -(-len(tools) // CHARS_PER_TOKEN) if conversation.tools else 0
    for turn in conversation.turns:
        tokens += TOKENS_PER_MESSAGE + sum(_part_tokens(part) for part in turn.parts)
    return tokens


def _part_tokens(part: Part) -> int:
    match part:
        case Text() | Reasoning() | Refusal():
            return text_tokens(part.text)
        case ToolUse():
            return text_tokens(part.name) + text_tokens(part.arguments)
        case ToolResult():
            return sum(_part_tokens(inner) for inner in part.content)
        case Image() | File():
            return TOKENS_PER_MEDIUM


def text_tokens(text: str) -> int:
    if text.isascii():
        return -(-len(text) // CHARS_PER_TOKEN)
    ascii_chars = len(text.encode("ascii", "ignore"))
    return -(-ascii_chars // CHARS_PER_TOKEN) + (len(text) - ascii_chars) // CHARS_PER_TOKEN_BEYOND_ASCII
