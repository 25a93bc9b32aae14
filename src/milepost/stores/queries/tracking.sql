-- Workflow runs, and tasks that are claimed by hand. A claim by hand has an owner that begins with 'hand:', and its
-- fence is the generation: a suspension keeps it, every retry, rescue and takeover raises it.

-- name: find_task -> one
-- A claim's id differs from its task's in the last digits alone: at most one task lies between the two.
SELECT {run_columns} FROM runs WHERE run_id >= :first AND run_id <= :last LIMIT 1;

-- name: hold_by_hand -> one
-- What the caller may write to: held by a claim by hand of this generation, and locked until the transaction ends.
SELECT {run_columns} FROM runs
WHERE run_id = :run_id AND generation = :generation AND status = 'running' AND lease_owner LIKE 'hand:%'
{for_change};

-- name: lock_run -> one
SELECT {run_columns} FROM runs WHERE run_id = :run_id {for_change};

-- name: get_tracked_payload -> one
SELECT p.result, p.error, p.task_count, r.start_by, r.max_duration
FROM runs AS r JOIN run_payloads AS p ON p.run_id = r.run_id WHERE r.run_id = :run_id;

-- name: list_claims -> many
SELECT run_id, lease_epoch, attempt, owner, status, started_at, finished_at, error_type, error_message, reason,
    generation
FROM attempts WHERE run_id = :run_id ORDER BY lease_epoch;

-- name: set_limits
UPDATE runs SET start_by = :start_by, max_duration = :max_duration WHERE run_id = :run_id;

-- name: list_past_start -> many
SELECT {run_columns} FROM runs
WHERE start_by IS NOT NULL AND started_at IS NULL AND finished_at IS NULL AND start_by <= :now
ORDER BY start_by LIMIT :limit {skip_locked};

-- name: list_past_end -> many
SELECT {run_columns} FROM runs
WHERE max_duration IS NOT NULL AND started_at IS NOT NULL AND finished_at IS NULL
    AND started_at + max_duration <= :now AND cancel_requested_at IS NULL
ORDER BY started_at + max_duration LIMIT :limit {skip_locked};

-- name: save_result
UPDATE run_payloads SET result = :result WHERE run_id = :run_id;

-- name: save_error
UPDATE run_payloads SET error = :error WHERE run_id = :run_id;

-- name: save_reason
UPDATE attempts SET reason = :reason WHERE run_id = :run_id AND lease_epoch = :lease_epoch;

-- name: move_lease
UPDATE runs SET lease_until = {lease_until} WHERE run_id = :run_id AND lease_epoch = :lease_epoch;

-- name: move_due
UPDATE runs SET available_at = :available_at WHERE run_id = :run_id AND status IN ('pending', 'suspended');

-- name: requeue_run
-- By hand, with one more attempt: the run goes on from its checkpoints.
UPDATE runs
SET status = 'pending', available_at = NULL, finished_at = NULL, attempt = attempt + 1, generation = generation + 1,
    max_attempts = CASE WHEN max_attempts > attempt THEN max_attempts ELSE attempt + 1 END, rescues = 0,
    cancel_requested_at = NULL, error_step = NULL, error_type = NULL, error_message = NULL
WHERE run_id = :run_id AND status IN ('failed', 'cancelled');

-- name: list_hand_checkpoints -> many
SELECT name, value, lease_epoch, saved_at FROM checkpoints WHERE run_id = :run_id AND label = '' ORDER BY saved_at, name;

-- name: list_completed_steps -> many
-- What the engine completed of a task: its checkpoints, as a claim by hand reads them.
SELECT label, output, lease_epoch, finished_at FROM steps
WHERE run_id = :run_id AND status = 'completed' AND storage = 'inline' ORDER BY finished_at, label;

-- name: list_waits_of -> many
SELECT run_id, label, kind, scope, event, wake_at, created_at, outcome, payload, resolved_at
FROM waits WHERE run_id {among_texts} ORDER BY run_id, resolved_at, label;

-- name: insert_queue
INSERT INTO queues (name, created_at) VALUES (:name, :now) ON CONFLICT (name) DO NOTHING;

-- name: delete_queue
DELETE FROM queues WHERE name = :name;

-- name: list_created_queues -> many
SELECT name FROM queues ORDER BY name;

