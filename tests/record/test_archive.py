"""Records read back, from SQLite and from PostgreSQL: the right ones, page by page, and what they add up to; and erased."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from agent_gateway.core.errors import BadRequest, Overloaded
from agent_gateway.record.archive import Archive, Group, Scores, UsageRow, Wanted
from agent_gateway.record.changes import Feedback
from agent_gateway.record.figures import DAY_MS, HOUR_MS
from agent_gateway.record.row import Record
from agent_gateway.record.sinks.database import DatabaseSink
from agent_gateway.record.table import READERS, WAITING_MAX
from tests.record.exchanges import records
from tests.record.kept import CLOCK, SECRET, START_MS, ids, put, said, spread
from tests.stores.stores import fresh_url


@pytest.fixture(params=["sqlite", "postgres"])
async def sink(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DatabaseSink]:
    monkeypatch.chdir(tmp_path)
    sink = DatabaseSink.for_url(await fresh_url(request.param, request.config, tmp_path), CLOCK)
    yield sink
    await sink.close(10)


@pytest.fixture
async def archive(sink: DatabaseSink) -> AsyncIterator[Archive]:
    archive = Archive(sink.table.open_reader())
    yield archive
    await archive.close()


async def test_pages_hold_every_record_once_newest_first(sink: DatabaseSink, archive: Archive) -> None:
    rows = await put(sink, [*spread(10), *(record._replace(started_ms=START_MS) for record in records(5))])
    seen: list[str] = []
    cursor = None
    while True:
        page = await archive.page(Wanted(), 4, cursor)
        seen += [row[0] for row in page.rows]
        cursor = page.next
        if cursor is None:
            break
        assert len(page.rows) == 4
    order = sorted(enumerate(rows), key=lambda item: (item[1].started_ms, item[0]), reverse=True)
    assert seen == [record.id for _, record in order]


@pytest.mark.parametrize("cursor", ["", "1", "~", "a~b", "9" * 30 + "~1", "１~１"])
async def test_a_cursor_that_was_never_given_is_refused(archive: Archive, cursor: str) -> None:
    with pytest.raises(BadRequest) as caught:
        await archive.page(Wanted(), 4, cursor)
    assert caught.value.param == "cursor"


async def test_each_filter_holds(sink: DatabaseSink, archive: Archive) -> None:
    other: dict[str, dict[str, Any]] = {
        "model": {"model": "other"},
        "key": {"key_id": "key-2"},
        "status": {"status": "error"},
        "session": {"session_id": "s2"},
        "user": {"user_id": "bob"},
        "error": {"error_code": "timeout"},
    }
    plain = await put(sink, records(2))
    for name, fields in other.items():
        (row,) = await put(sink, records(1, **fields))
        assert await ids(archive, Wanted(**{name: next(iter(fields.values()))})) == [row.id]
    late = await put(sink, records(1, started_ms=START_MS + DAY_MS))
    assert await ids(archive, Wanted(since_ms=START_MS + DAY_MS)) == [late[0].id]
    assert late[0].id not in await ids(archive, Wanted(until_ms=START_MS + DAY_MS))
    assert await ids(archive, Wanted(model="other", user="bob")) == []
    assert {row.id for row in plain} <= set(await ids(archive, Wanted(user="user-7", status="success")))


async def test_what_no_text_can_be_is_nobodys(sink: DatabaseSink, archive: Archive) -> None:
    await put(sink, records(2))
    for wanted in (Wanted(model="a\0b"), Wanted(key="a\0b"), Wanted(session="a\0b"), Wanted(user="a\0b"), Wanted(error="a\0b")):
        assert await ids(archive, wanted) == []
    assert await archive.find("req\0") is None


async def test_one_record_whole(sink: DatabaseSink, archive: Archive) -> None:
    (row,) = await put(sink, records(1))
    assert await archive.find(row.id) == row
    assert await archive.find("req_none") is None


@pytest.mark.parametrize(
    ("group", "groups"),
    [("model", ["chat", "other"]), ("key", ["", "key-1"]), ("day", ["2025-10-09", "2025-10-10"]), ("user", ["user-7"])],
)
async def test_usage_adds_up_by_group(sink: DatabaseSink, archive: Archive, group: Any, groups: list[str]) -> None:
    await put(sink, [*spread(3), *records(2, model="other", key_id=None, started_ms=START_MS + DAY_MS, status="error")])
    rows, more = await archive.usage(group, START_MS, START_MS + 2 * DAY_MS, 10)
    assert [row.group for row in rows] == groups
    assert not more
    assert sum(row.requests for row in rows) == 5
    assert sum(row.errors for row in rows) == 2
    assert sum(row.input_tokens for row in rows) == 150
    first, more = await archive.usage(group, START_MS, START_MS + 2 * DAY_MS, 1)
    rest, _ = await archive.usage(group, START_MS, START_MS + 2 * DAY_MS, 10, first[-1].group)
    assert [*first, *rest] == rows
    assert more == (len(rows) > 1)


async def test_usage_is_exact_though_hours_are_added_up_before(sink: DatabaseSink, archive: Archive) -> None:
    """`since` and `until` are hours from the beginning of a day; there is a request every quarter of an hour, for three days."""
    groups: tuple[Group, ...] = ("model", "key", "day")
    begin = START_MS // DAY_MS * DAY_MS
    await put(sink, [record._replace(started_ms=begin + number * HOUR_MS // 4) for number, record in enumerate(records(288))])
    for group, since, until in product(groups, (0, 0.5, 1, 24, 24.25, 47.5), (None, 47.75, 48, 49, 71.5)):
        until_ms = None if until is None else begin + int(until * HOUR_MS)
        rows, _ = await archive.usage(group, begin + int(since * HOUR_MS), until_ms, 10)
        requests = ((72 if until is None else until) - since) * 4
        assert sum(row.requests for row in rows) == requests, (group, since, until)
        assert sum(row.output_tokens for row in rows) == requests * 12


@pytest.mark.parametrize("cursor", ["", "tomorrow", "2025-13-01"])
async def test_a_day_that_is_none_is_no_cursor_of_usage(archive: Archive, cursor: str) -> None:
    with pytest.raises(BadRequest, match="cursor"):
        await archive.usage("day", 0, 1, 5, cursor)


async def test_usage_of_what_knows_no_tokens_is_nought(sink: DatabaseSink, archive: Archive) -> None:
    await put(sink, records(1, input_tokens=None, output_tokens=None, cost_usd=None))
    assert await archive.usage("model", 0, 2**53, 10) == ([UsageRow("chat", 1, 0, 0, 0, 0.0)], False)


async def test_before_the_first_record_there_is_nothing(archive: Archive) -> None:
    assert (await archive.page(Wanted(), 5)).rows == []
    assert await archive.find("req_1") is None
    assert await archive.usage("key", 0, 1, 5) == ([], False)


async def test_too_many_questions_at_once_are_turned_away(sink: DatabaseSink, archive: Archive) -> None:
    await put(sink, records(1))
    asked = [archive.find("req_1") for _ in range(READERS + WAITING_MAX + 5)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(answer, Overloaded) for answer in answers) == 5
    assert await archive.find("req_1") is None, "and then there is room again"


async def test_a_user_is_erased_and_figures_stay(sink: DatabaseSink, archive: Archive) -> None:
    own = await put(sink, [said("ann") for _ in range(450)])
    others = await put(sink, [said("bob"), *records(2)])
    assert await sink.erase("ann") == 450
    assert await ids(archive, Wanted(user="ann")) == []
    record = await archive.find(own[0].id)
    assert record is not None
    assert (record.user_id, record.session_id, record.client_request_id, record.request, record.answer) == (None,) * 5
    assert record.attempts is not None
    assert SECRET.encode() not in record.attempts
    assert (record.cost_usd, record.input_tokens, record.key_id) == (own[0].cost_usd, own[0].input_tokens, own[0].key_id)
    assert await archive.find(others[0].id) == others[0]
    assert await sink.erase("ann") == 0
    assert await sink.erase("bob") == 1


async def test_what_was_written_just_before_is_erased(sink: DatabaseSink, archive: Archive) -> None:
    sink.write([said("ann")])
    assert await sink.erase("ann") == 1


# --- figures


async def test_figures_are_told_by_step_and_group(sink: DatabaseSink, archive: Archive) -> None:
    begin = START_MS // DAY_MS * DAY_MS
    failed = {"status": "error", "error_code": "provider_timeout", "cost_usd": None, "quality": None, "ttft_ms": None}
    rows = [
        *records(3, started_ms=begin, model="a", quality=0.5, ttft_ms=30.0, cost_usd=0.25),
        *records(1, started_ms=begin + HOUR_MS, model="a", **failed),
        *records(2, started_ms=begin + HOUR_MS, model="b", status="fallback"),
    ]
    await put(sink, rows)
    by_hour, more = await archive.figures("model", "hour", begin, begin + DAY_MS, 10)
    assert [(one.at_ms - begin, one.group, one.requests) for one in by_hour] == [(0, "a", 3), (HOUR_MS, "a", 1), (HOUR_MS, "b", 2)]
    assert more is None
    first, second, third = by_hour
    assert (first.cost_usd, first.rated, first.quality, first.ttft_ms) == (0.75, 3, 1.5, 90.0)
    assert (sum(first.durations), sum(first.first_tokens)) == (3, 3)
    assert (second.by_status["error"], second.timeouts, second.rated, sum(second.first_tokens)) == (1, 1, 0, 0)
    assert (third.by_status["fallback"], third.timeouts) == (2, 0)
    (day,), _ = await archive.figures("all", "day", begin, begin + DAY_MS, 10)
    assert (day.at_ms, day.group, day.requests, day.attempts) == (begin, "", 6, 6)
    assert day.input_tokens == 180


@pytest.mark.parametrize(
    ("group", "groups"),
    [
        ("deployment", {"local/small"}),
        ("pattern", {"unary"}),
        ("dialect", {"openai_chat"}),
        ("status", {"error", "success"}),
        ("error", {"", "quality"}),
        ("key", {"", "key-1"}),
    ],
)
async def test_figures_have_the_groups_that_records_have(sink: DatabaseSink, archive: Archive, group: Any, groups: set[str]) -> None:
    await put(sink, [*records(2), *records(1, status="error", error_code="quality", key_id=None)])
    told, _ = await archive.figures(group, "hour", 0, 2**53, 10)
    assert {one.group for one in told} == groups


async def test_pages_of_figures_hold_each_once(sink: DatabaseSink, archive: Archive) -> None:
    batch = [
        record._replace(model=f"m{number % 3}", started_ms=START_MS + number % 2 * HOUR_MS) for number, record in enumerate(records(12))
    ]
    await put(sink, batch)
    whole, _ = await archive.figures("model", "hour", 0, 2**53, 100)
    seen, cursor = await archive.figures("model", "hour", 0, 2**53, 4)
    assert cursor is not None
    rest, last = await archive.figures("model", "hour", 0, 2**53, 4, cursor)
    assert [*seen, *rest] == whole
    assert (len(whole), last) == (6, None)
    with pytest.raises(BadRequest, match="cursor"):
        await archive.figures("model", "hour", 0, 2**53, 4, "m1")


# --- feedback


def given(record: Record, score: int, comment: str | None = None, key: str = "key-1") -> Feedback:
    return Feedback(record.id, key, score, comment, START_MS)


async def test_a_score_counts_once_and_the_last_one_counts(sink: DatabaseSink, archive: Archive) -> None:
    one, two, fixed = await put(sink, [*records(2), *records(1, status="degraded")])
    assert await sink.score(given(one, 1, "bad"))
    assert await sink.score(given(one, 5))
    assert await sink.score(given(two, 4, "well"))
    assert await sink.score(given(fixed, 2))
    assert await archive.feedback_of(one.id) == (5, None, START_MS)
    assert await archive.feedback_of(two.id) == (4, "well", START_MS)
    assert await archive.feedback("model", 0, 2**53) == [Scores("chat", 2, 9, 1, 2)]
    assert await archive.feedback("status", 0, 2**53) == [Scores("degraded", 0, 0, 1, 2), Scores("success", 2, 9, 0, 0)]
    assert await archive.feedback("model", 0, START_MS // DAY_MS * DAY_MS) == []
    (hour,), _ = await archive.figures("all", "hour", 0, 2**53, 5)
    assert (hour.requests, hour.scores, hour.score) == (3, 3, 11)


async def test_only_the_key_that_asked_may_score(sink: DatabaseSink, archive: Archive) -> None:
    own, nobodys = await put(sink, [*records(1), *records(1, key_id=None)])
    assert not await sink.score(given(own, 1, key="key-2"))
    assert not await sink.score(given(own, 1, key=""))
    assert not await sink.score(given(own._replace(id="req_none"), 1))
    assert await sink.score(given(nobodys, 3, key=""))
    assert await archive.feedback("key", 0, 2**53) == [Scores("", 1, 3, 0, 0)]


async def test_what_was_written_just_before_can_be_scored(sink: DatabaseSink, archive: Archive) -> None:
    (record,) = records(1)
    sink.write([record])
    assert await sink.score(given(record, 5))


async def test_a_request_whose_model_is_not_told_apart_is_scored_where_it_counts(sink: DatabaseSink, archive: Archive) -> None:
    (record,) = await put(sink, records(1, model="made up", status="error", error_code="model_not_found"))
    assert await sink.score(given(record, 1))
    assert await archive.feedback("model", 0, 2**53) == [Scores("other", 1, 1, 0, 0)]


async def test_an_erased_users_comments_go_and_scores_stay(sink: DatabaseSink, archive: Archive) -> None:
    (record,) = await put(sink, records(1, user_id="ann"))
    assert await sink.score(given(record, 2, SECRET))
    assert await sink.erase("ann") == 1
    assert await archive.feedback_of(record.id) == (2, None, START_MS)
    assert await archive.feedback("all", 0, 2**53) == [Scores("", 1, 2, 0, 0)]
