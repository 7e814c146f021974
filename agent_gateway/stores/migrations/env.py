"""Alembic runs this to render migrations as SQL; it never connects: the stores run what comes out (`stores/revision.py`)."""

from __future__ import annotations

from alembic import context

options = context.config.attributes
context.configure(dialect_name=options["dialect"], as_sql=True, output_buffer=options["output"], transactional_ddl=False)
context.run_migrations()
