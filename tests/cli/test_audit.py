"""`agent-gateway audit`, as it is typed: on the log that the other commands write."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from agent_gateway.cli.main import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command: status, output, error output."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gateway.yaml").write_text(
        "providers: {sim: {kind: simulated}}\n"
        "models: {small: {deployments: [{provider: sim, model: small, price: {input: 1, output: 1}}]}}\n"
    )

    def typed(*words: str) -> tuple[int, str, str]:
        try:
            status = main(words)
        except SystemExit as end:
            status = int(end.code or 0)
        told = capsys.readouterr()
        return status, told.out, told.err

    return typed


@pytest.fixture
def key_id(run: Run) -> str:
    """Of a key that was made and revoked: two entries."""
    made = msgspec.json.decode(run("keys", "create", "ann's agent", "--json")[1])
    assert run("keys", "revoke", made["id"])[0] == 0
    return str(made["id"])


def tamper(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "agent-gateway.db", isolation_level=None)) as database:
        for (trigger,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit'").fetchall():
            database.execute(f"DROP TRIGGER {trigger}")
        database.execute(statement)


def test_what_the_commands_did_is_in_a_log_that_is_whole(run: Run, key_id: str) -> None:
    status, out, _ = run("audit", "list", "--json")
    assert status == 0
    revoked, made = msgspec.json.decode(out)["data"]
    assert [made["action"], revoked["action"]] == ["keys.create", "keys.revoke"]
    assert made["target"] == revoked["target"] == key_id
    assert made["after"]["name"] == "ann's agent"
    assert (revoked["before"]["state"], revoked["after"]["state"]) == ("active", "revoked")
    assert "agw_" not in out
    assert run("audit", "verify") == (0, "The audit log is whole: 2 entries, none changed, removed or reordered.\n", "")
    assert msgspec.json.decode(run("audit", "verify", "--json")[1]) == {"whole": True, "entries": 2, "broken": None}


def test_a_change_is_named(run: Run, key_id: str, tmp_path: Path) -> None:
    tamper(tmp_path, f"UPDATE audit SET body = replace(CAST(body AS TEXT), '{key_id}', 'aaaaaaaaaaaa') WHERE number = 1")
    assert run("audit", "verify") == (1, "entry 1: it was changed, or what comes before it was\n", "")
    assert msgspec.json.decode(run("audit", "verify", "--json")[1])["broken"]["number"] == 1


def test_a_head_that_was_kept_elsewhere_tells_of_a_log_that_was_put_back(run: Run, key_id: str, tmp_path: Path) -> None:
    database, copy = tmp_path / "agent-gateway.db", tmp_path / "copy.db"
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    run("keys", "create", "another")
    status, head, _ = run("audit", "head")
    assert status == 0
    assert msgspec.json.decode(head)["number"] == 3
    (tmp_path / "head.json").write_text(head)
    assert run("audit", "verify", "--head", "head.json")[0] == 0
    for suffix in ("-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    copy.replace(database)
    assert run("audit", "verify")[0] == 0, "it is as it once was"
    assert run("audit", "verify", "--head", "head.json")[:2] == (1, "entry 3: it is missing: the anchored head is entry 3\n")


def test_the_list_is_bounded(run: Run, key_id: str) -> None:
    page = msgspec.json.decode(run("audit", "list", "--limit", "1", "--json")[1])
    assert [entry["number"] for entry in page["data"]] == [2]
    assert len(msgspec.json.decode(run("audit", "list", "--since", "1h", "--json")[1])["data"]) == 2
    assert run("audit", "list", "--since", "2999-01-01") == (0, "There are no entries.\n", "")
    title, *rows = run("audit", "list")[1].splitlines()
    assert title.split("\t")[0] == "number"
    assert [row.split("\t")[4] for row in rows] == ["keys.revoke", "keys.create"]


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["verify", "--head", "none.json"], 1, "--head: none.json cannot be read: No such file or directory; give the file that"),
        (["verify", "--head", "gateway.yaml"], 1, "is not a head"),
        (["list", "--since", "yesterday"], 1, "expected a moment"),
        (["list", "--limit", "0"], 2, "no number from 1"),
    ],
)
def test_what_is_wrong_is_told(run: Run, key_id: str, words: list[str], status: int, told: str) -> None:
    found, _, error = run("audit", *words)
    assert found == status
    assert told in error


def test_without_the_key_nothing_can_be_said(run: Run, key_id: str, tmp_path: Path) -> None:
    (tmp_path / "agent-gateway.audit.key").unlink()
    status, _, error = run("audit", "verify")
    assert status == 1
    assert "agent-gateway.audit.key" in error
    assert not (tmp_path / "agent-gateway.audit.key").exists(), "a look must not make one"
    (tmp_path / "agent-gateway.audit.key").write_bytes(b"short")
    status, _, error = run("audit", "verify")
    assert (status, error.startswith("The key that signs the log cannot be read: "), "5 bytes" in error) == (1, True, True)


def test_an_emptied_log_is_not_whole_where_something_was_signed(run: Run, key_id: str, tmp_path: Path) -> None:
    tamper(tmp_path, "DELETE FROM audit")
    tamper(tmp_path, "DELETE FROM audit_head")
    said = "it is missing: the log is empty, though something was signed here"
    assert run("audit", "verify") == (1, f"entry 1: {said}\n", "")
    status, out, _ = run("audit", "verify", "--json")
    assert (status, msgspec.json.decode(out)) == (1, {"whole": False, "entries": 0, "broken": {"number": 1, "why": said}})


@pytest.mark.parametrize("statement", ["DELETE FROM audit_head", "UPDATE audit_head SET signature = NULL"])
def test_a_removed_signature_is_named(run: Run, key_id: str, tmp_path: Path, statement: str) -> None:
    tamper(tmp_path, statement)
    assert run("audit", "verify") == (1, "entry 2: the signature of the log's end is missing\n", "")


def test_a_log_that_has_not_begun_is_whole(run: Run, tmp_path: Path) -> None:
    (tmp_path / "agent-gateway.db").touch()
    whole = (0, "The audit log is whole: 0 entries, none changed, removed or reordered.\n", "")
    assert run("audit", "verify") == whole
    with (tmp_path / "gateway.yaml").open("a") as configuration:
        configuration.write("auth: {audit_key: 0123456789abcdef}\n")
    assert run("audit", "verify") == whole, "a key from the configuration is there before anything is signed"


def test_before_anything_was_done(run: Run, tmp_path: Path) -> None:
    assert "nothing was ever written" in run("audit", "verify")[2]
    run("keys", "list")
    assert not (tmp_path / "agent-gateway.db").exists()


def test_a_database_in_memory_has_no_log_to_look_at(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_DATABASE_URL", "sqlite:///:memory:")
    assert run("audit", "verify")[0] == 1
