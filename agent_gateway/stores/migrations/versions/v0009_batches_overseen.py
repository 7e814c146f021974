"""Batches of everybody, newest first, and what failed in one while it runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_index("batches_created_at", "batches", ["created_at", "id"])
    among = sa.text("state = 'failed'")
    op.create_index("batch_items_failed", "batch_items", ["batch", "number"], sqlite_where=among, postgresql_where=among)
