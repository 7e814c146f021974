"""What is changed of records after they were written, said once for SQLite and PostgreSQL: a user is erased, a request is scored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agent_gateway.record.figures import DIMENSIONS, STEPS_MS
from agent_gateway.record.metrics import OTHER
from agent_gateway.record.row import without_details
from agent_gateway.stores.operation import Operation

_ERASED = (
    "UPDATE records SET user_id = NULL, session_id = NULL, client_request_id = NULL, traceparent = NULL, request = NULL, answer = NULL, "
    "attempts = ? "
    "WHERE id = ? AND started_ms = ?"
)
_DIMENSIONS = ", ".join([f"coalesce({name}, '')" for name in DIMENSIONS])
_SCORED = (
    "UPDATE figures SET scores = scores + ?, score = score + ? "  # noqa: S608 – our own names
    f"WHERE kind = ? AND at_ms = ? AND {' AND '.join([f'{name} = ?' for name in DIMENSIONS])} RETURNING 1"
)
_GIVEN = (
    "INSERT INTO feedback (request_id, started_ms, user_id, score, comment, given_ms) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (request_id) DO UPDATE SET score = excluded.score, comment = excluded.comment, given_ms = excluded.given_ms"
)


@dataclass(frozen=True, slots=True)
class Feedback:
    """What somebody thought of an answer."""

    request_id: str
    #: Of the key that it is given with; "" where there is none.
    key: str
    #: 1–5.
    score: int
    comment: str | None
    given_ms: int


def erasure(user: str, limit: int) -> Operation[int]:
    """Takes out of at most `limit` records what the user said, was told and is known by; figures stay. How many there were."""
    found = yield "SELECT id, started_ms, attempts FROM records WHERE user_id = ? ORDER BY id LIMIT ?", (user, limit)
    for request_id, started_ms, attempts in found:
        yield _ERASED, (without_details(attempts), request_id, started_ms)
    yield "UPDATE feedback SET comment = NULL, user_id = NULL WHERE user_id = ?", (user,)
    return len(found)


def scoring(feedback: Feedback, row_lock: str = "") -> Operation[bool]:
    """Replaces what was said of the request before; False: the key has made no such request. `row_lock`: what locks a row that is read."""
    asked = f"SELECT started_ms, user_id, {_DIMENSIONS} FROM records WHERE id = ? AND coalesce(key_id, '') = ?{row_lock}"  # noqa: S608
    rows = yield asked, (feedback.request_id, feedback.key)
    if not rows:
        return False
    started_ms, user, *dimensions = rows[0]
    before = yield "SELECT score FROM feedback WHERE request_id = ?", (feedback.request_id,)
    yield _GIVEN, (feedback.request_id, started_ms, user, feedback.score, feedback.comment, feedback.given_ms)
    more, higher = (0, feedback.score - before[0][0]) if before else (1, feedback.score)
    for kind, step_ms in sorted(STEPS_MS.items()):  # as the writer of records adds to them, so that neither waits for the other for ever
        for names in _places(kind, dimensions):
            if (yield _SCORED, (more, higher, kind, started_ms // step_ms * step_ms, *names)):
                break
    return True


def _places(kind: str, dimensions: list[str]) -> Iterator[tuple[str, ...]]:
    """Where a request's figures may be: its model may be one that is not told apart."""
    model, deployment, pattern, dialect, status, error_code, key = dimensions
    if kind.startswith("key"):
        yield "", "", "", "", status, error_code, key
    elif kind.startswith("total"):
        yield "", "", "", "", status, error_code, ""
    else:
        for name in (model, OTHER):
            yield name, deployment, pattern, dialect, status, error_code, ""
