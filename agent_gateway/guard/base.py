"""What a check promises, and the seat they sit in.

A finder looks at each text by itself and says where something begins and ends; a judge looks at all of a request, or of an answer,
together. What is done about it is the configuration's to say, and the stage's to do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from msgspec import Struct

from agent_gateway.core.clock import Clock
from agent_gateway.core.plugins import Seat

CHECKS = Seat(
    "checks",
    {name: f"agent_gateway.guard.checks.{name}:Check" for name in ("pii", "secrets", "injection", "deny", "size", "schema", "webhook")},
)

Side = Literal["input", "output"]
Action = Literal["block", "mask", "flag"]
#: Whose text it is; `arguments` are a tool call's, `thought` is never changed: its provider may have signed it.
Role = Literal["system", "user", "assistant", "tool", "arguments", "thought"]

#: A match is at most so long in a stream (characters): more is never held back for it.
REACH_MAX_CHARS = 8192
#: So many characters before a text that is still looked at stay in sight, for what must not stand before a match.
CONTEXT_CHARS = 128


class CheckSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every check is configured with; a plug-in adds its own, and `kind` and `action` with their defaults.

    `__post_init__` raises `ValueError` for what cannot be: the error is told with the setting's path, which the text may begin with
    (`pattern: …`).
    """

    kind: str
    action: Action
    #: None: as the kind.
    name: str | None = None

    @property
    def title(self) -> str:
        return self.name or self.kind


class Match(NamedTuple):
    start: int
    end: int
    #: Capital letters: what a placeholder calls it.
    label: str


class Said(NamedTuple):
    text: str
    role: Role


class Verdict(NamedTuple):
    action: Action
    #: With `mask`: as many texts as were judged.
    texts: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class About:
    """Of whose request it is."""

    side: Side
    request_id: str
    model: str
    key_id: str | None
    #: Of the request's time (s).
    left_s: float


#: (address, body, headers, seconds) → status and body. Follows no redirects; raises `OSError`, `TimeoutError` or `GatewayError`.
Post = Callable[[str, bytes, Mapping[str, str], float], Awaitable[tuple[int, bytes]]]


@dataclass(frozen=True, slots=True)
class Tools:
    """What a check may need of the outside."""

    post: Post
    clock: Clock


class Finder(Protocol):
    """A pure function of a text: whether something begins at a place depends on nothing but the text around that place."""

    Settings: ClassVar[type[CheckSettings]]
    looks_at: ClassVar[Literal["places"]]
    sides: ClassVar[frozenset[Side]]

    def __init__(self, settings: Any, tools: Tools) -> None: ...

    def find(self, text: str, start: int = 0) -> Match | None:
        """The first that begins at `start` or behind it; what stands before is only looked at."""

    def settled(self, text: str, start: int = 0) -> int:
        """Of a text that goes on: nothing that begins before here, and nothing that does not, is changed by what may follow. At least
        `len(text) - REACH_MAX_CHARS`; a text before `start` has been settled already.
        """


class Judge(Protocol):
    Settings: ClassVar[type[CheckSettings]]
    looks_at: ClassVar[Literal["whole"]]
    sides: ClassVar[frozenset[Side]]
    #: A stream is judged once it is longer than this (characters), and at its end, and goes out meanwhile. None: it is held back
    #: until the end, unless the check only flags.
    stream_max_chars: int | None

    def __init__(self, settings: Any, tools: Tools) -> None: ...

    async def judge(self, said: Sequence[Said], about: About) -> Verdict | None:
        """None: nothing against it. Raises `CheckFailed` where that cannot be said."""


Check = Finder | Judge


class CheckFailed(Exception):
    """A check could not be made. `lets_pass`: the operator wants the request to go on then."""

    def __init__(self, detail: str, *, lets_pass: bool) -> None:
        super().__init__(detail)
        self.detail = detail
        self.lets_pass = lets_pass
