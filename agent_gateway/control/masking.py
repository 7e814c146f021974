"""The configuration without its secrets, for people to look at.

Promise: what could be a secret is not shown, whether or not this program knows the setting.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from agent_gateway.core.settings import Settings

MASK = "…"

_SECRET = re.compile(r"(key|keys|token|secret|secrets|password|passphrase|credentials?|authorization|cookie|headers?)$", re.IGNORECASE)
#: Settings that end like a secret and are none.
_HARMLESS = frozenset({"key_header"})
#: Addresses whose path lets in whoever knows it.
_WEBHOOK = re.compile(r"(webhooks?|endpoint|url)$", re.IGNORECASE)
_OPEN = frozenset({"base_url", "jwks_url", "issuer"})
_OURS = "agent_gateway."


def masked(value: Any, name: str = "", *, is_ours: bool = True) -> Any:
    """A setting of that name as JSON has it. In a plug-in's settings that is not ours, all text but its kind is masked."""
    match value:
        case Struct():
            ours = is_ours and type(value).__module__.startswith(_OURS)
            return {field: masked(getattr(value, field), field, is_ours=ours) for field in value.__struct_fields__}
        case Mapping():
            return {str(key): masked(item, name if _is_secret(name) else str(key), is_ours=is_ours) for key, item in value.items()}
        case tuple() | list() | frozenset() | set():
            return [masked(item, name, is_ours=is_ours) for item in value]
        case str():
            return _text(value, name, is_ours=is_ours)
        case None | bool() | int() | float():
            return value
        case _:
            return MASK


def changed(before: Settings, after: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    """The sections that differ, masked: one in which only a secret was replaced looks the same."""
    names = [name for name in after.__struct_fields__ if getattr(before, name) != getattr(after, name)]
    was, is_now = [{name: masked(getattr(settings, name), name) for name in names} for settings in (before, after)]
    return was, is_now


def _text(text: str, name: str, *, is_ours: bool) -> str:
    if _is_secret(name) or text.startswith("sk-") or not (is_ours or name == "kind"):
        return MASK if text else text
    if "://" in text:
        return _address(text, name)
    return text


def _is_secret(name: str) -> bool:
    return _SECRET.search(name) is not None and name not in _HARMLESS


def _address(text: str, name: str) -> str:
    """Without user, password and query; of a webhook only where it leads. A password may hold what would end a host: it goes on to the
    last `@`.
    """
    scheme, _, rest = text.partition("://")
    user, _, place = ("", "", rest) if rest.startswith("/") else rest.rpartition("@")
    try:
        parts = urlsplit(f"{scheme}://{place}")
    except ValueError:
        return MASK
    if _WEBHOOK.search(name) and name not in _OPEN:
        return f"{scheme}://{parts.netloc}/{MASK}"
    query = f"?{MASK}" if parts.query else ""
    return f"{scheme}://{f'{MASK}@' if user else ''}{parts.netloc}{parts.path}{query}"
