"""Limits of a key's own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("keys", sa.Column("requests_per_minute", sa.Integer))
    op.add_column("keys", sa.Column("tokens_per_minute", sa.BigInteger))
    op.add_column("keys", sa.Column("max_parallel", sa.Integer))
