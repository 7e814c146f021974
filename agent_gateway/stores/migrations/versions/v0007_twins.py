"""Items that share a result or a beginning, and those sent to a provider's own batch; what a batch asks for of items and files."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_INDEXES = (
    ("batch_items_due", ["batch", "model", "due_at", "prefix", "number", "state"], "due_at IS NOT NULL"),
    ("batch_items_running", ["batch", "due_at", "state"], "state = 'running'"),
    ("batch_items_sent", ["batch", "holder", "number"], "state = 'sent'"),
    ("batch_items_twin", ["batch", "twin"], "twin IS NOT NULL"),
)


def upgrade() -> None:
    op.add_column("batches", sa.Column("deduplicate", sa.Boolean))
    op.add_column("batches", sa.Column("output_ttl_s", sa.Integer))
    op.add_column("batch_items", sa.Column("prefix", sa.Text, nullable=False, server_default=""))
    op.add_column("batch_items", sa.Column("twin", sa.Integer))
    for name in ("batch_items_due", "batch_items_running"):
        op.drop_index(name, "batch_items")
    for name, columns, among in _INDEXES:
        op.create_index(name, "batch_items", columns, sqlite_where=sa.text(among), postgresql_where=sa.text(among))
