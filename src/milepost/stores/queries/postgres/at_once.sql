-- Differs from the portable text because writes inside a CTE make one statement, and so one round trip and one
-- commit, of what takes a transaction of several elsewhere. {RowType} stands for the rows of that type, as arrays.

-- name: write_at_once
-- What drivers mostly write: steps that ended, edges, runs that completed. First every run is locked in the order of
-- the ids, as all who lock runs do. Only where each of them is still its writer's is anything written at all; who
-- finds less written than was sent goes the long way.
WITH held AS MATERIALIZED (
    SELECT runs.run_id FROM {FenceRow}
    JOIN runs ON runs.run_id = given.run_id AND runs.lease_epoch = given.lease_epoch AND runs.status = 'running'
    ORDER BY runs.run_id FOR SHARE OF runs
), fence AS MATERIALIZED (
    SELECT (SELECT COUNT(*) FROM held) = (SELECT COUNT(*) FROM {FenceRow}) AS holds
), ended AS (
    UPDATE runs
    SET status = given.status, finished_at = given.now, lease_owner = NULL, lease_until = NULL,
        error_step = NULL, error_type = NULL, error_message = NULL
    FROM {EndRow}
    WHERE (SELECT holds FROM fence) AND runs.run_id = given.run_id AND runs.lease_epoch = given.lease_epoch
        AND runs.status = 'running'
    RETURNING 1
), closed AS (
    UPDATE attempts SET status = given.status, finished_at = given.now
    FROM {EndRow}
    WHERE (SELECT holds FROM fence) AND attempts.run_id = given.run_id
        AND attempts.lease_epoch = given.lease_epoch AND attempts.status = 'running'
), done AS (
    INSERT INTO steps (
        run_id, label, attempt, seq, lease_epoch, kind, parent, status, input, output, storage, output_hash,
        error_type, error_message, error_traceback, progress_total, started_at, finished_at
    )
    SELECT
        run_id, label, attempt, seq, lease_epoch, kind, parent, status, input, output, storage, output_hash,
        error_type, error_message, error_traceback, progress_total, started_at, finished_at
    FROM {StepWrite}
    WHERE (SELECT holds FROM fence)
    ON CONFLICT (run_id, label, attempt) DO UPDATE SET
        status = excluded.status, output = excluded.output, storage = excluded.storage,
        output_hash = excluded.output_hash, error_type = excluded.error_type,
        error_message = excluded.error_message, error_traceback = excluded.error_traceback,
        finished_at = excluded.finished_at
    WHERE steps.status = 'running' AND steps.lease_epoch = excluded.lease_epoch
    RETURNING 1
), traversed AS (
    INSERT INTO edges (run_id, upstream, downstream, traversed_at)
    SELECT run_id, upstream, downstream, traversed_at FROM {EdgeWrite}
    WHERE (SELECT holds FROM fence)
    ON CONFLICT (run_id, downstream, upstream) DO NOTHING
)
SELECT (SELECT COUNT(*) FROM done) + (SELECT COUNT(*) FROM ended);

-- name: claim_at_once -> many
-- As claim_tasks, with what belongs to each claim: its row in attempts, and the run's payload.
WITH candidate (id, was) AS MATERIALIZED (
    SELECT run_id, status FROM runs
    WHERE status = 'pending' AND available_at IS NULL AND queue = :queue
        AND (start_by IS NULL OR start_by > :now OR started_at IS NOT NULL)
    ORDER BY priority, created_at, run_id LIMIT :limit {skip_locked}
), claimed AS (
    UPDATE runs
    SET status = 'running', lease_owner = :owner, lease_until = {lease_until}, lease_epoch = lease_epoch + 1,
        started_at = COALESCE(started_at, :now)
    FROM candidate
    WHERE runs.run_id = candidate.id AND runs.status = candidate.was
        AND NOT EXISTS (SELECT 1 FROM queues WHERE name = :queue AND paused_at IS NOT NULL)
    RETURNING {run_columns}
), begun AS (
    INSERT INTO attempts (run_id, lease_epoch, attempt, owner, status, started_at, generation)
    SELECT run_id, lease_epoch, attempt, lease_owner, 'running', :now, generation FROM claimed
)
SELECT
    claimed.*, payload.inputs, payload.result, payload.error_traceback, payload.target, payload.tags,
    payload.headers, payload.policies
FROM claimed JOIN run_payloads AS payload ON payload.run_id = claimed.run_id;
