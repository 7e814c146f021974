"""Sessions with their turns and leases, and stored responses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

TIME: sa.Double[float] = sa.Double().with_variant(sa.REAL(), "sqlite")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("turns", sa.Integer, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("used_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("metadata", sa.LargeBinary),
        sa.Column("summarized", sa.Integer, nullable=False),
        sa.Column("summary_dialect", sa.Text),
        sa.Column("summary", sa.LargeBinary),
        sa.Column("summary_tokens", sa.Integer),
        sa.UniqueConstraint("key_id", "user_id", "id"),
        sqlite_autoincrement=True,
    )
    op.create_index("sessions_user_id", "sessions", ["user_id"])
    op.create_index("sessions_expires_at", "sessions", ["expires_at"])
    op.create_table(
        "turns",
        sa.Column("session", NUMBER, sa.ForeignKey("sessions.number", ondelete="CASCADE"), nullable=False),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("dialect", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("tokens", sa.Integer, nullable=False),
        sa.Column("partial", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("session", "place"),
        sqlite_with_rowid=False,
    )
    _create_leases_and_responses()


def _create_leases_and_responses() -> None:
    op.create_table(
        "leases",
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("session_id", sa.Text, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("key_id", "user_id", "session_id"),
    )
    op.create_index("leases_expires_at", "leases", ["expires_at"])
    op.create_table(
        "responses",
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("input", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("parent", sa.Text),
        sa.Column("conversation", sa.Text),
        sa.PrimaryKeyConstraint("key_id", "user_id", "id"),
    )
    op.create_index("responses_user_id", "responses", ["user_id"])
    op.create_index("responses_expires_at", "responses", ["expires_at"])
