"""One session as the admin API shows it, page by page with what was said in it, and as it is deleted."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent_gateway.core.errors import BadRequest, Forbidden, NotFound
from agent_gateway.stores.base import Owner, StoredTurn
from tests.control.admin.conftest import AUDITOR, NOW, Stage

ANN = Owner("k", "ann")


def turn(text: str, **more: Any) -> StoredTurn:
    return StoredTurn("openai_chat", msgspec.json.encode({"role": "user", "content": text}), **more)


async def said(stage: Stage, *turns: StoredTurn, owner: Owner = ANN, session: str = "trip/1") -> None:
    await stage.store.append(owner, session, list(turns), expected_version=0, now=NOW, ttl_s=60)


async def test_the_newest_turns_come_first_and_older_ones_page_by_page(stage: Stage) -> None:
    await said(stage, *(turn(f"turn {number}", tokens=number) for number in range(5)))
    seen: list[list[str]] = []
    query = {"key": "k", "user": "ann", "limit": "2"}
    while True:
        page = await stage.get("sessions/trip/1", **query)
        assert (page["id"], page["key"], page["user"], page["turn_count"], page["object"]) == ("trip/1", "k", "ann", 5, "session")
        assert [each["tokens"] for each in page["turns"]] == [each["place"] for each in page["turns"]]
        seen.append([each["body"]["content"] for each in page["turns"]])
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert seen == [["turn 3", "turn 4"], ["turn 1", "turn 2"], ["turn 0"]]


async def test_a_turn_is_shown_as_it_was_said(stage: Stage) -> None:
    await said(stage, turn("<b>\u4f60\u597d</b>"), StoredTurn("anthropic", b'{"role": "assis\xff', partial=True))
    first, last = (await stage.get("sessions/trip/1", key="k", user="ann"))["turns"]
    assert first["body"] == {"role": "user", "content": "<b>\u4f60\u597d</b>"}
    assert (last["body"], last["dialect"], last["partial"]) == ('{"role": "assis\ufffd', "anthropic", True)


async def test_what_stands_for_older_turns_is_told_beside_those_that_are_left(stage: Stage) -> None:
    await said(stage, *(turn(f"turn {number}") for number in range(4)))
    session = await stage.store.fetch(ANN, "trip/1", NOW)
    assert session is not None
    short = turn("they agreed on Lisbon")
    await stage.store.replace_by_summary(ANN, "trip/1", short, before=2, expected_version=session.info.version, now=NOW)
    whole = await stage.get("sessions/trip/1", key="k", user="ann")
    assert whole["summary"]["body"]["content"] == "they agreed on Lisbon"
    assert (whole["summarized_count"], [each["body"]["content"] for each in whole["turns"]]) == (2, ["turn 2", "turn 3"])


async def test_one_id_may_be_several_peoples(stage: Stage) -> None:
    bob, nobody = Owner("k", "bob"), Owner("", "")
    for owner in (ANN, bob, nobody):
        await said(stage, turn(f"I am {owner.user}"), owner=owner)
    for owner in (ANN, bob):
        (only,) = (await stage.get("sessions/trip/1", key="k", user=owner.user))["turns"]
        assert only["body"]["content"] == f"I am {owner.user}"
    whole = await stage.get("sessions/trip/1")
    assert (whole["key"], whole["user"]) == (None, None)
    await stage.ask("DELETE", "sessions/trip/1", query={"key": "k", "user": "ann"})
    assert {each["user"] for each in (await stage.get("sessions"))["data"]} == {"bob", None}


async def test_a_session_that_is_not_there_or_has_ended_says_how_to_name_one(stage: Stage) -> None:
    await stage.store.append(ANN, "ended", [turn("long ago")], expected_version=0, now=NOW - 120, ttl_s=60)
    for method in ("GET", "DELETE"):
        for session in ("none", "ended"):
            with pytest.raises(NotFound, match=rf"'{session}'.*\?key="):
                await stage.ask(method, f"sessions/{session}", query={"key": "k", "user": "ann"})
    assert await stage.entries() == []


@pytest.mark.parametrize(("query", "param"), [({"cursor": "soon"}, "cursor"), ({"limit": "0"}, "limit"), ({"since": "1h"}, "since")])
async def test_a_query_that_means_nothing_is_refused(stage: Stage, query: dict[str, str], param: str) -> None:
    await said(stage, turn("hello"))
    with pytest.raises(BadRequest) as caught:
        await stage.ask("GET", "sessions/trip/1", query={"key": "k", "user": "ann", **query})
    assert caught.value.param == param


async def test_who_deletes_one_is_in_the_audit_log_and_what_was_said_is_not(stage: Stage) -> None:
    await said(stage, turn("a secret"), turn("another"))
    with pytest.raises(Forbidden):
        await stage.ask("DELETE", "sessions/trip/1", query={"key": "k", "user": "ann"}, key=AUDITOR)
    status, told = await stage.ask("DELETE", "sessions/trip/1", query={"key": "k", "user": "ann"})
    assert (status, told) == (200, {"id": "trip/1", "deleted": True})
    assert (await stage.get("sessions"))["data"] == []
    (entry,) = await stage.entries()
    assert (entry["action"], entry["target"], entry["actor"]["id"]) == ("sessions.delete", "trip/1", "admin")
    assert entry["before"] == {"key": "k", "turns": 2}
    assert "secret" not in str(entry)
