-- The ledger's first tables. Times are microseconds since 1970-01-01 UTC; JSON is opaque text.
-- STRICT because a column that quietly holds another type is a bug found a year later.

CREATE TABLE definitions (
    hash TEXT NOT NULL PRIMARY KEY,
    workflow TEXT NOT NULL,
    document TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE runs (
    run_id TEXT NOT NULL PRIMARY KEY,
    workflow TEXT NOT NULL,
    version TEXT,
    hash TEXT REFERENCES definitions (hash),
    kind TEXT NOT NULL,
    status TEXT NOT NULL
        CHECK (status IN ('pending', 'running', 'suspended', 'completed', 'failed', 'cancelled')),
    queue TEXT,
    priority INTEGER NOT NULL DEFAULT 0,
    available_at INTEGER,
    lease_owner TEXT,
    lease_until INTEGER,
    lease_epoch INTEGER NOT NULL DEFAULT 0,
    attempt INTEGER NOT NULL DEFAULT 0,
    max_attempts INTEGER NOT NULL DEFAULT 1,
    idempotency_key TEXT,
    correlation_id TEXT,
    parent_run_id TEXT REFERENCES runs (run_id) ON DELETE CASCADE,
    root_run_id TEXT NOT NULL,
    replay_of TEXT,
    created_by TEXT,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    cancel_requested_at INTEGER,
    error_step TEXT,
    error_type TEXT,
    error_message TEXT,
    parent_step TEXT,
    pause_requested_at INTEGER,
    CHECK (parent_run_id IS NULL OR parent_run_id <> run_id),
    -- A workflow run without a definition is tracked by hand: it is running when somebody says so, and nobody leases it.
    CHECK ((status = 'running') = (lease_owner IS NOT NULL) OR (kind = 'workflow' AND hash IS NULL)),
    CHECK ((status = 'running') = (lease_until IS NOT NULL) OR (kind = 'workflow' AND hash IS NULL)),
    CHECK ((status IN ('completed', 'failed', 'cancelled')) = (finished_at IS NOT NULL))
) STRICT, WITHOUT ROWID;

-- Lists are newest first: each way to filter them is an index in that order.
CREATE INDEX runs_by_created ON runs (created_at, run_id);
CREATE INDEX runs_by_status ON runs (status, created_at, run_id) WHERE finished_at IS NOT NULL;
CREATE INDEX runs_open ON runs (created_at, run_id) WHERE finished_at IS NULL;
CREATE INDEX runs_by_workflow ON runs (workflow, created_at, run_id);
CREATE INDEX runs_by_parent ON runs (parent_run_id, created_at, run_id) WHERE parent_run_id IS NOT NULL;
CREATE INDEX runs_by_root ON runs (root_run_id) WHERE parent_run_id IS NOT NULL;
CREATE INDEX runs_by_hash ON runs (hash);
CREATE INDEX runs_by_origin ON runs (replay_of, created_at, run_id) WHERE replay_of IS NOT NULL;
CREATE INDEX runs_finished ON runs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX runs_running ON runs (lease_until) WHERE lease_until IS NOT NULL;

CREATE TABLE run_payloads (
    run_id TEXT NOT NULL PRIMARY KEY REFERENCES runs (run_id) ON DELETE CASCADE,
    inputs TEXT NOT NULL,
    result TEXT,
    error_traceback TEXT,
    target TEXT,
    tags TEXT NOT NULL DEFAULT '{}',
    headers TEXT NOT NULL DEFAULT '{}',
    policies TEXT NOT NULL DEFAULT '{}'
) STRICT, WITHOUT ROWID;

-- One row for each claim of a run: who executed it, from when to when, and how that ended. A hash says that it was
-- executed with another definition than the run began with: other code for the same steps.
CREATE TABLE attempts (
    run_id TEXT NOT NULL REFERENCES runs (run_id) ON DELETE CASCADE,
    lease_epoch INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    owner TEXT NOT NULL,
    status TEXT NOT NULL
        CHECK (status IN ('running', 'suspended', 'completed', 'failed', 'cancelled')),
    started_at INTEGER NOT NULL,
    finished_at INTEGER,
    error_type TEXT,
    error_message TEXT,
    hash TEXT,
    PRIMARY KEY (run_id, lease_epoch)
) STRICT, WITHOUT ROWID;

CREATE INDEX attempts_by_hash ON attempts (hash) WHERE hash IS NOT NULL;

-- The origin of a skipped step is the run that made the output it copied.
CREATE TABLE steps (
    run_id TEXT NOT NULL REFERENCES runs (run_id) ON DELETE CASCADE,
    label TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    lease_epoch INTEGER NOT NULL,
    kind TEXT NOT NULL,
    parent TEXT,
    status TEXT NOT NULL
        CHECK (status IN ('pending', 'running', 'completed', 'failed', 'cancelled', 'skipped')),
    input TEXT,
    output TEXT,
    storage TEXT NOT NULL CHECK (storage IN ('inline', 'elements', 'none')),
    output_hash TEXT,
    error_type TEXT,
    error_message TEXT,
    error_traceback TEXT,
    progress_done INTEGER,
    progress_total INTEGER,
    progress_message TEXT,
    started_at INTEGER NOT NULL,
    finished_at INTEGER,
    origin_run_id TEXT,
    PRIMARY KEY (run_id, label, attempt)
) STRICT, WITHOUT ROWID;

CREATE TABLE edges (
    run_id TEXT NOT NULL REFERENCES runs (run_id) ON DELETE CASCADE,
    upstream TEXT NOT NULL,
    downstream TEXT NOT NULL,
    traversed_at INTEGER NOT NULL,
    PRIMARY KEY (run_id, downstream, upstream)
) STRICT, WITHOUT ROWID;

CREATE TABLE checkpoints (
    run_id TEXT NOT NULL REFERENCES runs (run_id) ON DELETE CASCADE,
    label TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    lease_epoch INTEGER NOT NULL,
    saved_at INTEGER NOT NULL,
    PRIMARY KEY (run_id, label, name)
) STRICT, WITHOUT ROWID;
