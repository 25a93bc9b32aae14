-- Differs from the SQLite text because there are no stored functions there.
-- The plain SQL door: what a trigger, psql or a program in any language may call. The functions find the ledger's
-- tables whatever the caller's search path is, and do what the client's verbs of the same names do.

CREATE FUNCTION milepost_now() RETURNS BIGINT LANGUAGE sql VOLATILE AS $$
    SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::BIGINT
        + COALESCE(NULLIF(current_setting('milepost.clock_shift', true), '')::BIGINT, 0)
$$;

-- A UUID of version 7: milliseconds, twelve bits of a finer clock, and 62 drawn at random.
CREATE FUNCTION milepost_new_id(now BIGINT) RETURNS TEXT LANGUAGE sql VOLATILE AS $$
    SELECT substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-7' || substr(h, 13, 3) || '-'
        || substr('89ab', 1 + (random() * 3.999)::INT % 4, 1) || substr(h, 17, 3) || '-' || substr(h, 20, 12)
    FROM (
        SELECT lpad(to_hex(now / 1000), 12, '0') || lpad(to_hex((now % 1000) * 4096 / 1000), 3, '0')
            || 'x' || replace(gen_random_uuid()::TEXT, '-', '') AS h
    ) AS digits
$$;

CREATE FUNCTION milepost_check_plain(what TEXT, document JSONB) RETURNS TEXT LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF document::TEXT LIKE '%"$"%' THEN
        RAISE EXCEPTION '% has the key "$", which the ledger keeps for typed values. Name it otherwise.', what
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN document::TEXT;
END
$$;

CREATE FUNCTION create_workflow_run(
    workflow_name TEXT,
    workflow_version TEXT,
    inputs JSONB DEFAULT NULL,
    created_by TEXT DEFAULT NULL,
    tags JSONB DEFAULT NULL,
    workflow_hash TEXT DEFAULT NULL,
    queue_name TEXT DEFAULT 'default'
) RETURNS UUID LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT AS $$
DECLARE
    moment BIGINT := milepost_now();
    id TEXT := milepost_new_id(moment);
BEGIN
    IF workflow_name IS NULL OR workflow_name !~ '\A[a-z][a-z0-9_]*\Z' OR workflow_name LIKE '%\_\_%' THEN
        RAISE EXCEPTION 'workflow_name must match ^[a-z][a-z0-9_]*$ and have no "__", not %', quote_nullable(workflow_name)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF workflow_version IS NULL OR workflow_version !~ '\A[a-zA-Z0-9._-]+\Z' OR workflow_version LIKE '%\_\_%' THEN
        RAISE EXCEPTION 'workflow_version must match ^[a-zA-Z0-9._-]+$ and have no "__", not %',
            quote_nullable(workflow_version) USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF tags IS NOT NULL AND jsonb_typeof(tags) <> 'object' THEN
        RAISE EXCEPTION 'tags must be a JSON object, not %', tags USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO runs (run_id, workflow, version, kind, status, lease_epoch, attempt, root_run_id, created_by, created_at)
    VALUES (
        id, create_workflow_run.workflow_name, workflow_version, 'workflow', 'pending', 0, 1, id,
        create_workflow_run.created_by, moment
    );
    INSERT INTO run_payloads (run_id, inputs, tags, headers)
    VALUES (
        id, COALESCE(milepost_check_plain('inputs', create_workflow_run.inputs), 'null'),
        COALESCE(create_workflow_run.tags::TEXT, 'null'),
        json_build_object(
            'workflow_hash', create_workflow_run.workflow_hash, 'run_id', NULL, 'queue', create_workflow_run.queue_name
        )::TEXT
    );
    INSERT INTO run_tags (run_id, name, value)
    SELECT id, key, each.value::TEXT FROM jsonb_each(COALESCE(create_workflow_run.tags, '{}')) AS each;
    INSERT INTO status_reports (run_id, number, status, reported_at) VALUES (id, 1, 'pending', moment);
    RETURN id::UUID;
END
$$;

CREATE FUNCTION spawn_task(
    queue_name TEXT,
    task_name TEXT,
    params JSONB DEFAULT '{}',
    headers JSONB DEFAULT '{}',
    max_attempts INTEGER DEFAULT 1,
    workflow_run_id UUID DEFAULT NULL,
    idempotency_key TEXT DEFAULT NULL
) RETURNS UUID LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT AS $$
DECLARE
    moment BIGINT := milepost_now();
    id TEXT := milepost_new_id(moment);
    parent TEXT := COALESCE(
        spawn_task.workflow_run_id::TEXT, spawn_task.headers ->> 'workflow_run_id', spawn_task.params ->> 'workflow_run_id'
    );
    root TEXT;
    earlier RECORD;
