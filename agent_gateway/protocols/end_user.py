"""Who a request is for, as a provider of another protocol takes it: ids of users have bounds that differ, and none is the client's fault.

Promise: the same user is the same to the provider, always, and an id that it takes goes out as it came.
"""

from __future__ import annotations

import re
from hashlib import sha256

#: Source: OpenAI's API reference, `safety_identifier`; `user` is held to the same: "Expected a string with maximum length 64".
OPENAI_MAX_CHARS = 64
#: Anthropic asks for "a uuid, hash value, or other opaque identifier" of at most 256 characters, and refuses what looks like an e-mail
#: address or a telephone number. Source: `metadata.user_id` in its API reference.
_OPAQUE = re.compile(r"(?=.*[a-zA-Z])[a-zA-Z0-9_-]{1,256}")


def user_of_openai(user: str | None) -> str | None:
    return user if user is None or len(user) <= OPENAI_MAX_CHARS else _hash(user)


def user_of_anthropic(user: str | None) -> str | None:
    return user if not user or _OPAQUE.fullmatch(user) else _hash(user)


def _hash(user: str) -> str:
    """64 characters."""
    return sha256(user.encode()).hexdigest()
