CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL, 
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

-- Running upgrade  -> 0001

CREATE TABLE keys (
    id TEXT NOT NULL, 
    secret_hash BLOB NOT NULL, 
    name TEXT NOT NULL, 
    models TEXT, 
    created_at REAL NOT NULL, 
    expires_at REAL, 
    revoked_at REAL, 
    PRIMARY KEY (id), 
    UNIQUE (secret_hash)
);

CREATE TABLE keys_version (
    version INTEGER NOT NULL
);

INSERT INTO keys_version VALUES (0);

CREATE TRIGGER keys_inserted AFTER INSERT ON keys BEGIN UPDATE keys_version SET version = version + 1; END;

CREATE TRIGGER keys_updated AFTER UPDATE ON keys BEGIN UPDATE keys_version SET version = version + 1; END;

CREATE TRIGGER keys_deleted AFTER DELETE ON keys BEGIN UPDATE keys_version SET version = version + 1; END;

INSERT INTO alembic_version (version_num) VALUES ('0001') RETURNING version_num;

-- Running upgrade 0001 -> 0002

CREATE TABLE sessions (
    number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
    key_id TEXT NOT NULL, 
    user_id TEXT NOT NULL, 
    id TEXT NOT NULL, 
    version INTEGER NOT NULL, 
    turns INTEGER NOT NULL, 
    tokens BIGINT NOT NULL, 
    created_at REAL NOT NULL, 
    used_at REAL NOT NULL, 
    expires_at REAL NOT NULL, 
    metadata BLOB, 
    summarized INTEGER NOT NULL, 
    summary_dialect TEXT, 
    summary BLOB, 
    summary_tokens INTEGER, 
    UNIQUE (key_id, user_id, id)
);

CREATE INDEX sessions_user_id ON sessions (user_id);

CREATE INDEX sessions_expires_at ON sessions (expires_at);

CREATE TABLE turns (
    session INTEGER NOT NULL, 
    place INTEGER NOT NULL, 
    dialect TEXT NOT NULL, 
    body BLOB NOT NULL, 
    tokens INTEGER NOT NULL, 
    partial BOOLEAN NOT NULL, 
    PRIMARY KEY (session, place), 
    FOREIGN KEY(session) REFERENCES sessions (number) ON DELETE CASCADE
)
 WITHOUT ROWID;

CREATE TABLE leases (
    key_id TEXT NOT NULL, 
    user_id TEXT NOT NULL, 
    session_id TEXT NOT NULL, 
    holder TEXT NOT NULL, 
    expires_at REAL NOT NULL, 
    PRIMARY KEY (key_id, user_id, session_id)
);

CREATE INDEX leases_expires_at ON leases (expires_at);

CREATE TABLE responses (
    key_id TEXT NOT NULL, 
    user_id TEXT NOT NULL, 
    id TEXT NOT NULL, 
    status TEXT NOT NULL, 
    input BLOB NOT NULL, 
    body BLOB NOT NULL, 
    created_at REAL NOT NULL, 
    expires_at REAL NOT NULL, 
    parent TEXT, 
    conversation TEXT, 
    PRIMARY KEY (key_id, user_id, id)
);

CREATE INDEX responses_user_id ON responses (user_id);

CREATE INDEX responses_expires_at ON responses (expires_at);

UPDATE alembic_version SET version_num='0002' WHERE alembic_version.version_num = '0001';

-- Running upgrade 0002 -> 0003

ALTER TABLE keys ADD COLUMN requests_per_minute INTEGER;

ALTER TABLE keys ADD COLUMN tokens_per_minute BIGINT;

ALTER TABLE keys ADD COLUMN max_parallel INTEGER;

UPDATE alembic_version SET version_num='0003' WHERE alembic_version.version_num = '0002';

-- Running upgrade 0003 -> 0004

ALTER TABLE keys ADD COLUMN role TEXT DEFAULT 'user' NOT NULL;

ALTER TABLE keys ADD COLUMN endpoints TEXT;

ALTER TABLE keys ADD COLUMN owner TEXT DEFAULT '' NOT NULL;

ALTER TABLE keys ADD COLUMN team TEXT;

ALTER TABLE keys ADD COLUMN budget TEXT;

ALTER TABLE keys ADD COLUMN metadata BLOB;

ALTER TABLE keys ADD COLUMN previous_hash BLOB;

ALTER TABLE keys ADD COLUMN previous_until REAL;

CREATE INDEX keys_previous_hash ON keys (previous_hash);

CREATE INDEX keys_team ON keys (team);

CREATE TABLE teams (
    id TEXT NOT NULL, 
    name TEXT NOT NULL, 
    created_at REAL NOT NULL, 
    budget TEXT, 
    PRIMARY KEY (id)
);

CREATE TABLE spend (
    account TEXT NOT NULL, 
    period REAL NOT NULL, 
    usd REAL NOT NULL, 
    PRIMARY KEY (account, period)
);

CREATE TABLE audit (
    number INTEGER NOT NULL, 
    body BLOB NOT NULL, 
    hash BLOB NOT NULL, 
    PRIMARY KEY (number)
);

CREATE TABLE audit_head (
    signature BLOB
);

INSERT INTO audit_head VALUES (NULL);

CREATE TABLE secrets (
    name TEXT NOT NULL, 
    value BLOB NOT NULL, 
    PRIMARY KEY (name)
);

CREATE TRIGGER teams_inserted AFTER INSERT ON teams BEGIN UPDATE keys_version SET version = version + 1; END;

CREATE TRIGGER teams_updated AFTER UPDATE ON teams BEGIN UPDATE keys_version SET version = version + 1; END;

CREATE TRIGGER teams_deleted AFTER DELETE ON teams BEGIN UPDATE keys_version SET version = version + 1; END;

