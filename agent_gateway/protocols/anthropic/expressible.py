"""What an Anthropic request cannot say of a conversation: what is left out of it, and what is refused."""

from __future__ import annotations

from typing import Final

#: Conversation field or part → why it is left out, and what stands in for it.
DROPPED: Final[dict[str, str]] = {
    "seed": "Anthropic has no seed; OpenAI documents its own as best effort.",
    "metadata": "Anthropic keeps no metadata but the user's id.",
    "Turn.name": "Turns carry no participant's name.",
    "Image.detail": "Anthropic has one level of detail.",
    "Reasoning": "Anthropic takes back only the thoughts that it signed; those of another origin are left out.",
    "Reasoning.id": "Thoughts carry no id.",
    "Refusal": "It is sent as the assistant's text, without the mark that it is a refusal.",
    "ToolResult.name": "A result names its call only.",
    "JsonFormat.name": "A format is its schema only.",
    "JsonFormat.description": "A format is its schema only.",
    "JsonFormat.strict": "A schema is always kept to; what Anthropic does not check of it moves into its description.",
    "format": "JSON without a schema is asked for in an instruction, not enforced.",
    "temperature": "Left out when the model thinks, and for models that take none (Claude 4.7 and later); more than 1 is sent as 1.",
    "top_p": "Left out when the model thinks, for models that take none (Claude 4.7 and later), and beside a temperature.",
    "top_k": "Left out when the model thinks, and for models that take none (Claude 4.7 and later).",
    "thinking": "Left out where a tool must be called, where the limit on the answer leaves no room for thoughts, and, told as a budget, "
    "where a turn goes on that began without a thought.",
    "max_output_tokens": "It is never left out: Anthropic requires a limit, and gets 16,000 and the thinking budget, "
    "or the most that an older Claude takes, where none was set.",
    "parallel_tools": "Left out where no tool may be called, and where true, which is Anthropic's default.",
}

#: Conversation field or part → why it is refused.
REFUSED: Final[dict[str, str]] = {
    "beyond": "the provider that this model is served by has nothing like it.",
    "n": "Anthropic gives one answer a request.",
    "logprobs": "Anthropic tells no log probabilities.",
    "top_logprobs": "Anthropic tells no log probabilities.",
    "presence_penalty": "Anthropic has no penalties.",
    "frequency_penalty": "Anthropic has no penalties.",
    "stop": "Anthropic takes no stop sequence of white space only.",
    "turns": "Anthropic takes instructions as text only, needs a turn besides them, and no user's turn of white space only.",
    "Image": "Anthropic takes JPEG, PNG, GIF and WebP images as base64, or any at an http(s) address.",
    "File": "Anthropic takes PDF and text as base64, or PDF at an http(s) address; no audio, no video, no other provider's file id.",
}
