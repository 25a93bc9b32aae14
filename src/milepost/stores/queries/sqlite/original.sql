-- Only here: a file in the table layout of the library that DagProvenance comes from is always an SQLite file. Its
-- releases differ in some columns; {parent}, {initiator}, {result} and {kind} stand for one, or for NULL.

-- name: fresh
CREATE TEMP TABLE fresh AS
SELECT
    d.run_id,
    CASE d.status
        WHEN 'running' THEN 'running' WHEN 'paused' THEN 'suspended' WHEN 'completed' THEN 'completed'
        WHEN 'cancelled' THEN 'cancelled' ELSE 'failed'
    END AS status,
    CAST(ROUND(d.started_at * 1000000) AS INTEGER) AS started_at,
    CAST(ROUND(d.finished_at * 1000000) AS INTEGER) AS told_at,
    CASE
        WHEN d.status NOT IN ('running', 'paused', 'completed', 'failed', 'cancelled') THEN 'its status was ' || d.status
    END AS error
FROM dag_runs AS d
WHERE NOT EXISTS (SELECT 1 FROM runs AS r WHERE r.run_id = d.run_id);

-- name: runs
-- Whoever ran what still runs is out of sight: its lease is over.
INSERT INTO runs (
    run_id, workflow, kind, status, lease_owner, lease_until, lease_epoch, attempt, root_run_id, created_by, created_at,
    started_at, finished_at, error_message
)
SELECT
    f.run_id, d.dag_nsref, 'manual', f.status,
    CASE WHEN f.status = 'running' THEN 'the original''s runner' END,
    CASE WHEN f.status = 'running' THEN f.started_at END,
    1, 1, f.run_id, {initiator}, f.started_at, f.started_at,
    CASE WHEN f.status IN ('completed', 'failed', 'cancelled') THEN COALESCE(f.told_at, f.started_at) END, f.error
FROM fresh AS f JOIN dag_runs AS d ON d.run_id = f.run_id;

-- name: parents
UPDATE runs
SET parent_run_id = (SELECT {parent} FROM dag_runs AS d WHERE d.run_id = runs.run_id)
WHERE run_id IN (SELECT run_id FROM fresh)
    AND (SELECT {parent} FROM dag_runs AS d WHERE d.run_id = runs.run_id) IN (SELECT run_id FROM runs);

-- name: payloads
INSERT INTO run_payloads (run_id, inputs, tags, headers, policies, result)
SELECT f.run_id, COALESCE(d.source_inputs_json, 'null'), '{}', '{}', '{}', {result}
FROM fresh AS f JOIN dag_runs AS d ON d.run_id = f.run_id;

-- name: attempts
INSERT INTO attempts (run_id, lease_epoch, attempt, owner, status, started_at, finished_at)
SELECT
    f.run_id, 1, 1, 'the original''s runner', f.status, f.started_at,
    CASE WHEN f.status IN ('completed', 'failed', 'cancelled') THEN COALESCE(f.told_at, f.started_at) END
FROM fresh AS f;

-- name: told
-- A run that went on may still bear the end that was told of it.
INSERT INTO checkpoints (run_id, label, name, value, lease_epoch, saved_at)
SELECT f.run_id, '', 'by hand', '{"finished_at": ' || f.told_at || '}', 1, f.started_at
FROM fresh AS f
WHERE f.told_at IS NOT NULL AND f.status NOT IN ('completed', 'failed', 'cancelled');

-- name: nodes
INSERT INTO steps (
    run_id, label, attempt, seq, lease_epoch, kind, status, input, output, storage, output_hash, error_message,
    started_at, finished_at
)
SELECT
    f.run_id, n.node_label, 1, ROW_NUMBER() OVER (PARTITION BY n.run_id ORDER BY n.started_at, n.rowid), 1, {kind},
    CASE
        WHEN n.status IN ('pending', 'running', 'completed', 'failed', 'cancelled', 'skipped') THEN n.status
        ELSE 'failed'
    END,
    n.input_json, n.output_json, 'inline', content_hash(n.output_json), n.error,
    COALESCE(CAST(ROUND(n.started_at * 1000000) AS INTEGER), f.started_at),
    CAST(ROUND(n.finished_at * 1000000) AS INTEGER)
FROM fresh AS f JOIN node_executions AS n ON n.run_id = f.run_id;

-- name: edges
INSERT INTO edges (run_id, upstream, downstream, traversed_at)
SELECT f.run_id, e.upstream_label, e.downstream_label, MIN(CAST(ROUND(e.traversed_at * 1000000) AS INTEGER))
FROM fresh AS f JOIN edge_traversals AS e ON e.run_id = f.run_id
GROUP BY f.run_id, e.upstream_label, e.downstream_label;

-- name: done
DROP TABLE fresh;
