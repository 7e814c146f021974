"""What every check promises (`guard/base.py`)."""

from __future__ import annotations

import inspect
import re
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agent_gateway.core.clock import SYSTEM_CLOCK
from agent_gateway.core.plugins import TITLE
from agent_gateway.guard.base import CHECKS, CONTEXT_CHARS, REACH_MAX_CHARS, About, Check, Finder, Judge, Match, Said, Tools

#: For each, settings with nothing that is left to its default, and where there are several ways to work, each of them.
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "pii": [{}, {"names": ["Ann Smith", "王小明", "O'Neill"]}, {"entities": ["card", "phone"]}],
    "secrets": [{}, {"assignments": False}],
    "injection": [{}, {"threshold": 5, "action": "block"}],
    "deny": [{"pattern": "(?i)project\\s+x|[0-9]{3,6}b?"}, {"pattern": "a.*?z$", "max_chars": 12}, {"words": ["project x", "bob", "秘密"]}],
    "size": [{"max_chars": 10}],
    "schema": [{"schema": {"type": "object", "required": ["a"]}}],
    "webhook": [{"url": "http://127.0.0.1:9/check"}],
}
EVERY = [
    pytest.param(kind, settings, id=f"{kind}-{number}") for kind, several in SETTINGS.items() for number, settings in enumerate(several)
]
FINDERS = [param for param in EVERY if CHECKS.load(str(param.values[0])).looks_at == "places"]
JUDGES = [param for param in EVERY if CHECKS.load(str(param.values[0])).looks_at == "whole"]
every_check = pytest.mark.parametrize(("kind", "settings"), EVERY)
every_finder = pytest.mark.parametrize(("kind", "settings"), FINDERS)
every_judge = pytest.mark.parametrize(("kind", "settings"), JUDGES)

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
#: What some check looks for, whole and in pieces, and what stands around it.
FOUND = [
    "ann@example.com", "+49 30 901820", "(415) 555-2671", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00", "8.8.8.8",
    "2001:4860:4860::8888", "123-45-6789", "11010519491231002X", "Ann Smith", "王小明",
    "ann\n Smith", "project  X", "project x", "秘密", "1234b",
    "AKIAIOSFODNN7EXAMPLE", "sk-proj-" + "aB3" * 20, "https://u:pa55word@db.example.com/x", 'password = "f9Ks03jd82Lq0zXv"',
    "-----BEGIN PRIVATE KEY-----\nMIIEvQIB\n-----END PRIVATE KEY-----",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
]  # fmt: skip
pieces = st.sampled_from([*FOUND, " ", "\n", "a", "z", ".", "-", "(", "+", "1", "@", "é", "電", "\ud83d", '"', "x" * 40, "-----BEGIN "])
beginnings = st.sampled_from(FOUND).flatmap(lambda text: st.integers(1, len(text)).map(lambda end: text[:end]))
texts = st.lists(pieces | beginnings, max_size=8).map("".join)


async def no_post(url: str, body: bytes, headers: Any, timeout_s: float) -> tuple[int, bytes]:
    return 200, b'{"action": "allow"}'


def make(kind: str, settings: dict[str, Any]) -> Any:
    plugin: type[Check] = CHECKS.load(kind)
    return plugin(msgspec.convert({"kind": kind, **settings}, plugin.Settings), Tools(no_post, SYSTEM_CLOCK))


def all_of(finder: Finder, text: str, start: int = 0) -> list[Match]:
    found = []
    while (match := finder.find(text, start)) is not None:
        found.append(match)
        start = match.start + 1
    return found


def test_every_check_is_in_the_suite() -> None:
    assert set(SETTINGS) == set(CHECKS.names)