-- name: list_finished_tasks -> many
-- Of one queue, oldest first; those whose children have not all finished stay.
SELECT run_id FROM runs
WHERE finished_at IS NOT NULL AND finished_at < :before AND queue = :queue
    AND NOT EXISTS (
        SELECT 1 FROM runs AS child
        WHERE child.parent_run_id = runs.run_id AND child.finished_at IS NULL
    )
ORDER BY finished_at LIMIT :limit;

-- name: list_descendants -> many
WITH RECURSIVE family (id) AS (
    SELECT run_id FROM runs WHERE parent_run_id = :run_id
    UNION
    SELECT runs.run_id FROM runs JOIN family ON runs.parent_run_id = family.id
)
SELECT id FROM family;

-- name: list_old_events -> many
SELECT name FROM events
WHERE scope = :scope AND emitted_at < :before
    AND emitted_at < COALESCE(
        (SELECT MIN(created_at) FROM runs WHERE queue = :scope AND finished_at IS NULL), :before
    )
ORDER BY emitted_at, name LIMIT :limit;

-- name: list_any_old_events -> many
SELECT name FROM events WHERE scope = :scope AND emitted_at < :before ORDER BY emitted_at, name LIMIT :limit;

-- name: delete_event
DELETE FROM events WHERE scope = :scope AND name = :name;

-- name: insert_workflow_run
INSERT INTO runs (
    run_id, workflow, version, kind, status, priority, lease_epoch, attempt, root_run_id, created_by, created_at
)
VALUES (:run_id, :workflow, :version, 'workflow', 'pending', 0, 0, 1, :run_id, :created_by, :now)
ON CONFLICT (run_id) DO NOTHING;

-- name: insert_run_tag
INSERT INTO run_tags (run_id, name, value) VALUES (:run_id, :name, :value) ON CONFLICT (run_id, name) DO NOTHING;

-- name: report_status
-- What is given stands; what is not follows from the change.
UPDATE runs
SET status = :status,
    started_at = COALESCE(CAST(:started_at AS BIGINT), started_at, CAST(:derived_start AS BIGINT)),
    finished_at = CAST(:finished_at AS BIGINT), error_type = :error_type, error_message = :error_message
WHERE run_id = :run_id;

-- name: report_payload
UPDATE run_payloads
SET result = COALESCE(CAST(:result AS TEXT), result), error = COALESCE(CAST(:error AS TEXT), error),
    task_count = COALESCE(CAST(:task_count AS BIGINT), task_count)
WHERE run_id = :run_id;

-- name: insert_report
INSERT INTO status_reports (run_id, number, status, result, error, reported_at)
SELECT CAST(:run_id AS TEXT), COALESCE(MAX(number), 0) + 1, CAST(:status AS TEXT), CAST(:result AS TEXT),
    CAST(:error AS TEXT), CAST(:now AS BIGINT)
FROM status_reports WHERE run_id = :run_id;

-- name: last_report -> one
SELECT status, reported_at FROM status_reports WHERE run_id = :run_id ORDER BY number DESC LIMIT 1;

-- name: list_reports -> many
SELECT status, result, error, reported_at FROM status_reports WHERE run_id = :run_id ORDER BY number;

-- name: list_workflow_runs -> many
-- Newest first, one page: the next begins below (:before_at, :before_id).
SELECT {run_columns} FROM runs
WHERE kind = 'workflow'
    AND run_id = :run_id                                      -- if :run_id
    AND workflow = :workflow                                  -- if :workflow
    AND version = :version                                    -- if :version
    AND status = :status                                      -- if :status
    AND created_by = :created_by                              -- if :created_by
    AND created_at >= :since                                  -- if :since
    AND created_at < :until                                   -- if :until
    AND run_id IN (SELECT run_id FROM run_tags WHERE name = :tag) -- if :tag
    AND run_id IN (SELECT run_id FROM run_tags WHERE name = :tag_name AND value = :tag_value) -- if :tag_value
    AND (created_at, run_id) < (:before_at, :before_id)       -- if :before_at
ORDER BY created_at DESC, run_id DESC
LIMIT :limit;

-- name: count_linked -> many
-- The tasks of workflow runs by state.
SELECT parent_run_id, status, COUNT(*), MIN(started_at), MAX(finished_at) FROM runs
WHERE parent_run_id {among_texts} GROUP BY parent_run_id, status;

-- name: list_linked -> many
SELECT {run_columns} FROM runs
WHERE parent_run_id = :parent_run_id
    AND status = :status                                      -- if :status
    AND (created_at, run_id) > (:after_at, :after_id)         -- if :after_at
ORDER BY created_at, run_id LIMIT :limit;
