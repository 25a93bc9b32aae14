-- Differs from the portable text because writes inside a CTE make one statement, and so one round trip and one
-- commit, of what takes a transaction of several elsewhere.

-- name: spawn_at_once -> many
-- Nothing comes back where the key or the id was used before, or where the workflow run is unknown: then the long way
-- says which.
WITH parent (id, root) AS MATERIALIZED (
    SELECT run_id, root_run_id FROM runs WHERE run_id = CAST(:parent_run_id AS TEXT) AND kind = 'workflow'
), new AS (
    INSERT INTO runs (
        run_id, workflow, kind, status, queue, priority, available_at, lease_epoch, attempt, max_attempts,
        idempotency_key, parent_run_id, root_run_id, created_by, created_at
    )
    SELECT
        CAST(:run_id AS TEXT), CAST(:workflow AS TEXT), CAST(:kind AS TEXT), 'pending', CAST(:queue AS TEXT),
        CAST(:priority AS BIGINT), CAST(:available_at AS BIGINT), 0, 1, CAST(:max_attempts AS BIGINT),
        CAST(:idempotency_key AS TEXT), CAST(:parent_run_id AS TEXT),
        COALESCE((SELECT root FROM parent), CAST(:run_id AS TEXT)), CAST(:created_by AS TEXT), CAST(:now AS BIGINT)
    WHERE CAST(:parent_run_id AS TEXT) IS NULL OR EXISTS (SELECT 1 FROM parent)
    ON CONFLICT DO NOTHING
    RETURNING run_id
), payload AS (
    INSERT INTO run_payloads (run_id, inputs, tags, headers, policies)
    SELECT run_id, CAST(:inputs AS TEXT), '{}', CAST(:headers AS TEXT), CAST(:policies AS TEXT) FROM new
)
SELECT run_id, pg_notify(CAST(:channel AS TEXT), 'tasks') FROM new;

-- name: complete_at_once -> many
-- Nothing comes back where the claim is not held any more, or a cancel was asked for: the long way says which.
WITH done AS (
    UPDATE runs
    SET status = 'completed', finished_at = :now, lease_owner = NULL, lease_until = NULL, error_step = NULL,
        error_type = NULL, error_message = NULL
    WHERE run_id = :run_id AND generation = :generation AND status = 'running' AND lease_owner LIKE 'hand:%'
        AND cancel_requested_at IS NULL
    RETURNING run_id, lease_epoch
), closed AS (
    UPDATE attempts SET status = 'completed', finished_at = :now FROM done
    WHERE attempts.run_id = done.run_id AND attempts.lease_epoch = done.lease_epoch
), stored AS (
    UPDATE run_payloads SET result = :result FROM done WHERE run_payloads.run_id = done.run_id
)
SELECT run_id FROM done;

-- name: save_at_once -> many
-- Nothing comes back where the claim is not held any more, or a cancel was asked for: the long way says which.
WITH held AS MATERIALIZED (
    SELECT run_id, lease_epoch FROM runs
    WHERE run_id = :run_id AND generation = :generation AND status = 'running' AND lease_owner LIKE 'hand:%'
        AND cancel_requested_at IS NULL
    {for_change}
), extended AS (
    UPDATE runs SET lease_until = {lease_until} FROM held
    WHERE runs.run_id = held.run_id AND CAST(:lease AS BIGINT) IS NOT NULL
)
INSERT INTO checkpoints (run_id, label, name, value, lease_epoch, saved_at)
SELECT run_id, '', CAST(:name AS TEXT), CAST(:value AS TEXT), lease_epoch, CAST(:now AS BIGINT) FROM held
ON CONFLICT (run_id, label, name) DO UPDATE
SET value = excluded.value, lease_epoch = excluded.lease_epoch, saved_at = excluded.saved_at
WHERE checkpoints.lease_epoch <= excluded.lease_epoch
RETURNING run_id;