@every_check
def test_its_settings_are_its_own_and_closed(kind: str, settings: dict[str, Any]) -> None:
    plugin: type[Check] = CHECKS.load(kind)
    made = msgspec.convert({"kind": kind, **settings}, plugin.Settings)
    assert made.kind == kind
    assert TITLE.fullmatch(made.title)
    assert msgspec.convert({"kind": kind, "name": "mine", **settings}, plugin.Settings).title == "mine"
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"kind": kind, "unheard_of": 1, **settings}, plugin.Settings)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"kind": kind, **settings, "action": "explode"}, plugin.Settings)


@every_check
def test_it_says_what_it_is(kind: str, settings: dict[str, Any]) -> None:
    plugin: type[Check] = CHECKS.load(kind)
    assert plugin.looks_at in ("places", "whole")
    assert plugin.sides
    assert plugin.sides <= {"input", "output"}
    if plugin.looks_at == "whole":
        limit = make(kind, settings).stream_max_chars
        assert limit is None or limit > 0


@every_finder
@unhurried
@given(text=texts, start=st.integers(0, 60))
def test_a_match_is_a_piece_of_the_text(kind: str, settings: dict[str, Any], text: str, start: int) -> None:
    finder: Finder = make(kind, settings)
    match = finder.find(text, min(start, len(text)))
    if match is not None:
        assert min(start, len(text)) <= match.start < match.end <= len(text)
        assert match.end - match.start <= REACH_MAX_CHARS
        assert re.fullmatch("[A-Z]{2,16}", match.label)


@every_finder
@unhurried
@given(text=texts)
@example(text="ann@example.com ann@example.com")
def test_where_the_search_begins_changes_nothing_behind_it(kind: str, settings: dict[str, Any], text: str) -> None:
    finder: Finder = make(kind, settings)
    found = all_of(finder, text)
    for start in range(len(text)):
        expected = next((match for match in found if match.start >= start), None)
        assert finder.find(text, start) == expected


@every_finder
@unhurried
@given(text=texts, more=texts)
@example(text="ann@example.co", more="m")
@example(text="4111 1111 1111 1111", more="-1")
@example(text="DE89 3704 0044 0532 0130 00", more="X")
@example(text="-----BEGIN PRIVATE KEY-----\nMII", more="E\n-----END PRIVATE KEY-----")
@example(text="Ann", more=" Smith")
def test_what_is_settled_stays(kind: str, settings: dict[str, Any], text: str, more: str) -> None:
    finder: Finder = make(kind, settings)
    settled = finder.settled(text)
    assert len(text) - REACH_MAX_CHARS <= settled <= len(text)

    def before(whole: str) -> list[Match]:
        return [match for match in all_of(finder, whole) if match.start < settled]

    assert before(text) == before(text + more)


@every_finder
@unhurried
@given(before=texts, text=texts)
def test_no_more_context_is_looked_at_than_is_kept(kind: str, settings: dict[str, Any], before: str, text: str) -> None:
    """Unless a match begins in what is left out, the same is found without it."""
    finder: Finder = make(kind, settings)
    start = len(before)
    whole = "。" * CONTEXT_CHARS + before + text
    kept = whole[CONTEXT_CHARS + start - CONTEXT_CHARS :] if start else whole[CONTEXT_CHARS:]
    cut = len(whole) - len(kept)
    found = [Match(match.start - cut, match.end - cut, match.label) for match in all_of(finder, whole, CONTEXT_CHARS + start)]
    assert found == all_of(finder, kept, CONTEXT_CHARS + start - cut)


@every_judge
async def test_a_judge_answers_for_any_texts(kind: str, settings: dict[str, Any]) -> None:
    judge: Judge = make(kind, settings)
    assert inspect.iscoroutinefunction(judge.judge)
    about = About("input", "req_1", "m", None, 10)
    for said in ([], [Said("", "user")], [Said("x" * 100_000, "user"), Said('{"a": 1}', "assistant"), Said("a thought", "thought")]):
        verdict = await judge.judge(said, about)
        assert verdict is None or verdict.action in ("block", "mask", "flag")
        assert verdict is None or verdict.texts is None or len(verdict.texts) == len(said)
