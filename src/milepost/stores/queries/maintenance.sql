-- Retention and self-checks.

-- name: list_expired_runs -> many
-- Finished runs older than the limit, oldest first. Children go with their parent, so only tops count,
-- and only those whose whole family has finished.
SELECT run_id FROM runs
WHERE finished_at IS NOT NULL AND finished_at < :before AND parent_run_id IS NULL
    AND NOT EXISTS (
        SELECT 1 FROM runs AS child
        WHERE child.root_run_id = runs.run_id AND child.parent_run_id IS NOT NULL AND child.finished_at IS NULL
    )
ORDER BY finished_at LIMIT :limit;

-- name: list_family -> many
-- All that descend from a run.
SELECT run_id FROM runs WHERE root_run_id = :root_run_id AND parent_run_id IS NOT NULL ORDER BY run_id;

-- name: delete_steps
DELETE FROM steps WHERE run_id {among_texts};

-- name: delete_edges
DELETE FROM edges WHERE run_id {among_texts};

-- name: delete_checkpoints
DELETE FROM checkpoints WHERE run_id {among_texts};

-- name: delete_waits
DELETE FROM waits WHERE run_id {among_texts};

-- name: delete_attempts
DELETE FROM attempts WHERE run_id {among_texts};

-- name: delete_run_tags
DELETE FROM run_tags WHERE run_id {among_texts};

-- name: delete_status_reports
DELETE FROM status_reports WHERE run_id {among_texts};

-- name: delete_payloads
DELETE FROM run_payloads WHERE run_id {among_texts};

-- name: delete_runs
-- One statement for a whole family, so that no child is left without its parent in between.
DELETE FROM runs WHERE run_id {among_texts};

-- name: delete_unused_definitions
DELETE FROM definitions
WHERE NOT EXISTS (SELECT 1 FROM runs WHERE runs.hash = definitions.hash)
    AND NOT EXISTS (SELECT 1 FROM schedules WHERE schedules.hash = definitions.hash)
    AND NOT EXISTS (SELECT 1 FROM attempts WHERE attempts.hash = definitions.hash);

-- name: find_open_steps -> many
-- What is recorded by hand is kept as it was told, whatever that is: in this and the next ones it is nobody's fault.
SELECT s.run_id, s.label, s.attempt, r.status FROM steps AS s
JOIN runs AS r ON r.run_id = s.run_id
WHERE s.status = 'running' AND r.finished_at IS NOT NULL AND r.kind <> 'manual'
ORDER BY s.run_id, s.label LIMIT :limit;

-- name: find_broken_claims -> many
-- A running run has exactly one open claim, every other run none; what is tracked by hand is never claimed.
SELECT r.run_id, r.status, COUNT(a.run_id) FROM runs AS r
LEFT JOIN attempts AS a ON a.run_id = r.run_id AND a.status = 'running'
WHERE NOT (r.kind = 'workflow' AND r.hash IS NULL)
GROUP BY r.run_id, r.status
HAVING COUNT(a.run_id) <> CASE WHEN r.status = 'running' THEN 1 ELSE 0 END
ORDER BY r.run_id LIMIT :limit;

-- name: find_unfinished_steps -> many
SELECT s.run_id, s.label FROM steps AS s
JOIN runs AS r ON r.run_id = s.run_id AND r.status = 'completed' AND r.kind <> 'manual'
GROUP BY s.run_id, s.label
HAVING SUM(
    CASE
        WHEN s.status IN ('completed', 'skipped') THEN 1
        WHEN s.status = 'failed' AND s.kind = 'element' THEN 1  -- one that its map could do without
        ELSE 0
    END
) = 0
ORDER BY s.run_id, s.label LIMIT :limit;

-- name: find_completed_twice -> many
-- A step that was undone may complete again.
WITH often AS (
    SELECT run_id, label FROM steps
    WHERE status = 'completed' AND storage = 'inline' AND kind <> 'undo'
    GROUP BY run_id, label HAVING COUNT(*) > 1
)
SELECT s.run_id, s.label, COUNT(*)
FROM often
JOIN steps AS s ON s.run_id = often.run_id AND s.label = often.label
JOIN runs AS r ON r.run_id = often.run_id AND r.kind <> 'manual'
WHERE s.status = 'completed' AND s.storage = 'inline' AND NOT EXISTS (
    SELECT 1 FROM steps AS u
    WHERE u.run_id = s.run_id AND u.label = 'undo:' || s.label AND u.kind = 'undo' AND u.status = 'completed'
        AND u.seq > s.seq
)
GROUP BY s.run_id, s.label HAVING COUNT(*) > 1
ORDER BY s.run_id, s.label LIMIT :limit;

-- name: find_loose_edges -> many
SELECT e.run_id, e.upstream, e.downstream FROM edges AS e
JOIN runs AS r ON r.run_id = e.run_id AND r.kind <> 'manual'
WHERE NOT EXISTS (SELECT 1 FROM steps AS s WHERE s.run_id = e.run_id AND s.label = e.upstream)
    OR NOT EXISTS (SELECT 1 FROM steps AS s WHERE s.run_id = e.run_id AND s.label = e.downstream)
LIMIT :limit;

-- name: find_bad_times -> many
SELECT run_id, label, attempt FROM steps WHERE finished_at < started_at LIMIT :limit;

-- name: list_outputs_after -> many
-- Walk all stored outputs in pages, to hash them again: as bytes, since a damaged text may be no text.
SELECT run_id, label, attempt, {output_bytes}, output_hash FROM steps
WHERE output IS NOT NULL AND (run_id, label, attempt) > (:run_id, :label, :attempt)
ORDER BY run_id, label, attempt LIMIT :limit;
