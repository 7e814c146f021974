"""What Alembic renders as SQL, and, ready for a new database, all of it: `head.*.sql`. See `stores/revision.py`."""
