-- Schedules: rules that start runs at times.

-- name: insert_schedule
INSERT INTO schedules (
    name, workflow, target, hash, queue, priority, cron, every, timezone, start_at, catch_up, max_active, inputs,
    next_at, paused_at, created_at, kind
)
VALUES (
    :name, :workflow, :target, :hash, :queue, :priority, :cron, :every, :timezone, :start_at, :catch_up, :max_active,
    :inputs, :next_at, :paused_at, :now, :kind
)
ON CONFLICT (name) DO NOTHING;

-- name: get_schedule -> one
SELECT {schedule_columns} FROM schedules WHERE name = :name;

-- name: list_schedules -> many
SELECT {schedule_columns} FROM schedules ORDER BY name;

-- name: list_due_schedules -> many
-- One page: the next begins after (:after_at, :after_name).
SELECT {schedule_columns} FROM schedules
WHERE paused_at IS NULL AND next_at IS NOT NULL AND next_at <= :now
    AND (next_at, name) > (:after_at, :after_name)            -- if :after_name
ORDER BY next_at, name LIMIT :limit;

-- name: read_clock -> one
-- The time that all who share the ledger agree on: machines whose clocks differ fire no tick early.
SELECT {lease_now};

-- name: next_schedule_at -> one
SELECT MIN(next_at) FROM schedules WHERE paused_at IS NULL AND next_at IS NOT NULL;

-- name: advance_schedule
-- Whoever moves the tick on has fired it: the guard lets one process win. A schedule that was removed and
-- added anew meanwhile is another one.
UPDATE schedules SET next_at = :next_at
WHERE name = :name AND created_at = :created_at AND next_at = :expected_at AND paused_at IS NULL;

-- name: pause_schedule
UPDATE schedules SET paused_at = :now WHERE name = :name AND paused_at IS NULL;

-- name: resume_schedule
UPDATE schedules SET paused_at = NULL, next_at = :next_at WHERE name = :name AND paused_at IS NOT NULL;

-- name: delete_schedule
DELETE FROM schedules WHERE name = :name;

-- name: count_active_runs -> one
-- Runs of a schedule that have not finished.
SELECT COUNT(*) FROM runs WHERE created_by = :created_by AND finished_at IS NULL;

-- name: last_run_of_schedule -> one
SELECT {run_columns} FROM runs WHERE created_by = :created_by ORDER BY created_at DESC, run_id DESC LIMIT 1;
