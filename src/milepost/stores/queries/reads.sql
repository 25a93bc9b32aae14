-- What is read back: when a run resumes, and by whoever looks.

-- name: get_run -> one
SELECT {run_columns} FROM runs WHERE run_id = :run_id;

-- name: get_run_payload -> one
SELECT run_id, inputs, result, error_traceback, target, tags, headers, policies
FROM run_payloads WHERE run_id = :run_id;

-- name: list_payloads -> many
-- Of the runs whose ids are in a JSON array.
SELECT run_id, inputs, result, error_traceback, target, tags, headers, policies
FROM run_payloads WHERE run_id {among_texts};

-- name: get_definition -> one
SELECT document FROM definitions WHERE hash = :hash;

-- name: list_runs -> many
-- Newest first, one page: the next begins below (:before_at, :before_id). A condition that is not
-- asked for is left out of the text, because a test for NULL would keep the planner from every index.
SELECT {run_columns} FROM runs
WHERE 1 = 1
    AND status = :status                                      -- if :status
    AND finished_at IS NOT NULL                               -- if :is_over
    AND finished_at IS NULL                                   -- if :is_open
    AND workflow = :workflow                                  -- if :workflow
    AND parent_run_id = :parent_run_id                        -- if :parent_run_id
    AND parent_run_id IS NULL                                 -- if :is_top
    AND created_by = :created_by                              -- if :created_by
    AND created_at >= :since                                  -- if :since
    AND (created_at, run_id) < (:before_at, :before_id)       -- if :before_at
ORDER BY created_at DESC, run_id DESC
LIMIT :limit;

-- name: list_running -> many
SELECT {run_columns} FROM runs WHERE status = 'running' AND lease_until IS NOT NULL ORDER BY lease_until;

-- name: find_run_ids -> many
SELECT run_id FROM runs WHERE run_id >= :prefix AND run_id < :prefix_end ORDER BY run_id LIMIT :limit;

-- name: list_workflows -> many
SELECT DISTINCT workflow FROM runs ORDER BY workflow;

-- name: list_attempts -> many
SELECT run_id, lease_epoch, attempt, owner, status, started_at, finished_at, error_type, error_message, hash
FROM attempts WHERE run_id = :run_id ORDER BY lease_epoch;

-- name: list_steps -> many
-- Every attempt in the order of its start, without the payloads, which may be large.
SELECT
    run_id, label, attempt, seq, lease_epoch, kind, parent, status, NULL, NULL, storage, output_hash,
    error_type, error_message, error_traceback, progress_done, progress_total, progress_message,
    started_at, finished_at, origin_run_id
FROM steps WHERE run_id = :run_id ORDER BY started_at, seq;

-- name: list_unsettled_steps -> many
-- The last attempts that run, or that failed and were not followed by another.
SELECT
    run_id, label, attempt, seq, lease_epoch, kind, parent, status, NULL, NULL, storage, output_hash,
    error_type, error_message, error_traceback, progress_done, progress_total, progress_message,
    started_at, finished_at, origin_run_id
FROM steps
WHERE run_id = :run_id AND status IN ('running', 'failed')
    AND NOT EXISTS (
        SELECT 1 FROM steps AS later
        WHERE later.run_id = steps.run_id AND later.label = steps.label AND later.attempt > steps.attempt
    )
ORDER BY started_at, seq;

-- name: count_elements -> one
-- Of a map, those that have completed: one range of the primary key, as list_element_outputs reads it.
SELECT COUNT(*) FROM steps
WHERE run_id = :run_id AND label >= :first AND label < :last AND parent = :parent
    AND status IN ('completed', 'skipped');

-- name: get_step -> many
SELECT
    run_id, label, attempt, seq, lease_epoch, kind, parent, status, input, output, storage, output_hash,
    error_type, error_message, error_traceback, progress_done, progress_total, progress_message,
    started_at, finished_at, origin_run_id
FROM steps WHERE run_id = :run_id AND label = :label ORDER BY attempt;

-- name: list_step_summaries -> many
-- For a restart: each attempt's outcome, and whether it counts against the retries of this run attempt.
SELECT s.label, s.parent, s.attempt, s.status, s.storage, a.attempt, s.started_at, s.kind, s.seq
FROM steps AS s
JOIN attempts AS a ON a.run_id = s.run_id AND a.lease_epoch = s.lease_epoch
WHERE s.run_id = :run_id
ORDER BY s.label, s.attempt;

-- name: get_output -> one
SELECT output, storage, output_hash FROM steps
WHERE run_id = :run_id AND label = :label AND status IN ('completed', 'skipped')
ORDER BY attempt DESC LIMIT 1;

-- name: list_element_outputs -> many
-- The labels of a map's elements are 'label[...': one range of the primary key.
SELECT label, output, storage FROM steps
WHERE run_id = :run_id AND label >= :first AND label < :last AND parent = :parent
    AND status IN ('completed', 'skipped')
ORDER BY label, attempt;

-- name: max_seq -> one
SELECT COALESCE(MAX(seq), 0) FROM steps WHERE run_id = :run_id;

-- name: list_edges -> many
SELECT run_id, upstream, downstream, traversed_at FROM edges
WHERE run_id = :run_id ORDER BY traversed_at, downstream, upstream;

-- name: get_checkpoint -> one
SELECT value FROM checkpoints WHERE run_id = :run_id AND label = :label AND name = :name;

-- name: list_checkpoints -> many
SELECT run_id, label, name, value, saved_at FROM checkpoints
WHERE run_id = :run_id ORDER BY label, name;

-- name: count_steps -> many
SELECT status, COUNT(*) FROM steps WHERE run_id = :run_id AND kind <> 'map' GROUP BY status;
