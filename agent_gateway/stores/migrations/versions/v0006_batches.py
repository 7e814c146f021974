"""Files, batches and their items."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

AMOUNT: sa.Double[float] = sa.Double().with_variant(sa.REAL(), "sqlite")
TIME = AMOUNT


def upgrade() -> None:
    _create_files()
    _create_batches()
    _create_items()


def _create_files() -> None:
    op.create_table(
        "files",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("complete", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("files_owner", "files", ["key_id", "user_id", "created_at", "id"])
    op.create_index("files_user_id", "files", ["user_id"])
    op.create_index("files_expires_at", "files", ["expires_at"])
    op.create_table(
        "file_chunks",
        sa.Column("file", sa.Text, sa.ForeignKey("files.id", ondelete="CASCADE"), nullable=False),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("file", "place"),
    )


def _create_batches() -> None:
    times = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
    sums = ("cost_usd", "single_cost_usd", "native_saved_usd", "duplicate_saved_usd", "cache_saved_usd")
    op.create_table(
        "batches",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("input_file", sa.Text, nullable=False),
        sa.Column("completion_window", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("metadata", sa.LargeBinary),
        sa.Column("key", sa.LargeBinary),
        sa.Column("models", sa.Text, nullable=False),
        sa.Column("total", sa.Integer, nullable=False),
        sa.Column("errors", sa.LargeBinary),
        sa.Column("output_file", sa.Text),
        sa.Column("error_file", sa.Text),
        *(sa.Column(f"{name}_at", TIME) for name in times),
        sa.Column("holder", sa.Text),
        sa.Column("lease_until", TIME, nullable=False),
        sa.Column("plan", sa.LargeBinary),
        sa.Column("completed", sa.Integer, nullable=False),
        sa.Column("failed", sa.Integer, nullable=False),
        *(sa.Column(name, AMOUNT, nullable=False) for name in sums),
        sa.Column("lost_calls", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("batches_owner", "batches", ["key_id", "user_id", "created_at", "id"])
    op.create_index("batches_user_id", "batches", ["user_id"])
    op.create_index("batches_status", "batches", ["status", "created_at"])


def _create_items() -> None:
    op.create_table(
        "batch_items",
        sa.Column("batch", sa.Text, sa.ForeignKey("batches.id", ondelete="CASCADE"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("custom_id", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("due_at", TIME),
        sa.Column("holder", sa.Text),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("status_code", sa.Integer),
        sa.Column("request_id", sa.Text),
        sa.Column("result", sa.LargeBinary),
        sa.PrimaryKeyConstraint("batch", "number"),
    )
    for name, columns, among in (
        ("batch_items_due", ["batch", "model", "due_at", "number"], sa.text("due_at IS NOT NULL")),
        ("batch_items_running", ["batch"], sa.text("state = 'running'")),
    ):
        op.create_index(name, "batch_items", columns, sqlite_where=among, postgresql_where=among)
