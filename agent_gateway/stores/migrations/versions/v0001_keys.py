"""Virtual keys, as they were before Alembic; a file of that time is taken to be at this revision."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0001"
down_revision = None

TIME: sa.Double[float] = sa.Double().with_variant(sa.REAL(), "sqlite")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

def upgrade() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("secret_hash", sa.LargeBinary, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("models", sa.Text),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME),
        sa.Column("revoked_at", TIME),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("secret_hash"),
    )
    op.create_table("keys_version", sa.Column("version", NUMBER, nullable=False))
    op.execute("INSERT INTO keys_version VALUES (0)")
    if context.get_context().dialect.name == "sqlite":
        for name, change in (("keys_inserted", "INSERT"), ("keys_updated", "UPDATE"), ("keys_deleted", "DELETE")):
            count = "UPDATE keys_version SET version = version + 1"
            op.execute(f"CREATE TRIGGER {name} AFTER {change} ON keys BEGIN {count}; END")
        return
    op.execute(
        "CREATE FUNCTION count_keys_version() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN UPDATE keys_version SET version = version + 1; RETURN NULL; END $$"
    )
    call = "EXECUTE FUNCTION count_keys_version()"
    op.execute(f"CREATE TRIGGER keys_changed AFTER INSERT OR UPDATE OR DELETE ON keys FOR EACH ROW {call}")
    op.execute(f"CREATE TRIGGER keys_truncated AFTER TRUNCATE ON keys FOR EACH STATEMENT {call}")
