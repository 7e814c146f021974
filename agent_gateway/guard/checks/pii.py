"""Personal data that has a form of its own: addresses, phone numbers, numbers with a checksum; and names from a list.

Promise: what has a checksum is found only where it is right, and only as a word of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from functools import reduce
from ipaddress import ip_address
from typing import Annotated, ClassVar, Literal, get_args

from msgspec import Meta

from agent_gateway.guard.base import Action, CheckSettings, Match, Side, Tools
from agent_gateway.guard.phrases import Phrases, check_phrases

Entity = Literal["email", "phone", "card", "iban", "ip", "ssn", "cn_id"]

#: The longest is an e-mail address.
_REACH_CHARS = 512


class Options(CheckSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: str = "pii"
    action: Action = "mask"
    entities: Annotated[tuple[Entity, ...], Meta(min_length=1)] = get_args(Entity)
    #: People, and whatever else is to be kept apart: whole words, in any case.
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_phrases("names", self.names)


class Check:
    Settings: ClassVar[type[Options]] = Options
    looks_at: ClassVar[Literal["places"]] = "places"
    sides: ClassVar[frozenset[Side]] = frozenset({"input", "output"})

    def __init__(self, settings: Options, tools: Tools) -> None:
        self._email = "email" in settings.entities
        self._numbers = [(_LABELS[entity], *_NUMBERS[entity]) for entity in _NUMBERS if entity in settings.entities]
        self._names = Phrases(settings.names) if settings.names else None

    def find(self, text: str, start: int = 0) -> Match | None:
        """Of two that begin together the earlier in the table."""
        first = _email(text, start) if self._email else None
        if self._numbers and (number := self._number(text, start, len(text) if first is None else first.start)) is not None:
            first = number
        if self._names is not None and (name := self._names.find(text, start)) is not None and (first is None or name[0] < first.start):
            first = Match(*name, "NAME")
        return first

    def _number(self, text: str, start: int, stop: int) -> Match | None:
        """The first before `stop`. Each form has a digit among its first three characters: only there is it looked for."""
        for digits in _FIRST_DIGIT.finditer(text, start, stop + 10):
            place = digits.start()
            if place - 2 >= stop:
                return None
            before = text[max(place - 2, start) : place]
            begins = [place]
            if before[-1:] in ("+", "("):
                begins.insert(0, place - 1)
            if len(before) == 2 and before.isascii() and before.isalpha() and before.isupper():
                begins.insert(0, place - 2)
            for begin in begins:
                for label, form, judge in self._numbers:
                    found = form.match(text, begin) if begin < stop else None
                    end = None if found is None else judge(found)
                    if end is not None:
                        return Match(begin, end, label)
        return None

    def settled(self, text: str, start: int = 0) -> int:
        settled = _open_from(text, max(start, len(text) - _REACH_CHARS))
        return settled if self._names is None else min(settled, self._names.settled(text, start))


_Judge = Callable[[re.Match[str]], int | None]

_LOCAL = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._%+-" + "".join(map(chr, range(0xC0, 0x250))))
_LOCAL_MAX_CHARS = 64
_NOT_INSIDE = r"(?<![A-Za-z0-9])"
_NOT_ON = r"(?![A-Za-z0-9])"
_DIGITS = re.compile(r"\D")
_FILES = r"(?:png|jpe?g|gif|svg|webp|bmp|ico|pdf|js|mjs|ts|tsx|jsx|css|scss|json|md|py|rb|rs|go|sh|ya?ml|toml|lock|html?)"

_EMAIL = (
    r"(?<![A-Za-z\u00c0-\u024f0-9._%+@/-])[A-Za-z\u00c0-\u024f0-9_](?:[A-Za-z\u00c0-\u024f0-9._%+-]{0,62}[A-Za-z\u00c0-\u024f0-9_%+-])?"
    rf"@(?!(?:[A-Za-z0-9-]+\.)*{_FILES}(?![A-Za-z0-9.-]))(?:[A-Za-z0-9](?:[A-Za-z0-9-]{{0,61}}[A-Za-z0-9])?\.){{1,5}}"
    r"[A-Za-z]{2,24}(?![A-Za-z0-9@_-])(?!:[\w.-]+/)"
)
_IBAN = rf"{_NOT_INSIDE}[A-Z]{{2}}[0-9]{{2}}(?: ?[A-Z0-9]){{11,30}}"
_CN_ID = rf"{_NOT_INSIDE}[1-9][0-9]{{5}}(?:18|19|20)[0-9]{{2}}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])[0-9]{{3}}[0-9Xx]{_NOT_ON}"
_CARD = rf"(?<![A-Za-z0-9])(?<![0-9][.-])[2-6][0-9]{{3}}(?:[ -]?[0-9]){{9,15}}{_NOT_ON}(?![.-][0-9])"
_SSN = r"(?<![A-Za-z0-9-])(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}(?![A-Za-z0-9])(?!-[0-9])"
_PHONE = (
    r"(?<![A-Za-z0-9+])(?<![0-9][.-])(?:"
    r"\+[1-9](?:[ .-]?\(?[0-9]\)?){7,14}"
    r"|(?:1[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .-])[2-9][0-9]{2}[ .-][0-9]{4}"
    r"|1[3-9][0-9](?:[0-9]{8}|-[0-9]{4}-[0-9]{4}| [0-9]{4} [0-9]{4})"
    r"|0[1-9][0-9]{1,2}-[2-9][0-9]{6,7}"
    rf"){_NOT_ON}(?![.-][0-9])"
)
_IP = (
    r"(?<![A-Za-z0-9.:])(?:(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(?![A-Za-z0-9])(?!\.[0-9])"
    r"|[23][0-9A-Fa-f]{3}(?::[0-9A-Fa-f]{0,4}){2,7}(?![A-Za-z0-9:]))"
)

#: Length by country: the IBAN registry of SWIFT, release 99.
_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK", 21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip


def _whole(found: re.Match[str]) -> int:
    return found.end()


def _iban(found: re.Match[str]) -> int | None:
    """Up to the length that its country gives it; what follows is another word."""
    text, left, end = found.string, _IBAN_LENGTHS.get(found[0][:2], 0), found.start()
    while left and end < found.end():
        left -= text[end] != " "
        end += 1
    following = text[end : end + 1]
    if left or end == found.start() or (following.isascii() and following.isalnum()):
        return None
    compact = text[found.start() : end].replace(" ", "")
    number = "".join(str(int(digit, 36)) for digit in compact[4:] + compact[:4])
    return end if int(number) % 97 == 1 else None


def _cn_id(found: re.Match[str]) -> int | None:
    """GB 11643-1999: ISO 7064 MOD 11-2 over a region, a day of birth and a sequence."""
    text = found[0].upper()
    try:
        date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        return None
    weight = sum(int(digit) * (2 ** (17 - place) % 11) for place, digit in enumerate(text[:17]))
    return found.end() if "10X98765432"[weight % 11] == text[17] else None


def _card(found: re.Match[str]) -> int | None:
    """Luhn, and a length that the issuer's prefix allows (ISO/IEC 7812)."""
    digits = _DIGITS.sub("", found[0])
    groups = [len(group) for group in re.split("[ -]", found[0])]
    if len(groups) > 1 and groups not in ([4, 4, 4, 4], [4, 4, 4, 4, 3], [4, 6, 5], [4, 6, 4]):
        return None
    four, length = int(digits[:4]), len(digits)
    known = (
        (digits[0] == "4" and length in (13, 16, 19))
        or ((5100 <= four <= 5599 or 2221 <= four <= 2720) and length == 16)
        or (digits[:2] in ("34", "37") and length == 15)
        or ((digits[:2] in ("36", "38", "39") or 3000 <= four <= 3059) and length == 14)
        or ((four == 6011 or 6440 <= four <= 6599 or digits[:2] == "62" or 3528 <= four <= 3589) and 16 <= length <= 19)
    )
    if not known or len(set(digits)) == 1:
        return None
    doubled = reduce(lambda total, digit: total + sum(divmod(2 * int(digit), 10)), digits[-2::-2], 0)
    return found.end() if (doubled + sum(map(int, digits[-1::-2]))) % 10 == 0 else None


