"""Credentials: forms that providers give their keys, private keys and tokens, and what is assigned to a name like `password`.

Promise: a form that is known is found by its form; anything else only where a name says what it is and it looks like chance.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import log2
from typing import ClassVar, Literal

from agent_gateway.guard.base import Action, CheckSettings, Match, Side, Tools

#: Shannon entropy of a value that a name says is a secret (bits a character); words and identifiers have less.
ENTROPY_MIN_BITS = 3.5
VALUE_MIN_CHARS = 16
#: Of private keys and long tokens, and of all others.
REACH_CHARS = 8192
SHORT_REACH_CHARS = 300
#: From a value back to what says that it is one.
BEHIND_CHARS = 80


class Options(CheckSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: str = "secrets"
    action: Action = "mask"
    #: Values that only a name beside them (`password = …`) and their look make a secret.
    assignments: bool = True


class Check:
    Settings: ClassVar[type[Options]] = Options
    looks_at: ClassVar[Literal["places"]] = "places"
    sides: ClassVar[frozenset[Side]] = frozenset({"input", "output"})

    def __init__(self, settings: Options, tools: Tools) -> None:
        self._assignments = settings.assignments

    def find(self, text: str, start: int = 0) -> Match | None:
        first: Match | None = None
        for form in _FORMS:
            first = form.before(text, start, first) or first
        first = _PASSWORD_IN_URL.before(text, start, first) or first
        if self._assignments:
            lowered = text.lower()
            if len(lowered) == len(text):
                first = _ASSIGNMENT.before(text, start, first, lowered) or first
        return first

    def settled(self, text: str, start: int = 0) -> int:
        floor = max(start, len(text) - REACH_CHARS)
        for begins, form in _LONG:
            place = text.find(begins, floor)
            while place >= 0:
                if form.match(text, place) is not None:
                    return min(place, self._run(text, start))
                place = text.find(begins, place + 1)
        return self._run(text, start)

    @staticmethod
    def _run(text: str, start: int) -> int:
        """Where the printable ASCII at the end begins."""
        floor = max(start, len(text) - SHORT_REACH_CHARS)
        place = len(text)
        while place > floor and "!" <= text[place - 1] <= "~":
            place -= 1
        return place


@dataclass(frozen=True, slots=True)
class Form:
    """`begins`: literals that it begins with, or that stand up to `BEHIND_CHARS` before it."""

    label: str
    begins: tuple[str, ...]
    form: re.Pattern[str]
    #: Whether what has the form is meant.
    holds: Callable[[str], bool] | None = None
    #: The literals stand before what is found, which is the group `value`.
    behind: bool = False

    def before(self, text: str, start: int, other: Match | None, searched: str | None = None) -> Match | None:
        """The first, where it begins before the other."""
        searched = text if searched is None else searched
        first: Match | None = None
        for literal in self.begins:
            stop = len(text) if other is None else other.start + len(literal)
            place = searched.find(literal, max(start - BEHIND_CHARS, 0) if self.behind else start, stop)
            while place >= 0:
                match = self._at(text, place)
                if match is not None and match.start >= start:
                    if other is None or match.start < other.start:
                        first = other = match
                    break
                place = searched.find(literal, place + 1, stop)
        return first

    def _at(self, text: str, place: int) -> Match | None:
        found = self.form.match(text, place)
        if found is None:
            return None
        begin, end = found.span("value") if self.behind else found.span()
        return None if self.holds is not None and not self.holds(text[begin:end]) else Match(begin, end, self.label)


def _looks_random(value: str) -> bool:
    """Chance, by its entropy and by having letters and digits; a path, a name in words or a placeholder is none."""
    if not (any(letter.isdigit() for letter in value) and any(letter.isalpha() for letter in value)):
        return False
    counts = Counter(value).values()
    return -sum(count / len(value) * log2(count / len(value)) for count in counts) >= ENTROPY_MIN_BITS


_B64 = r"[A-Za-z0-9_-]"
_NAMED: dict[str, tuple[tuple[str, ...], str]] = {
    "AWSKEY": (("AKIA", "ASIA"), r"A(?:K|S)IA[A-Z2-7]{16}"),
    "GITHUBKEY": (
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        r"(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59})",
    ),
    "ANTHROPICKEY": (("sk-ant-",), rf"sk-ant-(?:api|admin|oat|sid)[0-9]{{2}}-{_B64}{{80,128}}"),
    "ROUTERKEY": (("sk-or-",), r"sk-or-v1-[0-9a-f]{64}"),
    "OPENAIKEY": (("sk-",), rf"sk-(?:(?:proj|svcacct|admin)-{_B64}{{40,200}}|[A-Za-z0-9]{{32,64}})"),
    "GOOGLEKEY": (("AIza",), rf"AIza{_B64}{{35}}"),
    "GROQKEY": (("gsk_",), r"gsk_[A-Za-z0-9]{52}"),
    "HUGGINGKEY": (("hf_",), r"hf_[A-Za-z]{34}"),
    "GATEWAYKEY": (("agw_",), rf"agw_[A-Za-z0-9]{{4,32}}_{_B64}{{16,128}}"),
    "SLACKKEY": (("xox",), r"xox[abeoprs]-[A-Za-z0-9-]{20,250}"),
    "STRIPEKEY": (("sk_live_", "sk_test_", "rk_live_", "rk_test_"), r"[sr]k_(?:live|test)_[A-Za-z0-9]{24,247}"),
    "GITLABKEY": (("glpat-",), rf"glpat-{_B64}{{20,40}}"),
    "NPMKEY": (("npm_",), r"npm_[A-Za-z0-9]{36}"),
    "TWILIOKEY": (("SK",), r"SK[0-9a-f]{32}"),
    "SENDGRIDKEY": (("SG.",), rf"SG\.{_B64}{{22}}\.{_B64}{{43}}"),
    "JWT": (("eyJ",), rf"eyJ{_B64}{{8,1024}}\.eyJ{_B64}{{8,4096}}\.{_B64}{{16,1024}}"),
}
_PEM_NAME = r"(?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?"
_PEM_BODY = r"(?:[A-Za-z0-9+/=\s:,.()\\]|-(?!----))"
_PEM = rf"-----BEGIN {_PEM_NAME}-----{_PEM_BODY}{{0,8000}}+-----END {_PEM_NAME}-----"
_FORMS = (
    Form("PRIVATEKEY", ("-----BEGIN ",), re.compile(_PEM)),
    *(Form(label, begins, re.compile(rf"(?<![A-Za-z0-9_-]){form}(?![A-Za-z0-9_-])")) for label, (begins, form) in _NAMED.items()),
)
#: `postgres://user:this@host`
_PASSWORD_IN_URL = Form(
    "PASSWORD",
    ("://",),
    re.compile(r"""://[A-Za-z0-9_.~%+-]{0,64}:(?P<value>[^\s/@:'"<>]{3,128})@(?=[A-Za-z0-9\[])"""),
    behind=True,
)
_ASSIGNMENT = Form(
    "SECRET",
    ("password", "passwd", "secret", "token", "api_key", "apikey", "api-key", "access_key", "auth_key"),
    re.compile(
        r"""[A-Za-z_-]{6,24}["']?[ ]?(?::=|[:=])[ ]?["']?"""
        rf"""(?P<value>(?<![A-Za-z0-9+/_.~-])[A-Za-z0-9+/_.~-]{{{VALUE_MIN_CHARS},200}}={{0,2}})(?![A-Za-z0-9+/_.~(-])"""
    ),
    _looks_random,
    behind=True,
)
#: What is longer than `SHORT_REACH_CHARS`, by its first letters: whether it could still go on at the end of the text.
_LONG = (
    ("eyJ", re.compile(r"eyJ[A-Za-z0-9_.-]*+\Z")),
    (
        "-----BEGIN ",
        re.compile(
            rf"-----BEGIN [A-Z0-9 ]{{0,48}}(?:-{{1,4}}|-----{_PEM_BODY}{{0,8060}}+(?:-----(?:E|EN|END[A-Z0-9 ]{{0,48}}-{{0,4}})?)?)?\Z"
        ),
    ),
)
