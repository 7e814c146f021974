"""What a model said, as Gemini's parts: written for a provider's history and for a client's answer, signatures read back.

Promise: a signature of Gemini's hangs on the part that it came with; one of another provider's comes back as it was made.
"""

from __future__ import annotations

import base64
import binascii
from typing import assert_never

import msgspec
from msgspec import Raw, Struct

from agent_gateway.core.conversation import Reasoning, Refusal, Text, ToolUse
from agent_gateway.protocols.fold import AnswerPart
from agent_gateway.protocols.signature import read_signature, shown_signature
from agent_gateway.wire import gemini as wire

#: How base64 of `agw^`, the mark of `protocols.signature`, begins.
SEALED = "YWd3X"
#: Stands in for the signature of a call that Gemini did not make. Source: Google, "Thought signatures" of the Gemini API.
NOT_SIGNED = "skip_thought_signature_validator"
_URL_SAFE = str.maketrans("-_", "+/")

_object = msgspec.json.Decoder(dict[str, Raw])
_json = msgspec.json.Encoder()


class _Seal(Struct, array_like=True):
    """All that another protocol's reasoning holds beside its text: Gemini has one field for it."""

    signature: str | None = None
    redacted: str | None = None
    id: str | None = None


_seal = msgspec.json.Decoder(_Seal)


def arguments_object(arguments: str) -> Raw | None:
    """The JSON text of a tool call's arguments as a JSON object; None where it is none."""
    if not arguments.strip():
        return Raw(b"{}")
    try:
        _object.decode(arguments)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return Raw(arguments.encode())


def read_thought(text: str, shown: str) -> Reasoning:
    """A thought, or the one before a part, with the signature that hangs on it."""
    if shown.startswith(SEALED):
        try:
            signature, origin = read_signature(_from_base64(shown), "gemini")
            seal = _seal.decode(signature)
        except (ValueError, msgspec.MsgspecError):
            return Reasoning(text, shown, origin="gemini")  # a signature that begins so by chance
        return Reasoning(text, seal.signature, seal.redacted, origin, seal.id)
    return Reasoning(text, shown, origin="gemini")


class PartWriter:
    """Parts one after the other, of one turn or choice. `signature` is owed to the part that comes next.

    The thought before a part and the signature on it are one `Reasoning` where they have been folded, so its signature goes to the
    next part: Gemini signs what follows a thought, not the thought.
    """

    __slots__ = ("malformed", "signature")

    def __init__(self) -> None:
        self.signature: str | None = None
        #: A tool call whose arguments are no JSON object: it was left out.
        self.malformed: ToolUse | None = None

    def write(self, part: AnswerPart) -> list[wire.Part]:
        match part:
            case Text(text=text) | Refusal(text=text):
                return [wire.Part(text=text, thought_signature=self._owed())]
            case Reasoning():
                return self._thought(part)
            case ToolUse():
                arguments = arguments_object(part.arguments)
                if arguments is None:
                    self.malformed = part
                    return []
                call = wire.FunctionCall(part.name, arguments, part.id)
                return [wire.Part(function_call=call, thought_signature=self._owed())]
        assert_never(part)

    def end(self) -> list[wire.Part]:
        """A signature that nothing followed hangs on an empty text, as Gemini's own streams end."""
        return [wire.Part(text="", thought_signature=self._owed())] if self.signature else []

    def _owed(self) -> str | None:
        signature, self.signature = self.signature, None
        return signature

    def _thought(self, thought: Reasoning) -> list[wire.Part]:
        parts = self.end()
        native = thought.origin == "gemini"
        sealed = None if native else _sealed(thought)
        if thought.text or sealed:
            parts.append(wire.Part(text=thought.text or None, thought=True, thought_signature=sealed))
        if native:
            self.signature = thought.signature
        return parts


def _sealed(thought: Reasoning) -> str | None:
    """The field is base64, whatever is in it: SDKs decode it to bytes."""
    if thought.origin is None or not (thought.signature or thought.redacted):
        return None
    seal = _json.encode(_Seal(thought.signature, thought.redacted, thought.id)).decode()
    return base64.b64encode(shown_signature(seal, thought.origin, "gemini").encode()).decode()


def _from_base64(text: str) -> str:
    """SDKs send back either alphabet, with padding or without."""
    plain = text.translate(_URL_SAFE).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True).decode()
    except binascii.Error as error:
        raise ValueError(str(error)) from None
