"""Requests of the legacy completions, read and written.

Promise: only one prompt of text is a conversation, and only a conversation of one such turn a prompt; anything else is named.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Raw, structs

from agent_gateway.core.call import Call
from agent_gateway.core.conversation import Conversation, Text, Turn
from agent_gateway.core.errors import BadRequest, NotExpressible
from agent_gateway.core.route import Deployment
from agent_gateway.protocols.decoding import check_utf8, decode
from agent_gateway.protocols.end_user import user_of_openai
from agent_gateway.protocols.estimate import text_tokens
from agent_gateway.protocols.openai_chat.relay import with_parameters
from agent_gateway.wire import openai_completions as wire
from agent_gateway.wire.openai_chat import StreamOptions

#: Conversation field or part → why it goes unheard.
DROPPED = {
    "metadata": "Completions have no such parameter.",
    "cache_for": "Providers of this protocol cache prompts by themselves.",
    "thinking": "Models of this protocol do not think before they answer.",
    "Turn.name": "A prompt has no participants.",
    "parallel_tools": "No tools are called.",
}
#: Conversation field or part → why it is refused.
REFUSED = {
    "turns": "A completion has one prompt, of text.",
    "tools": "Completions call no tools.",
    "tool_choice": "Completions call no tools.",
    "format": "Completions answer with any text.",
    "top_k": "Completions have no such parameter.",
    "stop": "Completions take at most four stop sequences.",
    "beyond": "It has no counterpart in completions.",
}
STOP_MAX = 4

_json = msgspec.json.Encoder()
_head = msgspec.json.Decoder(wire.RequestHead)
_request = msgspec.json.Decoder(wire.Request)
_members = msgspec.json.Decoder(dict[str, Raw])
_SOME_PROMPT = re.compile(rb'"|\[\s*[^\s\]]')


# --- the client's side ------------------------------------------------------------------------------------------------


def read_call(body: bytes, forward_headers: dict[str, str]) -> Call:
    """Raises `BadRequest` whose `param` is the field's path."""
    if not body.isascii():
        check_utf8(body)
    head = decode(_head, body)
    if not _SOME_PROMPT.match(head.prompt):
        raise BadRequest("prompt: expected a string, or an array that is not empty.", param="prompt")
    options = head.stream_options
    return Call(
        dialect="openai_completions",
        model=head.model,
        body=body,
        stream=bool(head.stream),
        wants_usage=options is not None and bool(options.include_usage),
        # Some servers take a limit below 1 for "none".
        max_output_tokens=head.max_tokens if head.max_tokens and head.max_tokens > 0 else None,
        user=head.user,
        forward_headers=forward_headers,
    )


def read_conversation(call: Call) -> Conversation:
    asked = decode(_request, call.body)
    prompt = _one_text(asked.prompt)
    beyond = [name for name in ("suffix", "echo", "logit_bias") if getattr(asked, name)]
    if asked.best_of is not None and asked.best_of > 1:
        beyond.append("best_of")
    if prompt is None:
        beyond.append("prompt")
    stop = asked.stop
    return Conversation(
        model=asked.model,
        turns=(Turn("user", (Text(prompt or ""),)),),
        stream=bool(asked.stream),
        max_output_tokens=asked.max_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        stop=(stop,) if isinstance(stop, str) else tuple(stop or ()),
        seed=asked.seed,
        n=asked.n,
        presence_penalty=asked.presence_penalty,
        frequency_penalty=asked.frequency_penalty,
        logprobs=None if asked.logprobs is None else True,
        top_logprobs=asked.logprobs or None,
        user=asked.user,
        beyond=tuple(beyond),
        paths={"turns": "prompt", "max_output_tokens": "max_tokens", "top_logprobs": "logprobs"},
    )


def continued(call: Call, text: str) -> Call:
    """A completion carries on by nature: the answer so far is more of the prompt. Raises `NotExpressible`."""
    members = _members.decode(call.body)
    prompt = _one_text(msgspec.json.decode(members["prompt"]))
    if prompt is None:
        raise NotExpressible("prompt: only a single prompt of text can be continued.", param="prompt")
    members["prompt"] = Raw(_json.encode(prompt + text))
    if call.max_output_tokens is not None:
        members["max_tokens"] = Raw(b"%d" % max(call.max_output_tokens - text_tokens(text), 1))
    return structs.replace(call, body=_json.encode(members))


def by_prompt(call: Call) -> list[Call]:
    """A call for each of its prompts, where they are several texts; else the call itself."""
    members = _members.decode(call.body)
    match msgspec.json.decode(members["prompt"]):
        case [str(), str(), *_] as prompts:
            return [structs.replace(call, body=_json.encode(members | {"prompt": prompt})) for prompt in prompts]
        case _:
            return [call]


def _one_text(prompt: Any) -> str | None:
    """None: several prompts, or tokens."""
    match prompt:
        case str(text) | [str(text)]:
            return text
        case _:
            return None


# --- the provider's side ----------------------------------------------------------------------------------------------


def write_request(conversation: Conversation, deployment: Deployment) -> bytes:
    """Raises `NotExpressible`."""
    for path in conversation.beyond:
        raise NotExpressible(f"{path}: {REFUSED['beyond']}", param=path)
    for field in ("tools", "tool_choice", "format", "top_k"):
        if getattr(conversation, field):
            raise _not_expressible(conversation, field)
    if len(conversation.stop) > STOP_MAX:
        raise _not_expressible(conversation, "stop")
    request = wire.Request(
        model=deployment.model,
        prompt=_prompt(conversation),
        stream=conversation.stream or None,
        stream_options=StreamOptions(include_usage=True) if conversation.stream else None,
        max_tokens=conversation.max_output_tokens,
        n=conversation.n,
        stop=list(conversation.stop) or None,
        seed=conversation.seed,
        temperature=conversation.temperature,
        top_p=conversation.top_p,
        presence_penalty=conversation.presence_penalty,
        frequency_penalty=conversation.frequency_penalty,
        logprobs=(conversation.top_logprobs or 0) if conversation.logprobs else None,
        user=user_of_openai(conversation.user),
    )
    return with_parameters(_json.encode(request), deployment)


def _prompt(conversation: Conversation) -> str:
    match conversation.turns:
        case (Turn(role="user", parts=parts),):
            texts = [part.text for part in parts if isinstance(part, Text)]
            if len(texts) == len(parts):
                return "\n\n".join(texts)
    raise _not_expressible(conversation, "turns")


def _not_expressible(conversation: Conversation, field: str) -> NotExpressible:
    path = conversation.path(field)
    return NotExpressible(f"{path}: {REFUSED[field]}", param=path)
