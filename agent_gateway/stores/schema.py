"""The tables of SQLite and PostgreSQL, as the migrations must leave them (a test compares). The statements are in `sql.py`.

Nothing at run time imports this: SQLAlchemy takes a second or two.
"""

from __future__ import annotations

from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

AMOUNT: Double[float] = Double().with_variant(REAL(), "sqlite")
#: Unix seconds.
TIME = AMOUNT
#: SQLite numbers rows by itself only where their type is exactly INTEGER.
NUMBER = BigInteger().with_variant(Integer(), "sqlite")
#: Those of no user are not looked for by it: with them in the index, PostgreSQL would take it to find one of them by its owner.
NAMED = text("user_id <> ''")

metadata = MetaData()

keys = Table(
    "keys",
    metadata,
    Column("id", Text, nullable=False),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("name", Text, nullable=False),
    Column("models", Text),
    Column("created_at", TIME, nullable=False),
    Column("expires_at", TIME),
    Column("revoked_at", TIME),
    Column("requests_per_minute", Integer),
    Column("tokens_per_minute", BigInteger),
    Column("max_parallel", Integer),
    Column("role", Text, nullable=False, server_default="user"),
    Column("endpoints", Text),
    Column("owner", Text, nullable=False, server_default=""),
    Column("team", Text),
    Column("budget", Text),
    Column("metadata", LargeBinary),
    # Of the secret before the last rotation.
    Column("previous_hash", LargeBinary),
    Column("previous_until", TIME),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("secret_hash"),
    Index("keys_previous_hash", "previous_hash"),
    Index("keys_team", "team"),
)

