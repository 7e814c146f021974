"""Records, usage, sessions, routes and the configuration as the admin API shows them; and a user who is erased."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent_gateway.cache.base import Entry, Place
from agent_gateway.cache.place import user_digest
from agent_gateway.control.admin.figures import FiguresShown
from agent_gateway.control.admin.records import RecordShown
from agent_gateway.control.times import told
from agent_gateway.core.errors import BadRequest, MethodNotAllowed, NotFound
from agent_gateway.core.settings import Monitoring
from agent_gateway.record.archive import LISTED
from agent_gateway.record.changes import Feedback
from agent_gateway.record.row import Record
from agent_gateway.stores.base import Owner, StoredResponse, StoredTurn
from tests.control.admin.conftest import NOW, SECRETS, Stage
from tests.kit.eventually import eventually
from tests.record.exchanges import WALL, attempt, exchange, records

SAID = "what nobody but me should know"


async def put(stage: Stage, rows: list[Record]) -> list[Record]:
    (sink,) = stage.recorder._sinks
    before = sink.written
    sink.write(rows)
    await eventually(lambda: sink.written == before + len(rows), "all rows")
    return rows


async def refused(stage: Stage, path: str, **query: str) -> Any:
    with pytest.raises((BadRequest, NotFound, MethodNotAllowed)) as caught:
        await stage.ask("GET", path, query=query)
    return caught.value


# --- records


async def test_a_record_is_shown_whole(stage: Stage) -> None:
    made = exchange(attempts=[attempt(outcome="error", error_detail="it broke"), attempt()])
    stage.recorder.begin(made)
    stage.recorder.submit(made)
    stage.recorder.fold()
    (sink,) = stage.recorder._sinks
    await eventually(lambda: sink.written == 1, "the row")
    whole = await stage.get(f"records/{made.id}")
    assert whole["request"] == msgspec.json.decode(made.call.body)
    assert "Hello there" in str(whole["answer"])
    assert [each["outcome"] for each in whole["attempts"]] == ["error", "success"]
    assert whole["attempts"][0]["detail"] == "it broke"
    assert (whole["key"], whole["user"], whole["session"], whole["client_request_id"]) == ("key-1", "user-7", "session-9", "theirs")
    assert whole["at"] == told(made.started_wall)
    (listed,) = (await stage.get("records"))["data"]
    assert set(listed) == set(RecordShown.__struct_fields__)
    assert listed == {name: value for name, value in whole.items() if name in listed}


async def test_every_column_of_a_record_is_shown(stage: Stage) -> None:
    renamed = {"started_ms": "at", "key_id": "key", "user_id": "user", "session_id": "session", "error_code": "error"}
    assert {renamed.get(name, name) for name in LISTED} == set(RecordShown.__struct_fields__)


async def test_a_body_that_is_no_json_is_shown_as_text(stage: Stage) -> None:
    cut, none = await put(stage, [records(1, request=b'{"model":"ch\xff', answer=None)[0], records(1, request=None, attempts=None)[0]])
    assert (await stage.get(f"records/{cut.id}"))["request"] == '{"model":"ch\ufffd'
    whole = await stage.get(f"records/{none.id}")
    assert (whole["request"], whole["attempts"]) == (None, [])


async def test_records_are_looked_for_page_by_page(stage: Stage) -> None:
    rows = await put(stage, [*records(5), *records(2, status="error", error_code="provider_timeout")])
    first = await stage.get("records", limit="3", status="success")
    rest = await stage.get("records", limit="3", status="success", cursor=first["next"])
    assert [row["id"] for row in first["data"] + rest["data"]] == [row.id for row in reversed(rows[:5])]
    assert rest["next"] is None
    assert len((await stage.get("records", error="provider_timeout", since="1h"))["data"]) == 2
    assert (await stage.get("records", until="2020-01-01"))["data"] == []
    assert (await refused(stage, "records", since="soon")).param == "since"
    assert (await stage.get("records", key="nobody"))["data"] == []
    assert (await refused(stage, "records", cursor="1")).param == "cursor"
    assert isinstance(await refused(stage, "records/req_none"), NotFound)


# --- usage


async def test_usage_of_the_last_day_by_model_where_nothing_is_said(stage: Stage) -> None:
    await put(stage, [*records(3), *records(1, model="b"), *records(1, started_ms=int((WALL - 3 * 86_400) * 1000))])
    usage = await stage.get("usage")
    assert [(row["group"], row["requests"]) for row in usage["data"]] == [("b", 1), ("chat", 3)]
    row = usage["data"][1]
    assert (row["errors"], row["input_tokens"], row["output_tokens"]) == (0, 90, 36)
    assert len((await stage.get("usage", group_by="day", since="7d"))["data"]) == 2
    first = await stage.get("usage", limit="1")
    assert [row["group"] for row in (await stage.get("usage", limit="1", cursor=first["next"]))["data"]] == ["chat"]
    assert (await refused(stage, "usage", group_by="colour")).param == "group_by"
    assert (await refused(stage, "usage", limit="1001")).param == "limit"


# --- figures and feedback


async def test_figures_of_the_last_day_by_the_hour_where_nothing_is_said(stage: Stage) -> None:
    failed = {"status": "error", "error_code": "provider_timeout", "cost_usd": None}
    slow = records(1, started_ms=int((WALL - 7200) * 1000), duration_ms=1500.0, ttft_ms=40.0, quality=0.5, **failed)
    await put(stage, [*records(3), *slow, *records(1, started_ms=int((WALL - 3 * 86_400) * 1000))])
    early, late = (await stage.get("figures"))["data"]
    assert (early["at"], late["at"]) == ("2025-10-09T06:00:00.000Z", "2025-10-09T08:00:00.000Z")
    assert set(early) == set(FiguresShown.__struct_fields__)
    assert (early["group"], early["requests"], early["errors"], early["timeouts"], early["success"]) == (None, 1, 1, 1, 0)
    assert early["duration_ms"] == {"mean": 1500.0, "p50": 1500.0, "p95": 1950.0, "p99": 1990.0}
    assert (early["ttft_ms"]["mean"], early["quality"], early["score"]) == (40.0, 0.5, None)
    assert (late["requests"], late["ttft_ms"], late["quality"], late["input_tokens"]) == (3, None, None, 90)
    days = (await stage.get("figures", step="day", since="7d", group_by="model"))["data"]
    assert [(day["at"], day["group"], day["requests"]) for day in days] == [
        ("2025-10-06T00:00:00.000Z", "chat", 1),
        ("2025-10-09T00:00:00.000Z", "chat", 4),
    ]
    first = await stage.get("figures", limit="1")
    assert [hour["at"] for hour in (await stage.get("figures", limit="1", cursor=first["next"]))["data"]] == [late["at"]]
    assert (await refused(stage, "figures", step="minute")).param == "step"


async def test_scores_are_averaged_and_those_of_fixed_replies_apart(stage: Stage) -> None:
    good, bad, fixed = await put(stage, [*records(2), *records(1, status="degraded", pattern="streaming")])
    for record, score, comment in ((good, 5, "well said"), (bad, 4, None), (fixed, 1, None)):
        assert await stage.recorder.score(Feedback(record.id, "key-1", score, comment, int(NOW * 1000)))
    (row,) = (await stage.get("feedback"))["data"]
    assert row == {"group": "chat", "scores": 2, "score": 4.5, "degraded_scores": 1, "degraded_score": 1.0}
    rows = (await stage.get("feedback", group_by="pattern", since="1h"))["data"]
    assert [(row["group"], row["score"], row["degraded_score"]) for row in rows] == [("streaming", None, 1.0), ("unary", 4.5, None)]
    assert (await stage.get("feedback", since="2020-01-01", until="2020-01-02"))["data"] == []
    assert (await stage.get(f"records/{good.id}"))["feedback"] == {"score": 5, "comment": "well said", "at": told(NOW)}
    assert "agent_gateway_feedback_score_sum 10.0" in stage.recorder.scrape()[0].decode()


async def test_of_minimal_records_scores_are_kept_without_comments(stage: Stage) -> None:
    (record,) = await put(stage, records(1))
    stage.recorder.configure(Monitoring(mode="minimal"), ["chat"])
    assert await stage.recorder.score(Feedback(record.id, "key-1", 3, SAID, int(NOW * 1000)))
    assert (await stage.get(f"records/{record.id}"))["feedback"] == {"score": 3, "comment": None, "at": told(NOW)}


@pytest.mark.parametrize("path", ["records", "usage", "figures", "feedback"])
async def test_a_time_that_ends_before_it_begins_is_refused(stage: Stage, path: str) -> None:
    error = await refused(stage, path, since="2025-02-01", until="2025-01-31")
    assert (error.status, error.param) == (400, "until")
    assert error.message == "until: 2025-01-31T00:00:00.000Z is before since, 2025-02-01T00:00:00.000Z."
    assert (await stage.get(path, since="2025-02-01", until="2025-02-01"))["data"] == []


@pytest.mark.parametrize(
    ("path", "name", "values"),
    [
        ("records", "status", "cached, cancelled, degraded, error, fallback, success"),
        ("usage", "group_by", "day, key, model, user"),
        ("figures", "group_by", "all, deployment, dialect, error, key, model, pattern, status"),
        ("feedback", "group_by", "all, key, model, pattern, status"),
    ],
)
async def test_a_value_that_is_not_in_a_closed_list_is_told_those_that_are(stage: Stage, path: str, name: str, values: str) -> None:
    error = await refused(stage, path, **{name: "bogus"})
    assert (error.status, error.param) == (400, name)
    assert error.message == f"{name}: invalid enum value 'bogus'; there are {values}."


# --- the rest


async def test_routes_tell_of_breakers_and_bounds(stage: Stage) -> None:
    (route,) = (await stage.get("routes"))["data"]
    assert route["name"] == "chat"
    assert route["deployments"][0]["breaker"] == "closed"
    assert {"concurrency_limit", "waiting"} <= route["deployments"][0].keys()


async def test_the_configuration_is_shown_without_its_secrets(stage: Stage) -> None:
    shown = await stage.get("config")
    assert shown["settings"]["providers"]["local"]["base_url"] == "http://127.0.0.1:9/v1"
    assert shown["settings"]["auth"]["admin_key"] == "…"
    assert shown["settings"]["models"]["chat"]["deployments"][0]["model"] == "small"
    assert not [secret for secret in SECRETS if secret in str(shown)]


async def test_sessions_of_everybody_without_what_is_said(stage: Stage) -> None:
    for user in ("ann", "bob"):
        await _session(stage, user)
    page = await stage.get("sessions", limit="1")
    rest = await stage.get("sessions", limit="1", cursor=page["next"])
    assert [session["user"] for session in page["data"] + rest["data"]] == ["bob", "ann"]
    assert page["data"][0]["created_at"] == "2025-10-09T08:55:00.000Z"
    assert SAID not in str(page)


async def test_the_audit_log_is_shown_newest_first_with_its_head(stage: Stage) -> None:
    assert isinstance(await refused(stage, "audit/head"), NotFound)
    for number in range(3):
        await stage.ask("POST", "teams", {"id": f"team-{number}"})
    page = await stage.get("audit", limit="2")
    rest = await stage.get("audit", limit="2", cursor=page["next"])
    assert [entry["target"] for entry in page["data"] + rest["data"]] == ["team-2", "team-1", "team-0"]
    assert rest["next"] is None
    assert (await stage.get("audit/head"))["number"] == 3
    assert (await refused(stage, "audit", cursor="x")).param == "cursor"


@pytest.mark.parametrize("path", ["", "nothing", "keys/", "keys/a/b", "records/a/b", "users", "audit/head/x", "config/x"])
async def test_what_is_not_there_is_not_found(stage: Stage, path: str) -> None:
    assert isinstance(await refused(stage, path), NotFound)


@pytest.mark.parametrize(("path", "takes"), [("keys/a/rotate", "POST"), ("users/ann", "DELETE"), ("users/a/b", "DELETE")])
async def test_a_method_that_is_not_taken_is_told_those_that_are(stage: Stage, path: str, takes: str) -> None:
    error = await refused(stage, path)
    assert isinstance(error, MethodNotAllowed)
    assert error.param == takes


# --- erasure


async def _session(stage: Stage, user: str) -> None:
    turns = [StoredTurn("openai_chat", msgspec.json.encode({"role": "user", "content": SAID}))]
    await stage.store.append(Owner("k", user), f"s-{user}", turns, expected_version=0, now=NOW, ttl_s=60)


async def test_a_user_is_erased_everywhere_and_what_was_spent_stays(stage: Stage) -> None:
    for user in ("ann/1", "bob"):
        await _session(stage, user)
        response = StoredResponse(f"resp_{user}", "completed", b"[]", msgspec.json.encode({"text": SAID}), NOW)
        await stage.store.put_response(Owner("k", user), response, now=NOW, ttl_s=60)
        for number in range(2):
            stream = stage.streams.open(f"req_{user}_{number}", Owner("k", user), "openai_chat", 60)
            assert stream is not None
            stream.append(b"data: " + SAID.encode() + b"\n\n")
            if number:
                stream.end()
            entry = Entry(SAID.encode(), None, "sim/small")
            stage.answers.keep(Place(user_digest(user), str(number)), entry, 60)
    rows = await put(stage, [*records(2, user_id="ann/1"), *records(1, user_id="bob")])
    status, counts = await stage.ask("DELETE", "users/ann/1")
    assert (status, counts) == (200, {"sessions_and_responses": 2, "streams": 2, "cached_answers": 2, "records": 2})
    assert [session["user"] for session in (await stage.get("sessions"))["data"]] == ["bob"]
    assert await stage.store.fetch_chain(Owner("k", "ann/1"), "resp_ann/1", now=NOW) == []
    assert await stage.streams.find("req_ann/1_1", Owner("k", "ann/1")) is None
    assert await stage.streams.find("req_bob_1", Owner("k", "bob")) is not None
    assert await stage.answers.find(Place(user_digest("ann/1"), "1")) is None
    assert await stage.answers.find(Place(user_digest("bob"), "1")) is not None
    whole = await stage.get(f"records/{rows[0].id}")
    assert (whole["user"], whole["request"], whole["answer"], whole["session"]) == (None,) * 4
    assert whole["cost_usd"] == rows[0].cost_usd
    assert (await stage.get(f"records/{rows[2].id}"))["user"] == "bob"
    (entry,) = await stage.entries()
    assert entry["action"] == "users.erase"
    assert entry["target"].startswith("sha256:")
    assert "ann" not in str(entry)
    assert SAID not in str(entry)
    _, again = await stage.ask("DELETE", "users/ann/1")
    left = {"sessions_and_responses": 0, "streams": 1, "cached_answers": 0, "records": 0}
    assert again == left, "the stream that runs holds its newest event until its end"
