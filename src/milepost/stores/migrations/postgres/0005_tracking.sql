-- Differs from the SQLite text as 0001 does.
-- Workflow runs, and tasks that programs outside the engine spawn and claim by hand.

-- Counts what a claim's fence by hand goes by: one higher with every retry, rescue and takeover of the run.
ALTER TABLE runs ADD COLUMN generation BIGINT NOT NULL DEFAULT 1;
-- Limits that maintenance enforces: started by then, and finished so long (microseconds) after the first start.
ALTER TABLE runs ADD COLUMN start_by BIGINT;
ALTER TABLE runs ADD COLUMN max_duration BIGINT;

CREATE INDEX runs_by_start_limit ON runs (start_by)
    WHERE start_by IS NOT NULL AND started_at IS NULL AND finished_at IS NULL;
CREATE INDEX runs_by_end_limit ON runs ((started_at + max_duration))
    WHERE max_duration IS NOT NULL AND started_at IS NOT NULL AND finished_at IS NULL;
CREATE INDEX runs_tracked ON runs (created_at, run_id) WHERE kind = 'workflow';

-- What was said of a run from outside: an error as plain JSON, and how many tasks a workflow run has.
ALTER TABLE run_payloads ADD COLUMN error TEXT;
ALTER TABLE run_payloads ADD COLUMN task_count BIGINT;
-- Why a claim by hand failed, as plain JSON.
ALTER TABLE attempts ADD COLUMN reason TEXT;
-- The generation of the run that the claim was of.
ALTER TABLE attempts ADD COLUMN generation BIGINT NOT NULL DEFAULT 1;

-- Tags of workflow runs, to find them by: values are JSON text.
CREATE TABLE run_tags (
    run_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    value TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (run_id, name)
);

CREATE INDEX run_tags_by_value ON run_tags (name, value, run_id);

-- Every report of a workflow run's status, in order: a later one never overwrites an earlier one.
CREATE TABLE status_reports (
    run_id TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    status TEXT NOT NULL
        CHECK (status IN ('pending', 'running', 'completed', 'failed', 'cancelled')),
    result TEXT,
    error TEXT,
    reported_at BIGINT NOT NULL,
    PRIMARY KEY (run_id, number)
);
