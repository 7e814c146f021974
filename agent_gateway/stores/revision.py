"""Which schema a database has, and the SQL that takes it to today's.

Promise: a new database, and one that is up to date, need neither SQLAlchemy nor Alembic: their import takes seconds and 40 MB.
"""

from __future__ import annotations

import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Literal, cast

from agent_gateway.core.errors import StoreDown

SqlDialect = Literal["sqlite", "postgresql"]

#: Every revision, oldest first; the files are in `migrations/versions`.
REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009")
HEAD = REVISIONS[-1]

#: Alembic's import takes two seconds on a slow machine.
RENDER_TIMEOUT_S = 30.0

_MIGRATIONS = Path(__file__).parent / "migrations"


def is_head(revision: str | None) -> bool:
    """Whether nothing is to be done. Raises `StoreDown` for a schema of a later version of this program."""
    if revision is not None and revision not in REVISIONS:
        raise StoreDown(
            "The gateway's database cannot be used at the moment.",
            detail=f"a later version of agent-gateway wrote it (schema {revision}; this one knows {HEAD})",
        )
    return revision == HEAD


def script(dialect: SqlDialect, revision: str | None) -> str:
    """The SQL from `revision` to `HEAD`, to be run in one transaction; None: from nothing. Blocks."""
    if revision is None:
        return head_script(dialect).read_text()
    # In a process of its own: what Alembic brings along ends with it.
    command = [sys.executable, "-m", "agent_gateway.stores.revision", dialect, revision]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=RENDER_TIMEOUT_S).stdout  # noqa: S603
    except subprocess.SubprocessError as error:
        said = getattr(error, "stderr", None) or error
        raise OSError(f"the migration from schema {revision} could not be made: {str(said).strip()[-500:]}") from error


def head_script(dialect: SqlDialect) -> Path:
    """What `render` says from nothing; a test holds them together."""
    return _MIGRATIONS / f"head.{dialect}.sql"


def render(dialect: SqlDialect, revision: str | None) -> str:
    from alembic import command
    from alembic.config import Config

    output = StringIO()
    config = Config(attributes={"dialect": dialect, "output": output})
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    command.upgrade(config, "head" if revision is None else f"{revision}:head", sql=True)
    return output.getvalue()


if __name__ == "__main__":  # DIALECT [REVISION]: prints the SQL from there to today's schema
    chosen = cast(SqlDialect, sys.argv[1])
    sys.stdout.write(render(chosen, sys.argv[2] if len(sys.argv) > 2 else None))
