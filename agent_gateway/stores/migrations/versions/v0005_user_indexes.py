"""A user's sessions and responses by an index without those of no user: PostgreSQL would look one of theirs up among all of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_NAMED = sa.text("user_id <> ''")


def upgrade() -> None:
    for table in ("sessions", "responses"):
        op.drop_index(f"{table}_user_id", table)
        op.create_index(f"{table}_user_id", table, ["user_id"], sqlite_where=_NAMED, postgresql_where=_NAMED)