teams = Table(
    "teams",
    metadata,
    Column("id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("created_at", TIME, nullable=False),
    Column("budget", Text),
    PrimaryKeyConstraint("id"),
)

#: One row; triggers on `keys` and `teams` count it up, so that no writer can forget to.
keys_version = Table("keys_version", metadata, Column("version", NUMBER, nullable=False))

spend = Table(
    "spend",
    metadata,
    Column("account", Text, nullable=False),
    Column("period", TIME, nullable=False),
    Column("usd", AMOUNT, nullable=False),
    PrimaryKeyConstraint("account", "period"),
)

#: Triggers refuse to change or delete what is there.
audit = Table(
    "audit",
    metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

#: One row: NULL until something is appended.
audit_head = Table("audit_head", metadata, Column("signature", LargeBinary))

secrets = Table(
    "secrets",
    metadata,
    Column("name", Text, nullable=False),
    Column("value", LargeBinary, nullable=False),
    PrimaryKeyConstraint("name"),
)

#: What operators decided, and who is logged in.
kept_values = Table(
    "kept_values",
    metadata,
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    # NULL: it has no end.
    Column("expires_at", TIME),
    PrimaryKeyConstraint("kind", "name"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=True),
    Column("key_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("turns", Integer, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("created_at", TIME, nullable=False),
    Column("used_at", TIME, nullable=False),
    Column("expires_at", TIME, nullable=False),
    Column("metadata", LargeBinary),
    # Of the summary that stands for the first `summarized` turns.
    Column("summarized", Integer, nullable=False),
    Column("summary_dialect", Text),
    Column("summary", LargeBinary),
    Column("summary_tokens", Integer),
    UniqueConstraint("key_id", "user_id", "id"),
    Index("sessions_user_id", "user_id", sqlite_where=NAMED, postgresql_where=NAMED),
    Index("sessions_expires_at", "expires_at"),
    # A number is never given twice: a page's cursor, and turns read after their session, must not meet another session under it.
    sqlite_autoincrement=True,
)

#: Those of one session lie side by side.
turns = Table(
    "turns",
    metadata,
    Column("session", NUMBER, ForeignKey("sessions.number", ondelete="CASCADE"), nullable=False),
    Column("place", Integer, nullable=False),
    Column("dialect", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("partial", Boolean, nullable=False),
    PrimaryKeyConstraint("session", "place"),
    sqlite_with_rowid=False,
)

#: Whose turn it is, of sessions that need not be there yet.
leases = Table(
    "leases",
    metadata,
    Column("key_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("session_id", Text, nullable=False),
    Column("holder", Text, nullable=False),
    Column("expires_at", TIME, nullable=False),
    PrimaryKeyConstraint("key_id", "user_id", "session_id"),
    Index("leases_expires_at", "expires_at"),
)

responses = Table(
    "responses",
    metadata,
    Column("key_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("input", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created_at", TIME, nullable=False),
    Column("expires_at", TIME, nullable=False),
    Column("parent", Text),
    Column("conversation", Text),
    PrimaryKeyConstraint("key_id", "user_id", "id"),
    Index("responses_user_id", "user_id", sqlite_where=NAMED, postgresql_where=NAMED),
    Index("responses_expires_at", "expires_at"),
)

files = Table(
    "files",
    metadata,
    Column("id", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("created_at", TIME, nullable=False),
    Column("expires_at", TIME),
    Column("bytes", BigInteger, nullable=False),
    Column("complete", Boolean, nullable=False),
    PrimaryKeyConstraint("id"),
    Index("files_owner", "key_id", "user_id", "created_at", "id"),
    Index("files_user_id", "user_id"),
    Index("files_expires_at", "expires_at"),
)

file_chunks = Table(
    "file_chunks",
    metadata,
    Column("file", Text, ForeignKey("files.id", ondelete="CASCADE"), nullable=False),
    Column("place", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    PrimaryKeyConstraint("file", "place"),
)

batches = Table(
    "batches",
    metadata,
    Column("id", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("input_file", Text, nullable=False),
    Column("completion_window", Text, nullable=False),
    Column("created_at", TIME, nullable=False),
    Column("expires_at", TIME, nullable=False),
    Column("status", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("metadata", LargeBinary),
    Column("key", LargeBinary),
    Column("models", Text, nullable=False),
    Column("total", Integer, nullable=False),
    Column("errors", LargeBinary),
    Column("output_file", Text),
    Column("error_file", Text),
    Column("in_progress_at", TIME),
    Column("finalizing_at", TIME),
    Column("completed_at", TIME),
    Column("failed_at", TIME),
    Column("expired_at", TIME),
    Column("cancelling_at", TIME),
    Column("cancelled_at", TIME),
    Column("holder", Text),
    Column("lease_until", TIME, nullable=False),
    Column("plan", LargeBinary),
    # Counted as items finish.
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("cost_usd", AMOUNT, nullable=False),
    Column("single_cost_usd", AMOUNT, nullable=False),
    Column("native_saved_usd", AMOUNT, nullable=False),
    Column("duplicate_saved_usd", AMOUNT, nullable=False),
    Column("cache_saved_usd", AMOUNT, nullable=False),
    Column("lost_calls", Integer, nullable=False),
    Column("deduplicate", Boolean),
    Column("output_ttl_s", Integer),
    PrimaryKeyConstraint("id"),
    Index("batches_owner", "key_id", "user_id", "created_at", "id"),
    Index("batches_user_id", "user_id"),
    Index("batches_status", "status", "created_at"),
    Index("batches_created_at", "created_at", "id"),
)

batch_items = Table(
    "batch_items",
    metadata,
    Column("batch", Text, ForeignKey("batches.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("custom_id", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    # From when on whoever asks may have it: of one that is held the end of its lease. NULL: never again, and of twins never.
    Column("due_at", TIME),
    Column("holder", Text),
    Column("fence", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("status_code", Integer),
    Column("request_id", Text),
    Column("result", LargeBinary),
    Column("prefix", Text, nullable=False, server_default=""),
    # The number of the item whose result is this one's too.
    Column("twin", Integer),
    PrimaryKeyConstraint("batch", "number"),
    # Of those that are not finished only, so that none grows with what is done; the last two have twins and failures only. `state` is in
    # the first two so that SQLite reads nothing but the index where it looks for one among them.
    *(
        Index(name, *columns, sqlite_where=text(among), postgresql_where=text(among))
        for name, columns, among in (
            ("batch_items_due", ("batch", "model", "due_at", "prefix", "number", "state"), "due_at IS NOT NULL"),
            ("batch_items_running", ("batch", "due_at", "state"), "state = 'running'"),
            ("batch_items_sent", ("batch", "holder", "number"), "state = 'sent'"),
            ("batch_items_twin", ("batch", "twin"), "twin IS NOT NULL"),
            ("batch_items_failed", ("batch", "number"), "state = 'failed'"),
        )
    ),
)
