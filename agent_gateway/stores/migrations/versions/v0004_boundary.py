"""Scopes and rotation of keys, teams, spend, and the audit log, which the database itself keeps from being rewritten."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0004"
down_revision = "0003"

AMOUNT: sa.Double[float] = sa.Double().with_variant(sa.REAL(), "sqlite")
TIME = AMOUNT
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    for column in (
        sa.Column("role", sa.Text, nullable=False, server_default="user"),
        sa.Column("endpoints", sa.Text),
        sa.Column("owner", sa.Text, nullable=False, server_default=""),
        sa.Column("team", sa.Text),
        sa.Column("budget", sa.Text),
        sa.Column("metadata", sa.LargeBinary),
        sa.Column("previous_hash", sa.LargeBinary),
        sa.Column("previous_until", TIME),
    ):
        op.add_column("keys", column)
    op.create_index("keys_previous_hash", "keys", ["previous_hash"])
    op.create_index("keys_team", "keys", ["team"])
    op.create_table(
        "teams",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("budget", sa.Text),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "spend",
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("period", TIME, nullable=False),
        sa.Column("usd", AMOUNT, nullable=False),
        sa.PrimaryKeyConstraint("account", "period"),
    )
    op.create_table(
        "audit",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    op.create_table("audit_head", sa.Column("signature", sa.LargeBinary))
    op.execute("INSERT INTO audit_head VALUES (NULL)")
    op.create_table(
        "secrets",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    if context.get_context().dialect.name == "sqlite":
        _guard_sqlite()
    else:
        _guard_postgresql()


def _guard_sqlite() -> None:
    for name, change in (("inserted", "INSERT"), ("updated", "UPDATE"), ("deleted", "DELETE")):
        count = "UPDATE keys_version SET version = version + 1"
        op.execute(f"CREATE TRIGGER teams_{name} AFTER {change} ON teams BEGIN {count}; END")
    for name, change in (("updated", "UPDATE"), ("deleted", "DELETE")):
        refuse = "SELECT RAISE(ABORT, 'the audit log is append-only')"
        op.execute(f"CREATE TRIGGER audit_{name} BEFORE {change} ON audit BEGIN {refuse}; END")


def _guard_postgresql() -> None:
    count = "EXECUTE FUNCTION count_keys_version()"
    op.execute(f"CREATE TRIGGER teams_changed AFTER INSERT OR UPDATE OR DELETE ON teams FOR EACH ROW {count}")
    op.execute(f"CREATE TRIGGER teams_truncated AFTER TRUNCATE ON teams FOR EACH STATEMENT {count}")
    op.execute(
        "CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$"
    )
    refuse = "EXECUTE FUNCTION refuse_audit_change()"
    op.execute(f"CREATE TRIGGER audit_unchanged BEFORE UPDATE OR DELETE OR TRUNCATE ON audit FOR EACH STATEMENT {refuse}")
