-- Events, and the runs that wait for them or for a time.

-- name: insert_event
-- The first emit stands.
INSERT INTO events (scope, name, payload, emitted_at) VALUES (:scope, :name, :payload, :now)
ON CONFLICT (scope, name) DO NOTHING;

-- name: get_event -> one
SELECT scope, name, payload, emitted_at FROM events WHERE scope = :scope AND name = :name;

-- name: list_events -> many
SELECT scope, name, payload, emitted_at FROM events
WHERE scope = :scope AND (CAST(:prefix AS TEXT) IS NULL OR (name >= :prefix AND name < :prefix_end))
ORDER BY emitted_at DESC, name LIMIT :limit;

-- name: insert_wait
-- Asked again (a resume), the wait that is there goes on.
INSERT INTO waits (run_id, label, kind, scope, event, wake_at, created_at)
SELECT :run_id, :label, :kind, :scope, :event, :wake_at, :now
WHERE EXISTS (
    SELECT 1 FROM runs WHERE run_id = :run_id AND lease_epoch = :lease_epoch AND status = 'running' {for_share}
)
ON CONFLICT (run_id, label) DO NOTHING;

-- name: get_wait -> one
SELECT run_id, label, kind, scope, event, wake_at, created_at, outcome, payload, resolved_at
FROM waits WHERE run_id = :run_id AND label = :label;

-- name: list_waits -> many
SELECT run_id, label, kind, scope, event, wake_at, created_at, outcome, payload, resolved_at
FROM waits WHERE run_id = :run_id ORDER BY created_at, label;

-- name: lock_waits -> many
-- Held until the run is suspended, so that no outcome falls between the look and the sleep.
SELECT label FROM waits WHERE run_id = :run_id ORDER BY label {for_update};

-- name: resolve_wait
UPDATE waits SET outcome = :outcome, payload = :payload, resolved_at = :now
WHERE run_id = :run_id AND label = :label AND outcome IS NULL;

-- name: resolve_event_waits -> many
UPDATE waits SET outcome = 'emitted', payload = :payload, resolved_at = :now
WHERE scope = :scope AND event = :name AND outcome IS NULL
RETURNING run_id;

-- name: resolve_due_waits
UPDATE waits SET outcome = CASE WHEN kind = 'sleep' THEN 'woken' ELSE 'timed_out' END, resolved_at = :now
WHERE run_id = :run_id AND outcome IS NULL AND wake_at IS NOT NULL AND wake_at <= :now;

-- name: wake_run
-- One that was paused stays so, whatever it waited for.
UPDATE runs SET available_at = :now
WHERE run_id = :run_id AND status = 'suspended' AND (error_type IS NULL OR error_type <> 'DagPause');

-- name: suspend_run
-- Gives the lease up. What was resolved since the run looked wakes it at once: :seen names the resolved waits
-- that it knows of.
UPDATE runs
SET status = 'suspended', lease_owner = NULL, lease_until = NULL,
    available_at = CASE
        WHEN (SELECT COUNT(*) FROM waits WHERE run_id = :run_id AND outcome IS NOT NULL) > :seen THEN :now
        ELSE (SELECT MIN(wake_at) FROM waits WHERE run_id = :run_id AND outcome IS NULL)
    END
WHERE run_id = :run_id AND lease_epoch = :lease_epoch AND status = 'running';

-- name: delete_events
-- Any run may ask for an event of any scope. Those that came since the oldest unfinished run began stay: it may not
-- have asked yet.
DELETE FROM events
WHERE emitted_at < :before
    AND emitted_at < COALESCE(
        (SELECT MIN(created_at) FROM runs WHERE finished_at IS NULL), :before
    );