BEGIN
    IF queue_name IS NULL OR queue_name !~ '\A[a-zA-Z_][a-zA-Z0-9_-]{0,62}\Z' THEN
        RAISE EXCEPTION '% is not a queue name. Use 1 to 63 letters, digits, "_" or "-"', quote_nullable(queue_name)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF task_name IS NULL OR task_name !~ '\S' OR length(task_name) > 255 THEN
        RAISE EXCEPTION 'task_name must be 1 to 255 printable characters, not %', quote_nullable(task_name)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF max_attempts IS NULL OR max_attempts < 1 THEN
        RAISE EXCEPTION 'max_attempts must be a whole number of 1 or more, not %', max_attempts
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF parent IS NOT NULL THEN
        SELECT root_run_id INTO root FROM runs WHERE run_id = parent AND kind = 'workflow';
        IF root IS NULL THEN
            RAISE EXCEPTION 'No workflow run % in this ledger. Create it first: create_workflow_run(...)', parent
                USING ERRCODE = 'foreign_key_violation';
        END IF;
    END IF;
    INSERT INTO runs (
        run_id, workflow, kind, status, queue, lease_epoch, attempt, max_attempts, idempotency_key, parent_run_id,
        root_run_id, created_at
    )
    VALUES (
        id, spawn_task.task_name, 'task_by_hand', 'pending', spawn_task.queue_name, 0, 1, spawn_task.max_attempts,
        spawn_task.idempotency_key, parent, COALESCE(root, id), moment
    )
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        SELECT runs.run_id, runs.workflow, run_payloads.inputs INTO earlier
        FROM runs JOIN run_payloads ON run_payloads.run_id = runs.run_id
        WHERE runs.queue = spawn_task.queue_name AND runs.idempotency_key = spawn_task.idempotency_key;
        IF earlier.workflow <> spawn_task.task_name OR earlier.inputs::JSONB <> COALESCE(spawn_task.params, '{}') THEN
            RAISE EXCEPTION 'The idempotency key % belongs to task %, which has another name or other params',
                quote_nullable(spawn_task.idempotency_key), earlier.run_id USING ERRCODE = 'unique_violation';
        END IF;
        RETURN earlier.run_id::UUID;
    END IF;
    INSERT INTO run_payloads (run_id, inputs, headers, policies)
    VALUES (
        id, milepost_check_plain('params', COALESCE(spawn_task.params, '{}')),
        milepost_check_plain('headers', COALESCE(spawn_task.headers, '{}')), '{"inputs":"unchecked"}'
    );
    PERFORM pg_notify('milepost_' || current_schema(), 'tasks');
    RETURN id::UUID;
END
$$;

-- The first emit stands. Returns whether this was the first.
CREATE FUNCTION emit_event(queue_name TEXT, event_name TEXT, payload JSONB DEFAULT '{}') RETURNS BOOLEAN
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT AS $$
DECLARE
    moment BIGINT := milepost_now();
    kept TEXT := milepost_check_plain('payload', COALESCE(emit_event.payload, '{}'));
    woken TEXT;
    is_waited_for BOOLEAN := false;
BEGIN
    IF event_name IS NULL OR event_name !~ '\S' OR length(event_name) > 255 THEN
        RAISE EXCEPTION '% is not an event name. Use 1 to 255 printable characters', quote_nullable(event_name)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('event:' || queue_name || ':' || event_name, 0));
    INSERT INTO events (scope, name, payload, emitted_at) VALUES (queue_name, event_name, kept, moment)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    FOR woken IN
        WITH resolved AS (
            UPDATE waits SET outcome = 'emitted', payload = kept, resolved_at = moment
            WHERE scope = queue_name AND event = event_name AND outcome IS NULL
            RETURNING run_id
        )
        SELECT DISTINCT run_id FROM resolved ORDER BY run_id
    LOOP
        -- One that was paused stays so, whatever it waited for.
        UPDATE runs SET available_at = moment
        WHERE run_id = woken AND status = 'suspended' AND (error_type IS NULL OR error_type <> 'DagPause');
        is_waited_for := true;
    END LOOP;
    IF is_waited_for THEN
        PERFORM pg_notify('milepost_' || current_schema(), 'tasks');
    END IF;
    RETURN true;
END
$$;

-- One that waits is cancelled at once, one that runs is asked to stop. Returns whether it was not over yet.
CREATE FUNCTION cancel_task(task_id UUID) RETURNS BOOLEAN
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT AS $$
DECLARE
    moment BIGINT := milepost_now();
    run RECORD;
BEGIN
    SELECT * INTO run FROM runs WHERE run_id = task_id::TEXT AND queue IS NOT NULL FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'No task % in this ledger', task_id USING ERRCODE = 'no_data_found';
    END IF;
    IF run.finished_at IS NOT NULL THEN
        RETURN false;
    END IF;
    IF run.status = 'running' THEN
        UPDATE runs SET cancel_requested_at = COALESCE(cancel_requested_at, moment) WHERE run_id = run.run_id;
        RETURN true;
    END IF;
    UPDATE runs
    SET status = 'cancelled', finished_at = moment, lease_epoch = lease_epoch + 1,
        cancel_requested_at = COALESCE(cancel_requested_at, moment), error_type = 'TaskCancelled',
        error_message = 'cancelled on request'
    WHERE run_id = run.run_id;
    RETURN true;
END
$$;
