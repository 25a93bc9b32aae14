-- What a replay takes over from another run.

-- name: copy_steps
-- Of each label the last completed attempt, as a first and skipped one that says which run made its output. The
-- lease epoch is that of the first claim, under which they are read.
INSERT INTO steps (
    run_id, label, attempt, seq, lease_epoch, kind, parent, status, input, output, storage, output_hash,
    progress_total, started_at, finished_at, origin_run_id
)
SELECT
    :run_id, label, 1, seq, 1, kind, parent, 'skipped', input, output, storage, output_hash,
    progress_total, :now, :now, COALESCE(origin_run_id, run_id)
FROM steps
WHERE run_id = :source AND label {among_texts} AND status IN ('completed', 'skipped')
    AND NOT EXISTS (
        SELECT 1 FROM steps AS later
        WHERE later.run_id = steps.run_id AND later.label = steps.label AND later.attempt > steps.attempt
            AND later.status IN ('completed', 'skipped')
    );

-- name: has_steps -> one
-- Whether this very verb has been done already, and its answer was lost.
SELECT 1 FROM steps WHERE run_id = :run_id LIMIT 1;

-- name: list_inputs -> many
-- Where the arguments of each step came from, and which claim executed it: its last completed attempt.
SELECT label, input, lease_epoch, origin_run_id FROM steps
WHERE run_id = :run_id AND parent IS NULL AND status IN ('completed', 'skipped')
ORDER BY label, attempt;