CREATE TRIGGER audit_updated BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

CREATE TRIGGER audit_deleted BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

UPDATE alembic_version SET version_num='0004' WHERE alembic_version.version_num = '0003';

-- Running upgrade 0004 -> 0005

DROP INDEX sessions_user_id;

CREATE INDEX sessions_user_id ON sessions (user_id) WHERE user_id <> '';

DROP INDEX responses_user_id;

CREATE INDEX responses_user_id ON responses (user_id) WHERE user_id <> '';

UPDATE alembic_version SET version_num='0005' WHERE alembic_version.version_num = '0004';

-- Running upgrade 0005 -> 0006

CREATE TABLE files (
    id TEXT NOT NULL, 
    key_id TEXT NOT NULL, 
    user_id TEXT NOT NULL, 
    filename TEXT NOT NULL, 
    purpose TEXT NOT NULL, 
    created_at REAL NOT NULL, 
    expires_at REAL, 
    bytes BIGINT NOT NULL, 
    complete BOOLEAN NOT NULL, 
    PRIMARY KEY (id)
);

CREATE INDEX files_owner ON files (key_id, user_id, created_at, id);

CREATE INDEX files_user_id ON files (user_id);

CREATE INDEX files_expires_at ON files (expires_at);

CREATE TABLE file_chunks (
    file TEXT NOT NULL, 
    place INTEGER NOT NULL, 
    body BLOB NOT NULL, 
    PRIMARY KEY (file, place), 
    FOREIGN KEY(file) REFERENCES files (id) ON DELETE CASCADE
);

CREATE TABLE batches (
    id TEXT NOT NULL, 
    key_id TEXT NOT NULL, 
    user_id TEXT NOT NULL, 
    endpoint TEXT NOT NULL, 
    input_file TEXT NOT NULL, 
    completion_window TEXT NOT NULL, 
    created_at REAL NOT NULL, 
    expires_at REAL NOT NULL, 
    status TEXT NOT NULL, 
    version BIGINT NOT NULL, 
    metadata BLOB, 
    "key" BLOB, 
    models TEXT NOT NULL, 
    total INTEGER NOT NULL, 
    errors BLOB, 
    output_file TEXT, 
    error_file TEXT, 
    in_progress_at REAL, 
    finalizing_at REAL, 
    completed_at REAL, 
    failed_at REAL, 
    expired_at REAL, 
    cancelling_at REAL, 
    cancelled_at REAL, 
    holder TEXT, 
    lease_until REAL NOT NULL, 
    "plan" BLOB, 
    completed INTEGER NOT NULL, 
    failed INTEGER NOT NULL, 
    cost_usd REAL NOT NULL, 
    single_cost_usd REAL NOT NULL, 
    native_saved_usd REAL NOT NULL, 
    duplicate_saved_usd REAL NOT NULL, 
    cache_saved_usd REAL NOT NULL, 
    lost_calls INTEGER NOT NULL, 
    PRIMARY KEY (id)
);

CREATE INDEX batches_owner ON batches (key_id, user_id, created_at, id);

CREATE INDEX batches_user_id ON batches (user_id);

CREATE INDEX batches_status ON batches (status, created_at);

CREATE TABLE batch_items (
    batch TEXT NOT NULL, 
    number INTEGER NOT NULL, 
    custom_id TEXT NOT NULL, 
    model TEXT NOT NULL, 
    body BLOB NOT NULL, 
    state TEXT NOT NULL, 
    due_at REAL, 
    holder TEXT, 
    fence BIGINT NOT NULL, 
    attempts INTEGER NOT NULL, 
    status_code INTEGER, 
    request_id TEXT, 
    result BLOB, 
    PRIMARY KEY (batch, number), 
    FOREIGN KEY(batch) REFERENCES batches (id) ON DELETE CASCADE
);

CREATE INDEX batch_items_due ON batch_items (batch, model, due_at, number) WHERE due_at IS NOT NULL;

CREATE INDEX batch_items_running ON batch_items (batch) WHERE state = 'running';

UPDATE alembic_version SET version_num='0006' WHERE alembic_version.version_num = '0005';

-- Running upgrade 0006 -> 0007

ALTER TABLE batches ADD COLUMN deduplicate BOOLEAN;

ALTER TABLE batches ADD COLUMN output_ttl_s INTEGER;

ALTER TABLE batch_items ADD COLUMN prefix TEXT DEFAULT '' NOT NULL;

ALTER TABLE batch_items ADD COLUMN twin INTEGER;

DROP INDEX batch_items_due;

DROP INDEX batch_items_running;

CREATE INDEX batch_items_due ON batch_items (batch, model, due_at, prefix, number, state) WHERE due_at IS NOT NULL;

CREATE INDEX batch_items_running ON batch_items (batch, due_at, state) WHERE state = 'running';

CREATE INDEX batch_items_sent ON batch_items (batch, holder, number) WHERE state = 'sent';

CREATE INDEX batch_items_twin ON batch_items (batch, twin) WHERE twin IS NOT NULL;

UPDATE alembic_version SET version_num='0007' WHERE alembic_version.version_num = '0006';

-- Running upgrade 0007 -> 0008

CREATE TABLE kept_values (
    kind TEXT NOT NULL, 
    name TEXT NOT NULL, 
    body BLOB NOT NULL, 
    expires_at REAL, 
    PRIMARY KEY (kind, name)
);

UPDATE alembic_version SET version_num='0008' WHERE alembic_version.version_num = '0007';

-- Running upgrade 0008 -> 0009

CREATE INDEX batches_created_at ON batches (created_at, id);

CREATE INDEX batch_items_failed ON batch_items (batch, number) WHERE state = 'failed';

UPDATE alembic_version SET version_num='0009' WHERE alembic_version.version_num = '0008';

