-- Tasks: runs that wait in a queue, and who takes them.

-- name: submit_run (TaskRow)
-- A run that waits. The same key in the same queue is the same run: the first one stands.
INSERT INTO runs (
    run_id, workflow, version, hash, kind, status, queue, priority, available_at, lease_epoch, attempt, max_attempts,
    idempotency_key, correlation_id, parent_run_id, root_run_id, replay_of, created_by, parent_step, created_at
)
SELECT
    :run_id, :workflow, :version, :hash, :kind, 'pending', :queue, :priority, :available_at, 0, 1, :max_attempts,
    :idempotency_key, :correlation_id, :parent_run_id, :root_run_id, :replay_of, :created_by, :parent_step, :now
WHERE TRUE
ON CONFLICT DO NOTHING;

-- name: get_run_by_key -> one
SELECT {run_columns} FROM runs WHERE queue = :queue AND idempotency_key = :idempotency_key;

-- name: promote_due -> many
-- What has become due joins those that are ready. Bounded, so that a flood of due runs holds up no claim.
-- The guard compares with the state that was read: a state written out would let a planner whose statistics
-- are old walk the index of all runs in that state, instead of finding these by their keys.
WITH candidate (id, was) AS MATERIALIZED (
    SELECT run_id, status FROM runs {by_due}
    WHERE status IN ('pending', 'suspended') AND available_at IS NOT NULL AND available_at <= :now
    ORDER BY available_at LIMIT :limit {skip_locked}
)
UPDATE runs SET status = 'pending', available_at = NULL
FROM candidate
WHERE runs.run_id = candidate.id AND runs.status = candidate.was
RETURNING run_id;

-- name: next_due -> one
SELECT MIN(available_at) FROM runs {by_due} WHERE status IN ('pending', 'suspended') AND available_at IS NOT NULL;

-- name: claim_tasks -> many
-- Lease up to :limit ready runs of a queue, best priority first, oldest first within it. The guard is as above.
WITH candidate (id, was) AS MATERIALIZED (
    SELECT run_id, status FROM runs
    WHERE status = 'pending' AND available_at IS NULL AND queue = :queue
        AND (start_by IS NULL OR start_by > :now OR started_at IS NOT NULL)
    ORDER BY priority, created_at, run_id LIMIT :limit {skip_locked}
)
UPDATE runs
SET status = 'running', lease_owner = :owner, lease_until = {lease_until}, lease_epoch = lease_epoch + 1,
    started_at = COALESCE(started_at, :now)
FROM candidate
WHERE runs.run_id = candidate.id AND runs.status = candidate.was
    AND NOT EXISTS (SELECT 1 FROM queues WHERE name = :queue AND paused_at IS NOT NULL)
RETURNING {run_columns};

-- name: release_run
-- Give a run back unfinished: nothing counts against it, somebody else goes on.
UPDATE runs
SET status = 'pending', available_at = :available_at, lease_owner = NULL, lease_until = NULL
WHERE run_id = :run_id AND lease_epoch = :lease_epoch AND status = 'running';

-- name: pause_run
-- Nobody goes on with it by himself: no time and no event is due, and the type of the error says why.
UPDATE runs
SET status = 'suspended', available_at = NULL, lease_owner = NULL, lease_until = NULL,
    error_step = :error_step, error_type = :error_type, error_message = :error_message
WHERE run_id = :run_id AND lease_epoch = :lease_epoch AND status = 'running';

-- name: forget_put_backs
DELETE FROM attempts WHERE run_id = :run_id AND status = 'cancelled' AND error_type = :error_type
    AND NOT EXISTS (
        SELECT 1 FROM steps WHERE steps.run_id = attempts.run_id AND steps.lease_epoch = attempts.lease_epoch
    );

-- name: retry_run
-- This attempt failed and another one is due: the run goes back to its queue.
UPDATE runs
SET status = 'pending', available_at = :available_at, attempt = attempt + 1, generation = generation + 1,
    lease_owner = NULL, lease_until = NULL,
    error_step = :error_step, error_type = :error_type, error_message = :error_message
WHERE run_id = :run_id AND lease_epoch = :lease_epoch AND status = 'running';

-- name: adopt_definition
-- A run that never started takes the definition that its worker has.
UPDATE runs SET hash = :hash
WHERE run_id = :run_id AND lease_epoch = :lease_epoch AND status = 'running';

-- name: note_definition
-- A run goes on with other code for the same steps: this claim was executed with it.
UPDATE attempts SET hash = :hash WHERE run_id = :run_id AND lease_epoch = :lease_epoch AND status = 'running';

-- name: adopt_inputs
-- Inputs that nobody had checked are replaced by what they became when the workflow checked them.
UPDATE run_payloads
SET inputs = :inputs, headers = CASE WHEN headers = '{"inputs":"unchecked"}' THEN '{}' ELSE headers END
WHERE run_id = :run_id
    AND EXISTS (SELECT 1 FROM runs WHERE run_id = :run_id AND lease_epoch = :lease_epoch AND status = 'running');

-- name: list_expired_leases -> many
-- Whose lease has run out, longest ago first.
SELECT {run_columns} FROM runs
WHERE status = 'running' AND queue IS NOT NULL AND lease_until < {lease_now} AND lease_owner <> :sparing
ORDER BY lease_until LIMIT :limit {skip_locked};

-- name: list_leases_of -> many
-- Of an owner that is known to be dead, whatever its leases say.
SELECT {run_columns} FROM runs
WHERE status = 'running' AND queue IS NOT NULL AND lease_owner = :owner
ORDER BY lease_until LIMIT :limit {skip_locked};

