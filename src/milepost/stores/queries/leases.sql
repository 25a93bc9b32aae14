-- Who may execute a run, and for how long.

-- name: claim_run
-- Take a run over: the epoch grows, so that whoever held it before can write no more. The guard
-- names the state and epoch that were read, so that of two who try, one wins. Whoever takes a run over by hand
-- has mended what killed its workers: rescues count afresh.
UPDATE runs
SET status = 'running', lease_owner = :owner, lease_until = {lease_until}, lease_epoch = lease_epoch + 1,
    generation = generation + 1, attempt = :attempt, finished_at = NULL, cancel_requested_at = NULL,
    pause_requested_at = NULL, rescues = 0,
    error_step = NULL, error_type = NULL, error_message = NULL,
    started_at = COALESCE(started_at, :now)
WHERE run_id = :run_id AND status = :expected_status AND lease_epoch = :expected_epoch;

-- name: close_attempts
-- What an earlier owner left open when it died.
UPDATE attempts
SET status = 'cancelled', finished_at = :now, error_type = :error_type, error_message = :error_message
WHERE run_id = :run_id AND status = 'running';

-- name: set_target
UPDATE run_payloads SET target = COALESCE(:target, target), error_traceback = NULL WHERE run_id = :run_id;

-- name: heartbeat
-- One run of one worker: the lease moves under its epoch, or it is lost.
UPDATE runs SET lease_until = {lease_until}
WHERE run_id = :run_id AND lease_epoch = :lease_epoch AND lease_owner = :owner AND status = 'running';

-- name: list_stop_requests -> many
-- Of one owner's runs those that somebody asked to cancel (1) or to pause (0).
SELECT run_id, lease_epoch, CASE WHEN cancel_requested_at IS NULL THEN 0 ELSE 1 END FROM runs
WHERE status = 'running' AND lease_owner = :owner
    AND (cancel_requested_at IS NOT NULL OR pause_requested_at IS NOT NULL);

-- name: request_cancel
UPDATE runs SET cancel_requested_at = COALESCE(cancel_requested_at, :now)
WHERE run_id = :run_id AND status IN ('pending', 'running', 'suspended');

-- name: request_pause
UPDATE runs SET pause_requested_at = COALESCE(pause_requested_at, :now)
WHERE run_id = :run_id AND status = 'running';

-- name: cancel_unowned
-- Nobody executes this run (its owner is dead, or it never had one): end it here.
UPDATE runs
SET status = 'cancelled', finished_at = :now, lease_owner = NULL, lease_until = NULL,
    lease_epoch = lease_epoch + 1, cancel_requested_at = COALESCE(cancel_requested_at, :now),
    error_type = :error_type, error_message = :error_message
WHERE run_id = :run_id AND lease_epoch = :expected_epoch AND status IN ('pending', 'running', 'suspended');