def _ip(found: re.Match[str]) -> int | None:
    """Only what is routed in the Internet: `127.0.0.1` and `10.0.0.1` are nobody's."""
    try:
        return found.end() if ip_address(found[0]).is_global else None
    except ValueError:
        return None


_NUMBERS: dict[Entity, tuple[re.Pattern[str], _Judge]] = {
    "iban": (re.compile(_IBAN), _iban),
    "cn_id": (re.compile(_CN_ID), _cn_id),
    "card": (re.compile(_CARD), _card),
    "ssn": (re.compile(_SSN), _whole),
    "phone": (re.compile(_PHONE), _whole),
    "ip": (re.compile(_IP), _ip),
}
_LABELS: dict[Entity, str] = {
    "email": "EMAIL",
    "phone": "PHONE",
    "card": "CARD",
    "iban": "IBAN",
    "ip": "IP",
    "ssn": "SSN",
    "cn_id": "CNID",
}

#: The first digit of a run that may be long enough.
_FIRST_DIGIT = re.compile(r"(?<![0-9])[0-9](?=[0-9A-Za-f().:+ -]{6})")
_EMAIL_FORM = re.compile(_EMAIL)
#: How groups of digits begin, and what they are made of.
_GROUPS = re.compile(r"(?<![A-Za-z0-9])(?:[A-Z]{2}[0-9]{2}|[+(]?[0-9])")
_OF_GROUPS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ().+-")


def _email(text: str, start: int) -> Match | None:
    """What stands before an `@` is one run of its letters: there it begins, or nowhere."""
    at = text.find("@", start)
    while at >= 0:
        begin = at
        while begin > start and at - begin <= _LOCAL_MAX_CHARS and text[begin - 1] in _LOCAL:
            begin -= 1
        found = _EMAIL_FORM.match(text, begin) if begin < at else None
        if found is not None:
            return Match(begin, found.end(), "EMAIL")
        at = text.find("@", at + 1)
    return None


def _open_from(text: str, floor: int) -> int:
    """Where a form could have begun that what follows may complete, or spoil: in a run of printable ASCII
    and of letters with accents, or of groups of digits."""
    place = len(text)
    while place > floor and ("!" <= (letter := text[place - 1]) <= "~" or letter in _LOCAL):
        place -= 1
    groups_place = len(text)
    while groups_place > floor and text[groups_place - 1] in _OF_GROUPS:
        groups_place -= 1
    groups = _GROUPS.search(text, groups_place)
    return place if groups is None else min(place, groups.start())
