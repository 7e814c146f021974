"""Several requests as one with all their inputs, and its answer as theirs again: embeddings, and completions.

Promise: what a result says stays byte for byte, and what was used is shared out to the last token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Literal

import msgspec
from msgspec import Raw, structs

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.errors import MalformedReply
from agent_gateway.protocols.estimate import text_tokens

#: A larger request goes alone (bytes).
BODY_MAX_BYTES = 64 * 1024
#: Parameters with which several inputs are answered in another way than each alone: so many answers each, one random sequence for all.
#: With them, what they may say all the same.
ALONE_WITH: dict[str, tuple[bytes, ...]] = {"n": (b"null", b"1"), "best_of": (b"null", b"1"), "seed": (b"null",)}

_CACHED = ("cached_tokens", "cache_write_tokens")
_json = msgspec.json.Encoder()
_members = msgspec.json.Decoder(dict[str, Raw])
_elements = msgspec.json.Decoder(list[Raw])
_results = msgspec.json.Decoder(list[dict[str, Raw]])
_index = msgspec.json.Decoder(int)
_usage = msgspec.json.Decoder(dict[str, Any] | None)


@dataclass(frozen=True, slots=True)
class _Form:
    """Where a protocol says what goes in, and what came out of it."""

    inputs: str
    results: str
    #: Whether a request with several inputs of its own may be one of several.
    lists: bool


_FORMS: dict[Dialect, _Form] = {
    "openai_embeddings": _Form("input", "data", lists=True),
    "openai_completions": _Form("prompt", "choices", lists=False),
}
SEVERAL: frozenset[Dialect] = frozenset(_FORMS)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Of one request; `values` are JSON. Those of equal `parameters` may be asked for together."""

    values: tuple[Raw, ...]
    parameters: tuple[Any, ...]

    @property
    def estimated_tokens(self) -> int:
        return sum([_estimated_tokens(value) for value in self.values])


def read_inputs(call: Call) -> Inputs | None:
    """None: the request goes alone. Its body is known to be one of the protocol."""
    form = _FORMS[call.dialect]
    if call.stream or len(call.body) > BODY_MAX_BYTES:
        return None
    members = _members.decode(call.body)
    values = _values(bytes(members.pop(form.inputs)))
    del members["model"]
    if len(values) != 1 and not form.lists:
        return None
    if any(name in members and bytes(members[name]) not in harmless for name, harmless in ALONE_WITH.items()):
        return None
    kind: Literal["tokens", "text"] = "tokens" if bytes(values[0]).startswith(b"[") else "text"
    return Inputs(values, (call.dialect, kind, *sorted([(name, bytes(value)) for name, value in members.items()])))


def merged(call: Call, several: Sequence[Inputs]) -> Call:
    """The call with all their inputs; it is the one of the first of them."""
    members = _members.decode(call.body)
    members[_FORMS[call.dialect].inputs] = Raw(_json.encode([value for inputs in several for value in inputs.values]))
    return structs.replace(call, body=_json.encode(members))


def split(body: bytes, dialect: Dialect, several: Sequence[Inputs]) -> list[bytes]:
    """The answer to a merged call as each one's own. Raises `MalformedReply` where it does not have one result for each input."""
    form = _FORMS[dialect]
    bounds = [0, *accumulate([len(inputs.values) for inputs in several])]
    try:
        answer = _members.decode(body)
        results = _in_order(_results.decode(answer.get(form.results, Raw(b"[]"))), bounds[-1])
        usage = _usage.decode(answer.get("usage", Raw(b"null")))
    except msgspec.MsgspecError as error:
        raise MalformedReply("The model provider's answer is not valid JSON of its protocol.", detail=str(error)) from None
    parts = [results[start:end] for start, end in pairwise(bounds)]
    asked = [inputs.estimated_tokens for inputs in several]
    usages = [None] * len(parts) if usage is None else _shared_usage(usage, asked, [_said_tokens(part) for part in parts])
    return [_json.encode(_own(answer, form, number, part, share)) for number, (part, share) in enumerate(zip(parts, usages, strict=True))]


