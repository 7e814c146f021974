"""A deployment's parameters (`default`, `override`) in Gemini's request, where they stand in `generationConfig` or beside it.

Promise: names of OpenAI's are understood, both spellings of a field are one, and what the client did not say is all that is filled in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from agent_gateway.core.route import Deployment
from agent_gateway.protocols.gemini.spelling import camel_name, spelt

_json = msgspec.json.Encoder()
_members = msgspec.json.Decoder(dict[str, Raw])

#: OpenAI's names, where they are no other spelling of Gemini's.
_NAMES = {
    "maxTokens": "maxOutputTokens",
    "maxCompletionTokens": "maxOutputTokens",
    "stop": "stopSequences",
    "n": "candidateCount",
}
#: What stands beside `generationConfig`.
_TOP_LEVEL = {"tools", "toolConfig", "systemInstruction", "safetySettings", "cachedContent", "labels", "serviceTier", "store"}


def with_parameters(members: dict[str, Raw], deployment: Deployment) -> dict[str, Raw]:
    """The members of a request with the deployment's in them."""
    config_name = spelt(members, "generationConfig")
    told = members.get(config_name)
    config = _members.decode(told) if told is not None and bytes(told) != b"null" else {}
    for parameters, wins in ((deployment.default, False), (deployment.override, True)):
        for name, value in _flat(parameters):
            place = members if name in _TOP_LEVEL else config
            spelling = spelt(place, name)
            if wins or spelling not in place:
                place[spelling] = Raw(_json.encode(value))
    return members | {config_name: Raw(_json.encode(config))} if config else members


def _flat(parameters: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for spelling, value in parameters.items():
        name = camel_name(spelling)
        name = _NAMES.get(name, name)
        if name == "generationConfig" and isinstance(value, dict):
            yield from _flat(value)
        else:
            yield name, [value] if name == "stopSequences" and isinstance(value, str) else value