-- name: has_completed_step -> one
-- A checkpoint that a claim by hand saved counts as one.
SELECT 1 FROM steps WHERE run_id = :run_id AND lease_epoch = :lease_epoch AND status = 'completed'
UNION ALL
SELECT 1 FROM checkpoints WHERE run_id = :run_id AND label = '' AND lease_epoch = :lease_epoch LIMIT 1;

-- name: rescue_run
-- Back to its queue; no attempt is used up. The epoch stays: the next claim raises it, and until then the
-- state alone refuses the former holder's writes.
UPDATE runs
SET status = 'pending', available_at = NULL, lease_owner = NULL, lease_until = NULL, rescues = :rescues,
    generation = generation + 1
WHERE run_id = :run_id AND lease_epoch = :expected_epoch AND status = 'running' AND lease_until = :expected_until;

-- name: give_up_run
-- It killed its workers again and again without getting on.
UPDATE runs
SET status = 'failed', finished_at = :now, lease_owner = NULL, lease_until = NULL, rescues = :rescues,
    error_type = :error_type, error_message = :error_message
WHERE run_id = :run_id AND lease_epoch = :expected_epoch AND status = 'running' AND lease_until = :expected_until;

-- name: heartbeat_owner -> many
-- All leases that one worker took from queues, in one statement; what does not come back was lost. Locked in the
-- order of their ids, as every writer does: a worker's heartbeats come from several threads and processes, and must
-- not wait in a circle.
WITH held AS MATERIALIZED (
    SELECT run_id FROM runs
    WHERE lease_owner = :owner AND status = 'running' AND queue IS NOT NULL
    ORDER BY run_id {for_update}
)
UPDATE runs SET lease_until = {lease_until}
WHERE run_id IN (SELECT run_id FROM held) AND lease_owner = :owner AND status = 'running'
RETURNING run_id, lease_epoch;

-- name: list_owners -> many
SELECT DISTINCT lease_owner FROM runs WHERE lease_owner IS NOT NULL AND queue IS NOT NULL;

-- name: insert_worker
-- An id is free whose worker stopped, fell silent or is known to be dead. The same registration may come twice.
INSERT INTO workers (worker_id, owner, queues, workflows, concurrency, lease, started_at, heartbeat_at)
VALUES (:worker_id, :owner, :queues, :workflows, :concurrency, :lease, :now, :now)
ON CONFLICT (worker_id) DO UPDATE SET
    owner = excluded.owner, queues = excluded.queues, workflows = excluded.workflows,
    concurrency = excluded.concurrency, lease = excluded.lease, started_at = excluded.started_at,
    heartbeat_at = excluded.heartbeat_at, stopped_at = NULL
WHERE workers.stopped_at IS NOT NULL OR workers.heartbeat_at + workers.lease < :now OR workers.owner = :owner_gone
    OR (workers.owner = excluded.owner AND workers.started_at = excluded.started_at);

-- name: get_worker -> one
SELECT worker_id, owner, queues, workflows, concurrency, lease, started_at, heartbeat_at, stopped_at
FROM workers WHERE worker_id = :worker_id;

-- name: heartbeat_worker
UPDATE workers SET heartbeat_at = :now WHERE worker_id = :worker_id AND owner = :owner AND stopped_at IS NULL;

-- name: stop_worker
UPDATE workers SET stopped_at = :now WHERE worker_id = :worker_id AND owner = :owner AND stopped_at IS NULL;

-- name: list_workers -> many
SELECT worker_id, owner, queues, workflows, concurrency, lease, started_at, heartbeat_at, stopped_at
FROM workers ORDER BY started_at, worker_id;

-- name: delete_workers
-- Those that stopped or fell silent before then; a live one stays, however near :before is.
DELETE FROM workers WHERE stopped_at < :before OR heartbeat_at + lease < :before;

-- name: list_owned -> many
SELECT {run_columns} FROM runs WHERE status = 'running' AND lease_owner = :owner ORDER BY started_at, run_id;

-- name: pause_queue
INSERT INTO queues (name, paused_at, created_at) VALUES (:name, :now, :now)
ON CONFLICT (name) DO UPDATE SET paused_at = COALESCE(queues.paused_at, excluded.paused_at);

-- name: resume_queue
UPDATE queues SET paused_at = NULL WHERE name = :name AND paused_at IS NOT NULL;

-- name: get_queue_pause -> one
SELECT paused_at FROM queues WHERE name = :name AND paused_at IS NOT NULL;

-- name: list_paused -> many
SELECT name, paused_at FROM queues WHERE paused_at IS NOT NULL ORDER BY name;

-- name: count_ahead -> one
-- Tasks of a queue that are claimed before one: those of a better priority, and the older ones of the same.
-- What has become due and is not marked so yet is marked by the next claim.
SELECT
    (
        SELECT COUNT(*) FROM runs
        WHERE status = 'pending' AND available_at IS NULL AND queue = :queue
            AND (priority, created_at, run_id) < (:priority, :created_at, :run_id)
    ) + (
        SELECT COUNT(*) FROM runs
        WHERE status IN ('pending', 'suspended') AND available_at IS NOT NULL AND available_at <= :now
            AND queue = :queue AND (priority, created_at, run_id) < (:priority, :created_at, :run_id)
    );

-- name: count_tasks -> many
-- Depth of each queue by state; finished runs are not counted, so that this stays quick.
SELECT queue, status, COUNT(*), MIN(created_at) FROM runs
WHERE queue IS NOT NULL AND status IN ('pending', 'running', 'suspended') AND finished_at IS NULL
GROUP BY queue, status ORDER BY queue, status;
