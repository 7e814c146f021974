"""The migrations: what is kept beside them, what they leave, and that nothing is imported for what is up to date."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from agent_gateway.core.errors import StoreDown
from agent_gateway.stores import revision
from agent_gateway.stores.base import open_store
from agent_gateway.stores.revision import HEAD, REVISIONS, SqlDialect, head_script, is_head, render
from agent_gateway.stores.schema import metadata
from tests.stores.stores import fresh_url

both = pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])


@both
def test_the_script_for_a_new_database_is_what_the_migrations_say(dialect: SqlDialect) -> None:
    file = head_script(dialect)
    assert file.read_text() == render(dialect, None), f"python -m agent_gateway.stores.revision {dialect} > {file.name}"


@both
def test_from_today_on_nothing_is_to_be_done(dialect: SqlDialect) -> None:
    assert render(dialect, HEAD).strip() == ""


def test_the_revisions_are_those_of_the_folder_in_one_line() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(revision.__file__).with_name("migrations")))
    folder = ScriptDirectory.from_config(config)
    assert tuple(found.revision for found in reversed(list(folder.walk_revisions()))) == REVISIONS
    assert folder.get_heads() == [HEAD]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_the_tables_are_those_of_the_schema(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = await fresh_url(kind, request.config, tmp_path)
    store = open_store(url)
    await store.keys_version()
    await store.close()
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_a_later_version_is_told() -> None:
    assert [is_head(each) for each in (None, *REVISIONS)] == [False] * len(REVISIONS) + [True]
    with pytest.raises(StoreDown) as down:
        is_head("9999")
    assert "9999" in (down.value.detail or "")


def test_a_migration_that_cannot_be_made_says_why() -> None:
    with pytest.raises(OSError, match="no_such_revision"):
        revision.script("sqlite", "no_such_revision")


def test_a_new_database_and_one_that_is_up_to_date_need_no_sqlalchemy(tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
from agent_gateway.stores.base import open_store
async def use():
    for _ in range(2):
        store = open_store("sqlite:///{tmp_path}/new.db")
        await store.list_keys(limit=10)
        await store.close()
asyncio.run(use())
print(sorted({{"sqlalchemy", "alembic", "asyncpg", "redis"}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    database = sqlite3.connect(tmp_path / "new.db")
    assert database.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]
    database.close()