def share_out(amount: int, weights: Sequence[int]) -> list[int]:
    """Whole numbers as the weights are to each other, whose sum is `amount`: what the fractions leave over goes to the largest of them."""
    whole = sum(weights)
    if whole == 0:
        weights, whole = [1] * len(weights), len(weights)
    shares = [amount * weight // whole for weight in weights]
    by_fraction = sorted(range(len(weights)), key=lambda place: amount * weights[place] % whole, reverse=True)
    for place in by_fraction[: amount - sum(shares)]:
        shares[place] += 1
    return shares


def _values(given: bytes) -> tuple[Raw, ...]:
    """A text, texts, one list of tokens, or several."""
    if given.startswith(b'"'):
        return (Raw(given),)
    values = _elements.decode(given)
    return tuple(values) if bytes(values[0])[:1] in (b'"', b"[") else (Raw(given),)


def _estimated_tokens(value: Raw) -> int:
    text = bytes(value)
    return text.count(b",") + 1 if text.startswith(b"[") else text_tokens(msgspec.json.decode(text))


def _said_tokens(results: Sequence[dict[str, Raw]]) -> int:
    """Of completions; vectors are made of no tokens."""
    texts = [msgspec.json.decode(result["text"]) for result in results if "text" in result]
    return sum([text_tokens(text) for text in texts if isinstance(text, str)])


def _in_order(results: list[dict[str, Raw]], count: int) -> list[dict[str, Raw]]:
    """By their index, or as they stand where they tell none."""
    by_index = {_index.decode(result["index"]) if "index" in result else place: result for place, result in enumerate(results)}
    if len(results) != count or by_index.keys() != set(range(count)):
        detail = f"{len(results)} results of {count}, {len(by_index)} of them told apart"
        raise MalformedReply("The model provider did not answer each input of a merged call.", detail=detail)
    return [by_index[index] for index in range(count)]


def _own(answer: dict[str, Raw], form: _Form, number: int, results: Sequence[dict[str, Raw]], usage: Any) -> dict[str, Any]:
    own: dict[str, Any] = dict(answer)
    own[form.results] = [result | {"index": Raw(b"%d" % index)} for index, result in enumerate(results)]
    if usage is not None:
        own["usage"] = usage
    if "id" in own:  # an id is of one answer
        own["id"] = f"{msgspec.json.decode(answer['id'])}-{number}"
    return own


# --- what was used ----------------------------------------------------------------------------------------------------


def _shared_usage(usage: dict[str, Any], asked: list[int], said: list[int]) -> list[dict[str, Any]]:
    """Every number of it: those of the input as the inputs are long, those of the output as the results are, others (a total) as both."""
    prompt = _spread(usage.get("prompt_tokens"), asked)
    completion = _spread(usage.get("completion_tokens"), said)
    inputs, outputs = [share or 0 for share in prompt], [share or 0 for share in completion]
    both = [into + out for into, out in zip(inputs, outputs, strict=True)]
    spread = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": _details(usage.get("prompt_tokens_details"), inputs),
        "completion_tokens_details": _details(usage.get("completion_tokens_details"), outputs),
    }
    shares = {name: spread.get(name) or _spread(value, both) for name, value in usage.items()}
    return [{name: share[place] for name, share in shares.items()} for place in range(len(asked))]


def _details(details: Any, shares: list[int]) -> list[Any]:
    """Of the tokens that each one's are. What was read from a cache and what was written to one are not the same tokens."""
    if not isinstance(details, dict):
        return _spread(details, shares)
    spread: dict[str, list[Any]] = {}
    left = shares
    for name, value in details.items():
        if name in _CACHED and isinstance(value, int):
            spread[name] = share_out(value, left)
            left = [max(have - taken, 0) for have, taken in zip(left, spread[name], strict=True)]
        else:
            spread[name] = _spread(value, shares)
    return [{name: share[place] for name, share in spread.items()} for place in range(len(shares))]


def _spread(value: Any, weights: list[int]) -> list[Any]:
    """Numbers are shared out, in whatever they are nested; anything else is said to everyone."""
    match value:
        case bool():
            return [value] * len(weights)
        case int():
            return share_out(value, weights)
        case float():
            whole = sum(weights)
            return [value * weight / whole if whole else value / len(weights) for weight in weights]
        case dict():
            spread = {name: _spread(inner, weights) for name, inner in value.items()}
            return [{name: share[place] for name, share in spread.items()} for place in range(len(weights))]
        case _:
            return [value] * len(weights)
