"""What operators decided, and who is logged in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from agent_gateway.stores.schema import TIME

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "kept_values",
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("expires_at", TIME),
        sa.PrimaryKeyConstraint("kind", "name"),
    )
