-- What a driver writes while a run executes. Every statement carries the fence: the row of the run
-- with the writer's lease_epoch, still running. A stale writer changes nothing.

-- name: insert_definition
-- Definitions are content-addressed: the same graph is stored once.
INSERT INTO definitions (hash, workflow, document, created_at)
VALUES (:hash, :workflow, :document, :now)
ON CONFLICT (hash) DO NOTHING;

-- name: insert_run (RunRow)
-- A run that starts in this process is born claimed: nobody else may pick it up in between. An id that is
-- taken is passed over, before any other rule looks at the row: the count tells.
INSERT INTO runs (
    run_id, workflow, version, hash, kind, status, priority, lease_owner, lease_until, lease_epoch, attempt,
    max_attempts, correlation_id, parent_run_id, root_run_id, replay_of, created_by, parent_step, created_at, started_at
)
SELECT
    :run_id, :workflow, :version, :hash, :kind, 'running', 0, :owner, {lease_until}, 1, :attempt,
    :attempt, :correlation_id, :parent_run_id, :root_run_id, :replay_of, :created_by, :parent_step, :now, :now
WHERE NOT EXISTS (SELECT 1 FROM runs WHERE run_id = :run_id)
ON CONFLICT (run_id) DO NOTHING;

-- name: insert_payload (PayloadRow)
INSERT INTO run_payloads (run_id, inputs, target, tags, headers, policies)
SELECT :run_id, :inputs, :target, :tags, :headers, :policies
WHERE TRUE
ON CONFLICT (run_id) DO NOTHING;

-- name: insert_attempt (AttemptRow)
INSERT INTO attempts (run_id, lease_epoch, attempt, owner, status, started_at, generation)
SELECT :run_id, :lease_epoch, :attempt, :owner, 'running', :now,
    (SELECT runs.generation FROM runs WHERE runs.run_id = :run_id)
WHERE TRUE
ON CONFLICT (run_id, lease_epoch) DO NOTHING;

-- name: start_step (StepWrite)
-- A start may arrive after its own completion (it is written lazily): then it changes nothing.
INSERT INTO steps (
    run_id, label, attempt, seq, lease_epoch, kind, parent, status, input, output, storage, output_hash,
    error_type, error_message, error_traceback, progress_total, started_at, finished_at
)
SELECT
    :run_id, :label, :attempt, :seq, :lease_epoch, :kind, :parent, :status, :input, :output, :storage, :output_hash,
    :error_type, :error_message, :error_traceback, :progress_total, :started_at, :finished_at
WHERE EXISTS (
    SELECT 1 FROM runs WHERE run_id = :run_id AND lease_epoch = :lease_epoch AND status = 'running' {for_share}
)
ON CONFLICT (run_id, label, attempt) DO NOTHING;

-- name: end_step (StepWrite)
-- Start and end in one row where the start was never written; an end is written once.
INSERT INTO steps (
    run_id, label, attempt, seq, lease_epoch, kind, parent, status, input, output, storage, output_hash,
    error_type, error_message, error_traceback, progress_total, started_at, finished_at
)
SELECT
    :run_id, :label, :attempt, :seq, :lease_epoch, :kind, :parent, :status, :input, :output, :storage, :output_hash,
    :error_type, :error_message, :error_traceback, :progress_total, :started_at, :finished_at
WHERE EXISTS (
    SELECT 1 FROM runs WHERE run_id = :run_id AND lease_epoch = :lease_epoch AND status = 'running' {for_share}
)
ON CONFLICT (run_id, label, attempt) DO UPDATE SET
    status = excluded.status, output = excluded.output, storage = excluded.storage,
    output_hash = excluded.output_hash, error_type = excluded.error_type,
    error_message = excluded.error_message, error_traceback = excluded.error_traceback,
    finished_at = excluded.finished_at
WHERE steps.status = 'running' AND steps.lease_epoch = excluded.lease_epoch;

-- name: insert_edge (EdgeWrite)
-- Written together with a fenced step row, in the same transaction.
INSERT INTO edges (run_id, upstream, downstream, traversed_at)
SELECT :run_id, :upstream, :downstream, :traversed_at
WHERE TRUE
ON CONFLICT (run_id, downstream, upstream) DO NOTHING;

-- name: save_progress (ProgressWrite)
UPDATE steps
SET progress_done = :progress_done, progress_total = :progress_total, progress_message = :progress_message
WHERE steps.run_id = :run_id AND steps.label = :label AND steps.attempt = :attempt
    AND steps.lease_epoch = :lease_epoch AND steps.status = 'running';

-- name: save_checkpoint (CheckpointWrite)
INSERT INTO checkpoints (run_id, label, name, value, lease_epoch, saved_at)
SELECT :run_id, :label, :name, :value, :lease_epoch, :saved_at
WHERE EXISTS (
    SELECT 1 FROM runs WHERE run_id = :run_id AND lease_epoch = :lease_epoch AND status = 'running' {for_share}
)
ON CONFLICT (run_id, label, name) DO UPDATE SET
    value = excluded.value, lease_epoch = excluded.lease_epoch, saved_at = excluded.saved_at
WHERE checkpoints.lease_epoch <= excluded.lease_epoch;

-- name: end_run (EndRow)
UPDATE runs
SET status = :status, finished_at = :now, lease_owner = NULL, lease_until = NULL,
    error_step = :error_step, error_type = :error_type, error_message = :error_message
WHERE runs.run_id = :run_id AND runs.lease_epoch = :lease_epoch AND runs.status = 'running';

-- name: end_attempt (EndRow)
UPDATE attempts
SET status = :status, finished_at = :now, error_type = :error_type, error_message = :error_message
WHERE attempts.run_id = :run_id AND attempts.lease_epoch = :lease_epoch AND attempts.status = 'running';

-- name: get_attempt -> one
-- How the claim of this epoch ended, to know a write again that ended it.
SELECT status, finished_at, error_type, error_message FROM attempts
WHERE run_id = :run_id AND lease_epoch = :lease_epoch;

-- name: save_run_traceback
UPDATE run_payloads SET error_traceback = :error_traceback WHERE run_id = :run_id;

-- name: cancel_open_steps
-- Attempts that nobody will finish: their process died, or the run was stopped.
UPDATE steps
SET status = 'cancelled', finished_at = :now, error_type = :error_type, error_message = :error_message
WHERE run_id = :run_id AND status = 'running';

-- name: pause_open_steps
-- A map of which elements are left, say: it goes on when the run does.
UPDATE steps SET status = 'pending' WHERE run_id = :run_id AND status = 'running';

-- name: close_paused_steps
-- Attempts that a pause left behind: the next attempt begins anew.
UPDATE steps SET status = 'cancelled', finished_at = :now WHERE run_id = :run_id AND status = 'pending';

-- name: get_fence -> one
SELECT status, lease_epoch, lease_owner, finished_at, created_at FROM runs WHERE run_id = :run_id;
