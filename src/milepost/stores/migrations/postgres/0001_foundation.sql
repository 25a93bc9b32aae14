-- Differs from the SQLite text in types (64 bits are BIGINT), in collation (keys compare by bytes, as ranges of labels
-- and beginnings of ids need it) and in foreign keys: a check of one locks the run's row once more for each step.
-- The fence in each statement keeps orphans out, and deletion names every table.
-- Times are microseconds since 1970-01-01 UTC; JSON is opaque text.

CREATE TABLE definitions (
    hash TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    workflow TEXT COLLATE "C" NOT NULL,
    document TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE runs (
    run_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    workflow TEXT COLLATE "C" NOT NULL,
    version TEXT,
    hash TEXT COLLATE "C",
    kind TEXT NOT NULL,
    status TEXT NOT NULL
        CHECK (status IN ('pending', 'running', 'suspended', 'completed', 'failed', 'cancelled')),
    queue TEXT COLLATE "C",
    priority BIGINT NOT NULL DEFAULT 0,
    available_at BIGINT,
    lease_owner TEXT COLLATE "C",
    lease_until BIGINT,
    lease_epoch BIGINT NOT NULL DEFAULT 0,
    attempt BIGINT NOT NULL DEFAULT 0,
    max_attempts BIGINT NOT NULL DEFAULT 1,
    idempotency_key TEXT COLLATE "C",
    correlation_id TEXT,
    parent_run_id TEXT COLLATE "C" REFERENCES runs (run_id),
    root_run_id TEXT COLLATE "C" NOT NULL,
    replay_of TEXT,
    created_by TEXT COLLATE "C",
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    finished_at BIGINT,
    cancel_requested_at BIGINT,
    error_step TEXT,
    error_type TEXT,
    error_message TEXT,
    parent_step TEXT,
    pause_requested_at BIGINT,
    CHECK (parent_run_id IS NULL OR parent_run_id <> run_id),
    -- A workflow run without a definition is tracked by hand: it is running when somebody says so, and nobody leases it.
    CHECK ((status = 'running') = (lease_owner IS NOT NULL) OR (kind = 'workflow' AND hash IS NULL)),
    CHECK ((status = 'running') = (lease_until IS NOT NULL) OR (kind = 'workflow' AND hash IS NULL)),
    CHECK ((status IN ('completed', 'failed', 'cancelled')) = (finished_at IS NOT NULL))
);

-- Lists are newest first: each way to filter them is an index in that order.
CREATE INDEX runs_by_created ON runs (created_at, run_id);
-- No index here begins with the state of a run that is not over: every guard names one ("run_id = ... AND status =
-- 'running'"), and a planner that thinks few runs are in it would walk them all for one that it could find by its key.
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
    run_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    inputs TEXT NOT NULL,
    result TEXT,
    error_traceback TEXT,
    target TEXT,
    tags TEXT NOT NULL DEFAULT '{}',
    headers TEXT NOT NULL DEFAULT '{}',
    policies TEXT NOT NULL DEFAULT '{}'
);

-- One row for each claim of a run: who executed it, from when to when, and how that ended. A hash says that it was
-- executed with another definition than the run began with: other code for the same steps.
CREATE TABLE attempts (
    run_id TEXT COLLATE "C" NOT NULL,
    lease_epoch BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    owner TEXT NOT NULL,
    status TEXT NOT NULL
        CHECK (status IN ('running', 'suspended', 'completed', 'failed', 'cancelled')),
    started_at BIGINT NOT NULL,
    finished_at BIGINT,
    error_type TEXT,
    error_message TEXT,
    hash TEXT,
    PRIMARY KEY (run_id, lease_epoch)
);

CREATE INDEX attempts_by_hash ON attempts (hash) WHERE hash IS NOT NULL;

-- The origin of a skipped step is the run that made the output it copied.
CREATE TABLE steps (
    run_id TEXT COLLATE "C" NOT NULL,
    label TEXT COLLATE "C" NOT NULL,
    attempt BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    lease_epoch BIGINT NOT NULL,
    kind TEXT NOT NULL,
    parent TEXT COLLATE "C",
    status TEXT NOT NULL
        CHECK (status IN ('pending', 'running', 'completed', 'failed', 'cancelled', 'skipped')),
    input TEXT,
    output TEXT,
    storage TEXT NOT NULL CHECK (storage IN ('inline', 'elements', 'none')),
    output_hash TEXT,
    error_type TEXT,
    error_message TEXT,
    error_traceback TEXT,
    progress_done BIGINT,
    progress_total BIGINT,
    progress_message TEXT,
    started_at BIGINT NOT NULL,
    finished_at BIGINT,
    origin_run_id TEXT,
    PRIMARY KEY (run_id, label, attempt)
);

CREATE TABLE edges (
    run_id TEXT COLLATE "C" NOT NULL,
    upstream TEXT COLLATE "C" NOT NULL,
    downstream TEXT COLLATE "C" NOT NULL,
    traversed_at BIGINT NOT NULL,
    PRIMARY KEY (run_id, downstream, upstream)
);

CREATE TABLE checkpoints (
    run_id TEXT COLLATE "C" NOT NULL,
    label TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    value TEXT NOT NULL,
    lease_epoch BIGINT NOT NULL,
    saved_at BIGINT NOT NULL,
    PRIMARY KEY (run_id, label, name)
);
