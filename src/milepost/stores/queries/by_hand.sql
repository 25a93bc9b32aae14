-- What somebody records by hand, or with a runner of their own. A run that our engine executes is its driver's alone;
-- every other may be written to, whatever its state: the ledger keeps what it is told. The guard shares the row of the
-- run until the commit, so that no claim falls between the look and the write.

-- name: hand_begin_step
-- Each start is an attempt of its own; the same one once more, whose answer was lost, is none. Also the whole row of
-- a step that was skipped.
INSERT INTO steps (
    run_id, label, attempt, seq, lease_epoch, kind, status, input, output, storage, output_hash, started_at, finished_at
)
SELECT
    :run_id, :label, COALESCE((SELECT MAX(s.attempt) FROM steps AS s WHERE s.run_id = :run_id AND s.label = :label), 0) + 1,
    :seq, r.lease_epoch, :kind, :status, CAST(:input AS TEXT), CAST(:output AS TEXT), 'inline',
    CAST(:output_hash AS TEXT), :now, CAST(:finished_at AS BIGINT)
FROM runs AS r
WHERE r.run_id = :run_id
    AND NOT EXISTS (
        SELECT 1 FROM steps AS s
        WHERE s.run_id = :run_id AND s.label = :label AND s.seq = :seq AND s.started_at = :now
    )
    AND (r.kind = 'manual' OR r.status <> 'running' OR r.lease_until = {for_ever})
{for_share};

-- name: hand_find_start -> one
SELECT 1 FROM steps WHERE run_id = :run_id AND label = :label AND seq = :seq AND started_at = :now;

-- name: hand_complete_step
UPDATE steps SET status = 'completed', output = :output, output_hash = :output_hash, finished_at = :now
WHERE run_id = :run_id AND label = :label
    AND attempt = (SELECT MAX(s.attempt) FROM steps AS s WHERE s.run_id = :run_id AND s.label = :label)
    AND EXISTS (
        SELECT 1 FROM runs AS r
        WHERE r.run_id = :run_id AND (r.kind = 'manual' OR r.status <> 'running' OR r.lease_until = {for_ever}) {for_share}
    );

-- name: hand_fail_step
UPDATE steps SET status = 'failed', error_message = :error, finished_at = :now
WHERE run_id = :run_id AND label = :label
    AND attempt = (SELECT MAX(s.attempt) FROM steps AS s WHERE s.run_id = :run_id AND s.label = :label)
    AND EXISTS (
        SELECT 1 FROM runs AS r
        WHERE r.run_id = :run_id AND (r.kind = 'manual' OR r.status <> 'running' OR r.lease_until = {for_ever}) {for_share}
    );

-- name: hand_insert_edge
INSERT INTO edges (run_id, upstream, downstream, traversed_at)
SELECT :run_id, :upstream, :downstream, :now
FROM runs AS r
WHERE r.run_id = :run_id AND (r.kind = 'manual' OR r.status <> 'running' OR r.lease_until = {for_ever}) {for_share}
ON CONFLICT (run_id, downstream, upstream) DO NOTHING;

-- name: hand_get_run -> one
SELECT
    r.run_id, r.workflow, r.kind, r.status, r.lease_owner, r.lease_until, r.lease_epoch, r.attempt,
    COALESCE(r.started_at, r.created_at), r.finished_at, r.parent_run_id, r.created_by, r.replay_of, p.inputs,
    c.value, c.lease_epoch, r.parent_step
FROM runs AS r
LEFT JOIN run_payloads AS p ON p.run_id = r.run_id
LEFT JOIN checkpoints AS c ON c.run_id = r.run_id AND c.label = '' AND c.name = 'by hand'
WHERE r.run_id = :run_id;

-- name: hand_lock_run -> one
SELECT run_id FROM runs WHERE run_id = :run_id {for_update};

-- name: hand_end_run
UPDATE runs
SET status = :status, finished_at = CAST(:finished_at AS BIGINT), lease_owner = NULL, lease_until = NULL,
    error_step = NULL, error_type = NULL, error_message = NULL
WHERE run_id = :run_id;

-- name: hand_end_attempt
UPDATE attempts SET status = :status, finished_at = :now
WHERE run_id = :run_id AND lease_epoch = :lease_epoch AND status = 'running';

-- name: hand_take_run
-- Nobody beats for a run that is recorded by hand: whether its process lives says its owner, not a lease.
UPDATE runs
SET status = 'running', finished_at = NULL, lease_owner = :owner, lease_until = {for_ever},
    lease_epoch = lease_epoch + 1, attempt = attempt + 1, error_step = NULL, error_type = NULL, error_message = NULL
WHERE run_id = :run_id;

-- name: hand_save
INSERT INTO checkpoints (run_id, label, name, value, lease_epoch, saved_at)
SELECT :run_id, :label, :name, :value, :lease_epoch, :now
WHERE TRUE
ON CONFLICT (run_id, label, name) DO UPDATE
SET value = excluded.value, lease_epoch = excluded.lease_epoch, saved_at = excluded.saved_at;

-- name: hand_save_result
UPDATE run_payloads SET result = :result WHERE run_id = :run_id;

-- name: list_saved -> many
SELECT label, value FROM checkpoints WHERE run_id = :run_id AND name = :name ORDER BY label;

-- name: list_replays -> many
SELECT run_id FROM runs WHERE replay_of = :run_id ORDER BY created_at, run_id;

-- name: list_executions -> many
-- The last attempt of each node. What it got and made, which may be large, is read where it is asked for alone.
SELECT
    s.label, s.status, s.kind, s.parent, s.attempt, CASE WHEN :payloads = 1 THEN s.input END,
    CASE WHEN :payloads = 1 THEN s.output END, s.storage, s.output_hash, s.started_at, s.finished_at, s.error_type,
    s.error_message
FROM steps AS s
WHERE s.run_id = :run_id
    AND s.label = :label                                      -- if :label
    AND s.kind <> 'undo' AND NOT EXISTS (
        SELECT 1 FROM steps AS t WHERE t.run_id = s.run_id AND t.label = s.label AND t.attempt > s.attempt
    )
ORDER BY s.seq, s.label;
