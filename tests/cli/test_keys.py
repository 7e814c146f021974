"""`agent-gateway keys`, as it is typed: against a real file, and a running gateway's store beside it."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent_gateway.admission.keys import KeyRing
from agent_gateway.cli.main import main
from agent_gateway.core.errors import Unauthenticated
from agent_gateway.stores.base import open_store

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/gateway.db"


@pytest.fixture
def keys(tmp_path: Path, database: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `agent-gateway keys …`: status, output, error output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY_DATABASE_URL", database)
    (tmp_path / "gateway.yaml").write_text(
        "providers: {sim: {kind: simulated}}\n"
        "models: {small: {deployments: [{provider: sim, model: small, price: {input: 1, output: 1}}]}}\n"
    )

    def run(*words: str) -> tuple[int, str, str]:
        try:
            status = main(["keys", *words])
        except SystemExit as end:
            status = int(end.code or 0)
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def created(keys: Run, *words: str) -> dict[str, Any]:
    status, out, _ = keys("create", *words, "--json")
    assert status == 0
    made: dict[str, Any] = msgspec.json.decode(out)
    return made


def shown(database: str, secret: str) -> str:
    """What a gateway on the same database says to a request with this key: its id, or why not."""

    async def ask() -> str:
        ring = KeyRing(open_store(database))
        try:
            return (await ring.find(secret.encode())).id
        except Unauthenticated as error:
            return error.message
        finally:
            await ring.close()

    return asyncio.run(ask())


def entries(database: str) -> list[dict[str, Any]]:
    """Of the audit log."""

    async def read() -> list[dict[str, Any]]:
        store = open_store(database)
        try:
            return [msgspec.json.decode(row.body) for row in await store.read_audit(after=0, limit=100)]
        finally:
            await store.close()

    return asyncio.run(read())


def test_a_created_key_is_let_in_until_it_is_revoked(keys: Run, database: str) -> None:
    made = created(keys, "agent")
    assert shown(database, made["key"]) == made["id"]
    assert keys("revoke", made["id"])[0] == 0
    assert "revoked" in shown(database, made["key"])


def test_json_tells_all_of_a_new_key(keys: Run) -> None:
    made = created(keys, "agent", "--models", "small, large", "--expires", "30d")
    assert list(made)[:2] == ["id", "key"]
    assert (made["name"], made["models"], made["state"], made["revoked_at"]) == ("agent", ["large", "small"], "active", None)
    lasts = datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(made["created_at"])
    assert lasts == timedelta(days=30)


def test_the_secret_is_shown_once_and_alone_on_standard_output(keys: Run) -> None:
    status, out, err = keys("create", "agent")
    assert status == 0
    assert out.startswith("agw_")
    assert out.count("\n") == 1
    assert "only time" in err
    for words in (("list",), ("list", "--json")):
        assert out.strip().split("_")[2] not in keys(*words)[1]


def test_the_list_tells_every_key_and_its_state(keys: Run) -> None:
    assert "no keys yet" in keys("list")[1]
    first, second = created(keys, "first"), created(keys, "second [bold]", "--models", "small", "--rpm", "10", "--max-parallel", "2")
    keys("revoke", first["id"])
    status, out, _ = keys("list")
    assert status == 0
    heading, *rows = [line.split("\t") for line in out.splitlines()]  # plain, since this is no terminal
    assert heading == ["id", "name", "state", "role", "team", "models", "limits", "expires"]
    assert rows == [
        [first["id"], "first", "revoked", "user", "-", "all", "default", "never"],
        [second["id"], "second [bold]", "active", "user", "-", "small", "10 rpm, 2 at once", "never"],
    ]
    told = msgspec.json.decode(keys("list", "--json")[1])
    assert [(key["id"], key["state"]) for key in told["data"]] == [(first["id"], "revoked"), (second["id"], "active")]
    assert told["next"] is None
    assert not any("key" in key for key in told["data"])
    assert "no keys of the team 'search' yet. Make one: agent-gateway keys create NAME --team search" in keys("list", "--team", "search")[1]


def test_revoking_a_key_that_is_not_there_is_a_no(keys: Run) -> None:
    status, out, err = keys("revoke", "nobody")
    assert (status, out) == (1, "")
    assert "'nobody'" in err
    made = created(keys, "agent")
    assert msgspec.json.decode(keys("revoke", made["id"], "--json")[1])["state"] == "revoked"


@pytest.mark.parametrize(
    ("option", "value"), [("--rpm", "0"), ("--tpm", "many"), ("--max-parallel", "-1"), ("--rpm", "1.5"), ("--rpm", "2147483648")]
)
def test_a_limit_is_a_number(keys: Run, option: str, value: str) -> None:
    status, _, err = keys("create", "agent", f"{option}={value}")
    assert status == 2
    assert f"{value!r} is no whole number from 1 to 2147483647" in err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "it is empty"),
        ("a" * 201, "it has 201 characters; 200 at most"),
        ("a\nb", r"'a\nb' holds what cannot be shown"),
        ("\udcff", "holds"),
    ],
)
def test_a_name_fits_into_a_line(keys: Run, name: str, words: str) -> None:
    status, _, err = keys("create", name)
    assert status == 2
    assert words in err


def test_a_keys_limits_are_kept(keys: Run) -> None:
    created(keys, "agent", "--rpm", "60", "--tpm", "100000", "--max-parallel", "3")
    [told] = msgspec.json.decode(keys("list", "--json")[1])["data"]
    assert (told["requests_per_minute"], told["tokens_per_minute"], told["max_parallel"]) == (60, 100_000, 3)


def test_a_keys_scopes_are_kept(keys: Run) -> None:
    keys("team", "create", "search")
    words = ["--endpoints", "/v1/chat/completions,/v1/batches*", "--role", "auditor", "--owner", " Ann ", "--team", "search"]
    made = created(keys, "agent", *words, "--metadata", '{"a": [1]}', "--budget", "2.5", "--per", "day")
    [told] = msgspec.json.decode(keys("list", "--json")[1])["data"]
    assert {name: made[name] for name in told} == told
    assert (told["endpoints"], told["role"], told["owner"]) == (["/v1/batches*", "/v1/chat/completions"], "auditor", "Ann")
    assert (told["team"], told["metadata"]) == ("search", {"a": [1]})
    assert told["budget"] == {"usd": 2.5, "per": "day", "soft": 0.8}
    assert keys("list")[1].splitlines()[1].split("\t")[3:7] == ["auditor", "search", "all", "$2.5 a day"]


def test_a_key_has_no_team_that_is_not_there(keys: Run) -> None:
    status, out, err = keys("create", "agent", "--team", "search")
    assert (status, out) == (1, "")
    assert "agent-gateway keys team create search" in err


def test_the_list_goes_on_where_it_ended(keys: Run) -> None:
    names = [f"agent {number}" for number in range(5)]
    for name in names:
        created(keys, name)
    shown, cursor = [], None
    while True:
        page = msgspec.json.decode(keys("list", "--json", "--limit", "2", *(["--cursor", cursor] if cursor else []))[1])
        shown += [key["name"] for key in page["data"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert shown == names
    assert "--cursor" in keys("list", "--limit", "2")[2]
    assert keys("list", "--cursor", "nobody")[0] == 1


def test_after_a_rotation_both_secrets_are_let_in_for_a_while(keys: Run, database: str) -> None:
    made = created(keys, "agent")
    status, out, err = keys("rotate", made["id"])
    assert status == 0
    assert out.startswith(f"agw_{made['id']}_")
    assert out.count("\n") == 1
    assert "The secret before is good until" in err
    assert shown(database, made["key"]) == shown(database, out.strip()) == made["id"]
    again = msgspec.json.decode(keys("rotate", made["id"], "--overlap", "0", "--json")[1])
    assert shown(database, again["key"]) == made["id"]
    assert "replaced by a newer one" in shown(database, out.strip())
    assert "not known" in shown(database, made["key"])


def test_what_is_revoked_or_not_there_is_not_rotated(keys: Run) -> None:
    made = created(keys, "agent")
    keys("revoke", made["id"])
    for key_id, said in ((made["id"], "was revoked"), ("nobody", "no key 'nobody'")):
        status, out, err = keys("rotate", key_id)
        assert (status, out) == (1, "")
        assert said in err


def test_teams_are_made_changed_listed_and_deleted(keys: Run) -> None:
    assert "no teams yet" in keys("team", "list")[1]
    assert keys("team", "create", "search", "--name", "Search", "--budget", "500")[1] == "Team search: $500 a month.\n"
    first = msgspec.json.decode(keys("team", "list", "--json")[1])["data"]
    assert keys("team", "create", "search", "--budget", "100", "--per", "total")[0] == 0
    [team] = msgspec.json.decode(keys("team", "list", "--json")[1])["data"]
    assert (team["id"], team["name"], team["budget"]["usd"], team["created_at"]) == ("search", "search", 100, first[0]["created_at"])
    assert keys("team", "list")[1].splitlines() == ["id\tname\tbudget", "search\tsearch\t$100 in all"]
    made = created(keys, "agent", "--team", "search")
    status, _, err = keys("team", "delete", "search")
    assert (status, "not revoked" in err) == (1, True)
    keys("revoke", made["id"])
    assert keys("team", "delete", "search")[0] == 0
    assert keys("team", "delete", "search")[0] == 1


def test_what_did_not_work_is_in_the_audit_log_as_that(keys: Run, database: str, tmp_path: Path) -> None:
    made = created(keys, "agent")
    with closing(sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)) as file:
        for change in ("INSERT", "UPDATE"):
            file.execute(f"CREATE TRIGGER no_{change} BEFORE {change} ON keys BEGIN SELECT RAISE(ABORT, 'no'); END")
    for words in (("create", "other"), ("rotate", made["id"]), ("revoke", made["id"])):
        assert keys(*words)[0] == 1
    assert [(entry["action"], entry["outcome"]) for entry in entries(database)] == [
        ("keys.create", "allowed"),
        *[(f"keys.{action}", outcome) for action in ("create", "rotate", "revoke") for outcome in ("allowed", "failed")],
    ]


@pytest.mark.parametrize("words", ["create agent", "rotate x", "revoke x", "team create search", "team delete search"])
def test_on_a_server_every_change_is_signed_with_a_key_that_all_have(keys: Run, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_DATABASE_URL", "postgresql://u@127.0.0.1:1/d")
    status, out, err = keys(*words.split())
    assert (status, out) == (1, "")
    assert err.startswith("auth.audit_key: is not set")
    assert "auth.audit_key" not in keys("list")[2]  # which changes nothing: it finds nobody there


def test_every_change_is_in_the_audit_log_and_no_secret_is(keys: Run, database: str) -> None:
    keys("team", "create", "search")
    made = created(keys, "agent", "--team", "search")
    secrets = [made["key"], msgspec.json.decode(keys("rotate", made["id"], "--json")[1])["key"]]
    keys("team", "delete", "search")
    keys("revoke", made["id"])
    keys("revoke", made["id"])
    found = entries(database)
    assert [(entry["action"], entry["target"], entry["outcome"]) for entry in found] == [
        ("teams.create", "search", "allowed"),
        ("keys.create", made["id"], "allowed"),
        ("keys.rotate", made["id"], "allowed"),
        ("teams.delete", "search", "allowed"),
        ("teams.delete", "search", "failed"),
        ("keys.revoke", made["id"], "allowed"),
    ]
    assert {entry["actor"]["role"] for entry in found} == {"local"}
    assert not any(secret.split("_")[2] in str(found) for secret in secrets)


@pytest.mark.parametrize(
    "words",
    [
        "",
        "create",
        "create a --expires soon",
        "create a --expires 0d",
        "create a --models a,,b",
        "create a --per day",
        "create a --budget 0",
        "create a --budget 5 --per hour",
        "create a --endpoints v1/chat",
        "create a --endpoints /v1/*/x",
        "create a --metadata [1]",
        f'create a --metadata {{"a":"{"x" * 4_096}"}}',
        "create a --role root",
        "list --limit 0",
        "rotate",
        "rotate x --overlap -1h",
        "team",
        "team create a/b",
    ],
)
def test_wrong_words_are_a_matter_of_usage(keys: Run, words: str) -> None:
    status, out, err = keys(*words.split())
    assert (status, out) == (2, "")
    assert "usage" in err or "needs a --budget" in err


def test_a_wrong_configuration_is_told_as_check_tells_it(keys: Run, tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("models: 7\n")
    status, _, err = keys("list", "--config", str(tmp_path / "wrong.yaml"))
    assert status == 1
    assert "models" in err
    assert "Traceback" not in err


def test_a_database_in_memory_can_keep_no_key(keys: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_DATABASE_URL", "sqlite:///:memory:")
    status, out, err = keys("create", "agent")
    assert (status, out) == (1, "")
    assert "in memory" in err


def test_a_database_that_cannot_be_opened_is_told(keys: Run, tmp_path: Path) -> None:
    (tmp_path / "gateway.db").mkdir()
    status, out, err = keys("create", "agent")
    assert (status, out) == (1, "")
    assert "gateway.db" in err


def test_a_terminal_of_80_columns_shows_dates_whole(keys: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    keys("team", "create", "search-and-find")
    scopes = ("--models", "small,other", "--role", "auditor", "--team", "search-and-find")
    made = created(keys, "an agent with a name", *scopes, "--expires", "30d")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    out = re.sub(r"\x1b\[[0-9;]*m", "", keys("list")[1])
    assert max(map(len, out.splitlines())) <= 80
    assert made["expires_at"][:16].replace("T", " ") in out
    assert made["id"] in out


@pytest.mark.parametrize("name", ["", "  "])
def test_a_key_needs_a_name(keys: Run, name: str) -> None:
    status, out, err = keys("create", name)
    assert (status, out) == (2, "")
    assert "say who or what the key is for" in err


def test_a_model_that_is_not_configured_is_warned_of(keys: Run) -> None:
    status, out, err = keys("create", "agent", "--models", "small,smal,elsewhere")
    assert (status, out[:4]) == (0, "agw_")
    assert "warning: --models: 'smal' is not a model of this configuration; did you mean small?\n" in err
    assert "warning: --models: 'elsewhere' is not a model of this configuration\n" in err
    assert "'small'" not in err


def test_an_endpoint_that_is_not_served_is_warned_of(keys: Run) -> None:
    served = ["/*", "/v1/chat*", "/v1/chat/completions/", "/v1/files/file-7/content", "/v1beta/models/small:generateContent"]
    right = ",".join([*served, "/v1beta/models/sm*", "/admin/v1/keys*"])
    assert "warning" not in keys("create", "agent", "--endpoints", right)[2]
    status, out, err = keys("create", "agent", "--endpoints", "/v1/chatx,/v1/chatx*,/v1/files/,/v1/file")
    assert (status, out[:4]) == (0, "agw_")
    for place in ("/v1/chatx", "/v1/chatx*", "/v1/file"):
        assert f"warning: --endpoints: {place!r} is no path of the gateway; its /openapi.json names them all\n" in err
    assert "'/v1/files/'" not in err


@pytest.mark.parametrize("words", ["create agent", "list", "revoke nobody", "team create a"])
def test_a_folder_that_is_not_there_is_not_made(keys: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    monkeypatch.setenv("GATEWAY_DATABASE_URL", f"sqlite:///{tmp_path}/none/gateway.db")
    status, out, err = keys(*words.split())
    assert (status, out) == (1, "")
    assert err == f"state.database: there is no folder {tmp_path}/none; make it, or name another file\n"
    assert not (tmp_path / "none").exists()


def test_looking_at_keys_makes_no_file(keys: Run, tmp_path: Path) -> None:
    assert "no keys yet" in keys("list")[1]
    for words in ("revoke nobody", "rotate nobody", "team delete nobody"):
        assert keys(*words.split())[0] == 1
    assert keys("team", "list")[0] == 0
    assert list(tmp_path.glob("*.db*")) == []


@pytest.mark.parametrize("action", ["create", "list", "rotate", "revoke", "team create", "team list", "team delete"])
def test_the_help_of_an_action_ends_with_an_example(keys: Run, action: str) -> None:
    status, out, _ = keys(*action.split(), "--help")
    assert status == 0
    assert out.splitlines()[-2:][0] == "example:"
    assert out.splitlines()[-1].startswith(f"  agent-gateway keys {action}")
