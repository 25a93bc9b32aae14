-- Differs from the SQLite text as 0001 does.
-- Queues, workers, events, waits and schedules: what many processes need to share runs.

ALTER TABLE runs ADD COLUMN rescues BIGINT NOT NULL DEFAULT 0;

-- Claims read this index from its start: what is due has no time, what waits for one is not in it.
CREATE INDEX runs_ready ON runs (queue, priority, created_at, run_id)
    WHERE status = 'pending' AND available_at IS NULL;
CREATE INDEX runs_due ON runs (available_at)
    WHERE status IN ('pending', 'suspended') AND available_at IS NOT NULL;
CREATE UNIQUE INDEX runs_by_key ON runs (queue, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX runs_by_owner ON runs (lease_owner) WHERE lease_owner IS NOT NULL;
CREATE INDEX runs_by_creator ON runs (created_by, created_at) WHERE created_by IS NOT NULL;
-- How many runs of a schedule are under way, however many it has had.
CREATE INDEX runs_open_by_creator ON runs (created_by) WHERE created_by IS NOT NULL AND finished_at IS NULL;

CREATE TABLE queues (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    paused_at BIGINT,
    created_at BIGINT NOT NULL
);

CREATE TABLE workers (
    worker_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL,
    queues TEXT NOT NULL,
    workflows TEXT NOT NULL,
    concurrency BIGINT NOT NULL,
    lease BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    heartbeat_at BIGINT NOT NULL,
    stopped_at BIGINT
);

-- The first emit of a name wins, for everybody, until the event is deleted.
CREATE TABLE events (
    scope TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    payload TEXT NOT NULL,
    emitted_at BIGINT NOT NULL,
    PRIMARY KEY (scope, name)
);

-- What a run waits for: a time, an event (or a time, whichever comes first). The outcome is written once.
CREATE TABLE waits (
    run_id TEXT COLLATE "C" NOT NULL,
    label TEXT COLLATE "C" NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('sleep', 'event')),
    scope TEXT COLLATE "C",
    event TEXT COLLATE "C",
    wake_at BIGINT,
    created_at BIGINT NOT NULL,
    outcome TEXT CHECK (outcome IN ('woken', 'emitted', 'timed_out')),
    payload TEXT,
    resolved_at BIGINT,
    PRIMARY KEY (run_id, label),
    CHECK ((outcome IS NULL) = (resolved_at IS NULL))
);

CREATE INDEX waits_for_event ON waits (scope, event) WHERE outcome IS NULL AND event IS NOT NULL;

CREATE TABLE schedules (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    workflow TEXT COLLATE "C" NOT NULL,
    target TEXT,
    hash TEXT COLLATE "C",
    queue TEXT COLLATE "C" NOT NULL,
    priority BIGINT NOT NULL,
    cron TEXT,
    every BIGINT,
    timezone TEXT NOT NULL,
    start_at BIGINT NOT NULL,
    catch_up BIGINT NOT NULL CHECK (catch_up IN (0, 1)),
    max_active BIGINT,
    inputs TEXT NOT NULL,
    next_at BIGINT,
    paused_at BIGINT,
    created_at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    CHECK ((cron IS NULL) <> (every IS NULL))
);

CREATE INDEX schedules_by_hash ON schedules (hash) WHERE hash IS NOT NULL;
CREATE INDEX schedules_due ON schedules (next_at) WHERE paused_at IS NULL AND next_at IS NOT NULL;
