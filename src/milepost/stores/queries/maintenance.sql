-- Retention and self-checks.

-- name: list_expired_runs -> many
-- Finished runs older than the limit, oldest first. Children go with their parent, so only tops count.
SELECT run_id FROM runs
WHERE finished_at IS NOT NULL AND finished_at < :before AND parent_run_id IS NULL
ORDER BY finished_at LIMIT :limit;

-- name: delete_run
DELETE FROM runs WHERE run_id = :run_id AND finished_at IS NOT NULL;

-- name: delete_unused_definitions
DELETE FROM definitions WHERE NOT EXISTS (SELECT 1 FROM runs WHERE runs.hash = definitions.hash);

-- name: find_orphan_steps -> many
SELECT s.run_id, s.label, s.attempt, r.status FROM steps AS s
JOIN runs AS r ON r.run_id = s.run_id
WHERE s.status = 'running' AND r.finished_at IS NOT NULL
ORDER BY s.run_id, s.label LIMIT :limit;

-- name: find_completed_twice -> many
SELECT run_id, label, COUNT(*) FROM steps
WHERE status = 'completed' AND storage = 'inline'
GROUP BY run_id, label HAVING COUNT(*) > 1
LIMIT :limit;

-- name: find_bad_times -> many
SELECT run_id, label, attempt FROM steps WHERE finished_at < started_at LIMIT :limit;

-- name: list_outputs_after -> many
-- Walk all stored outputs in pages, to hash them again.
SELECT run_id, label, attempt, output, output_hash FROM steps
WHERE output IS NOT NULL AND (run_id, label, attempt) > (:run_id, :label, :attempt)
ORDER BY run_id, label, attempt LIMIT :limit;
