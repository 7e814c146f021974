"""What other providers' models said, in a conversation that goes to Gemini as it came: it refuses their thoughts' signatures, and since
Gemini 3 calls of tools that nobody signed.

Promise: the thoughts are left out, the calls get the word that stands for a signature, and nothing else of the request is touched.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Raw, Struct

from agent_gateway.protocols.gemini.parts import NOT_SIGNED, SEALED, read_thought
from agent_gateway.wire.gemini import NULL

#: A string that begins as a sealed signature does: a quotation mark inside a JSON string is escaped.
_MARK = f'"{SEALED}'.encode()


_CALL = re.compile(rb'"function(?:Call|_call)"\s*:')


class _Signed(Struct):
    thoughtSignature: str | None = None
    thought_signature: str | None = None

    @property
    def signature(self) -> str | None:
        return self.thoughtSignature or self.thought_signature


class _Called(_Signed):
    functionCall: Raw = NULL
    function_call: Raw = NULL


_members = msgspec.json.Decoder(dict[str, Raw])
_list = msgspec.json.Decoder(list[Raw])
_contents = msgspec.json.Decoder(list[dict[str, Raw]])
_signed = msgspec.json.Decoder(_Signed)
_called = msgspec.json.Decoder(_Called)
_json = msgspec.json.Encoder()


def without_foreign_thoughts(body: bytes) -> bytes:
    """As it was where there are none."""
    if _MARK not in body:
        return body
    members = _members.decode(body)
    try:
        kept = [_without(content) for content in _contents.decode(members["contents"])]
    except msgspec.ValidationError:  # a lone turn, the user's; or what is Gemini's to refuse
        return body
    return _json.encode(members | {"contents": [content for content in kept if content is not None]})


def with_signed_calls(body: bytes) -> bytes:
    """As it was where the first call of each turn is signed, as Gemini signs them."""
    if not _CALL.search(body):
        return body
    members = _members.decode(body)
    try:
        contents = _contents.decode(members["contents"])
        signed = [_signing(content) for content in contents]
    except msgspec.ValidationError:  # a lone turn, the user's; or what is Gemini's to refuse
        return body
    changed = any(one is not other for one, other in zip(contents, signed, strict=True))
    return _json.encode(members | {"contents": signed}) if changed else body


def _signing(content: dict[str, Raw]) -> dict[str, Raw]:
    """The same content where there is nothing to sign."""
    told = content.get("parts")
    if told is None or not _CALL.search(bytes(told)):
        return content
    parts = _list.decode(told)
    for index, part in enumerate(parts):
        read = _called.decode(part)
        if read.functionCall == NULL and read.function_call == NULL:
            continue
        if read.signature is not None:
            break
        members = _members.decode(part) | {"thoughtSignature": Raw(_json.encode(NOT_SIGNED))}
        members.pop("thought_signature", None)
        parts[index] = Raw(_json.encode(members))
        return content | {"parts": Raw(_json.encode(parts))}
    return content


def _without(content: dict[str, Raw]) -> dict[str, Raw] | None:
    """None where nothing of it is left."""
    told = content.get("parts")
    if told is None or _MARK not in bytes(told) or not bytes(told).startswith(b"["):
        return content
    parts = [part for part in _list.decode(told) if not _is_foreign(bytes(part))]
    return content | {"parts": Raw(_json.encode(parts))} if parts else None


def _is_foreign(part: bytes) -> bool:
    signature = _signed.decode(part).signature
    return signature is not None and read_thought("", signature).origin != "gemini"
