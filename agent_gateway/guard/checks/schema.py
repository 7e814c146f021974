"""An answer that has to be JSON of a schema.

Promise: nothing is fetched for it, and its patterns run in time linear in the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import msgspec

from agent_gateway.guard.base import About, CheckSettings, Said, Side, Tools, Verdict

#: A pattern's compiled size (bytes).
PATTERN_MAX_BYTES = 1024 * 1024

_json: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


class Options(CheckSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: str = "schema"
    action: Literal["block", "flag"] = "block"
    #: JSON Schema, draft 4 to 2020-12; the draft as `$schema` says.
    schema: dict[str, Any]

    def __post_init__(self) -> None:
        compiled(self.schema)


def compiled(schema: dict[str, Any]) -> Any:
    """Raises `ValueError`, with the setting's name."""
    try:
        import jsonschema_rs
    except ImportError:
        raise ValueError("schema: needs jsonschema-rs; in a clone: pip install '.[guards]'") from None

    def retrieve(address: str) -> Any:
        raise ValueError(f"{address} is not fetched; put what is referred to under $defs")

    linear = jsonschema_rs.RegexOptions(size_limit=PATTERN_MAX_BYTES)
    try:
        return jsonschema_rs.validator_for(schema, retriever=retrieve, pattern_options=linear)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        raise ValueError(f"schema: is no JSON schema: {str(error).splitlines()[0]}") from None


class Check:
    Settings: ClassVar[type[Options]] = Options
    looks_at: ClassVar[Literal["whole"]] = "whole"
    sides: ClassVar[frozenset[Side]] = frozenset({"output"})
    stream_max_chars: int | None = None

    def __init__(self, settings: Options, tools: Tools) -> None:
        self._action = settings.action
        self._validator = compiled(settings.schema)

    async def judge(self, said: Sequence[Said], about: About) -> Verdict | None:
        """What a model thinks, or asks of a tool, is no answer."""
        return None if all(self._holds(text) for text, role in said if role == "assistant") else Verdict(self._action)

    def _holds(self, text: str) -> bool:
        try:
            value = _json.decode(text)
        except (msgspec.MsgspecError, RecursionError):
            return False
        return bool(self._validator.is_valid(value))
