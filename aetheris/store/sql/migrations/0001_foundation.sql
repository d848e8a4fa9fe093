-- The store's foundation: roles, tables, walls.
--
-- WHO MAY DO WHAT
--   aetheris_owner   owns the tables; nobody logs in as it; only migrations act as it.
--   aetheris_app     submits, reads, writes to the inbox; sees one tenant: the one that
--                    `SET LOCAL aetheris.tenant` names in the transaction at hand.
--   aetheris_worker  claims, appends, heartbeats, over all tenants; each of its statements
--                    joins on (tenant_id, job_id).
--   aetheris_mirror  reads the mirrored tables of all tenants; writes the lake's catalog (0002).
-- Row-level security is FORCEd on every table, so not even the owner sees past a policy.
--
-- KEYS
--   tenant_id is the first column of every primary, foreign and unique key: a tenant can
--   move to another database whole. Exempt, by name: schema_migrations, store_identity,
--   deployment_keys, workers (they belong to the deployment, not to a tenant).
--   The hot tables (job_events, cells, ledger) have no foreign key to jobs: their only way in
--   is the append statement, which joins on the job row it has just locked.
--
-- WHO MOVES A JOB
--   The one append statement (sql/append.sql) moves head_seq and head_leaf, and only where
--   lease_epoch and head_seq are what the writer believes. Two triggers stand behind it:
--   a terminal job's head never moves, and no event lies beyond its job's head.
--
-- XID AND RECORDED_AT
--   Every mirrored row carries the xid8 of its transaction and the database's time. The
--   mirror's watermark is a whole pg_snapshot over these xids (see runtime/mirror.py).

CREATE TABLE store_identity (
    only_row     boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    incarnation  uuid NOT NULL DEFAULT gen_random_uuid(),
    created_at   timestamptz NOT NULL DEFAULT now()
);
INSERT INTO store_identity DEFAULT VALUES;

-- Secrets of the deployment: kind 'job_id' mints and checks ids, 'snapshot' seals snapshots.
CREATE TABLE deployment_keys (
    kind        text NOT NULL,
    key_id      smallint NOT NULL CHECK (key_id BETWEEN 0 AND 255),
    secret      bytea NOT NULL CHECK (length(secret) >= 32),
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, key_id)
);

CREATE TABLE workers (
    worker_id     text PRIMARY KEY,
    started_at    timestamptz NOT NULL DEFAULT now(),
    last_seen_at  timestamptz NOT NULL DEFAULT now(),
    agents        text[] NOT NULL DEFAULT '{}',
    capabilities  text[] NOT NULL DEFAULT '{}',
    concurrency   integer NOT NULL,
    host          text NOT NULL DEFAULT '',
    pid           integer NOT NULL DEFAULT 0
);

CREATE TABLE tenants (
    tenant_id   text COLLATE "C" PRIMARY KEY CHECK (tenant_id ~ '^[a-z0-9][a-z0-9_.-]{0,62}$'),
    name        text NOT NULL,
    status      text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'removed')),
    quota_json  jsonb NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now()
);
INSERT INTO tenants (tenant_id, name) VALUES ('default', 'default');

CREATE TABLE jobs (
    tenant_id              text COLLATE "C" NOT NULL REFERENCES tenants (tenant_id),
    job_id                 text COLLATE "C" NOT NULL,
    agent                  text NOT NULL,
    agent_version          text NOT NULL,
    goal                   text NOT NULL DEFAULT '',
    status                 smallint NOT NULL DEFAULT 0 CHECK (status BETWEEN 0 AND 7),
    idempotency_key        text,
    required_capabilities  text[] NOT NULL DEFAULT '{}',
    parent_job_id          text COLLATE "C",
    head_seq               bigint NOT NULL,
    head_leaf              bytea NOT NULL,
    checkpoint_seq         bigint NOT NULL DEFAULT 0,
    open_calls             integer NOT NULL DEFAULT 0 CHECK (open_calls >= 0),
    lease_epoch            bigint NOT NULL DEFAULT 0,
    lease_owner            text,
    lease_until            timestamptz,
    wake_at                timestamptz NOT NULL DEFAULT now(),
    cancel_requested_at    timestamptz,
    created_at             timestamptz NOT NULL DEFAULT now(),
    updated_at             timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, job_id),
    -- A job with a call in doubt can't end: it is parked, and a person or confirm resolves it.
    CHECK (status NOT IN (2, 3, 4) OR open_calls = 0)
) WITH (fillfactor = 70);
-- One job per idempotency key.
CREATE UNIQUE INDEX jobs_idempotency ON jobs (tenant_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
-- What a claim looks for: ready jobs by tenant in order of waiting, and running ones whose lease may have run out.
-- No column that changes per step stands in an index, so appends update jobs in place (HOT).
CREATE INDEX jobs_ready ON jobs (tenant_id, wake_at) WHERE status IN (0, 5, 6, 7);
CREATE INDEX jobs_running ON jobs (tenant_id, job_id) WHERE status = 1;
CREATE INDEX jobs_created ON jobs (tenant_id, created_at DESC, job_id);

CREATE TABLE job_events (
    tenant_id    text COLLATE "C" NOT NULL,
    job_id       text COLLATE "C" NOT NULL,
    seq          bigint NOT NULL CHECK (seq >= 1),
    leaf         bytea NOT NULL,
    line         text COLLATE "C" NOT NULL,
    xid          xid8 NOT NULL DEFAULT pg_current_xact_id(),
    recorded_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, job_id, seq)
);

CREATE TABLE cells (
    tenant_id    text COLLATE "C" NOT NULL,
    job_id       text COLLATE "C" NOT NULL,
    seq          bigint NOT NULL,
    name         text COLLATE "C" NOT NULL,
    salt         bytea,
    body         text COLLATE "C",
    xid          xid8 NOT NULL DEFAULT pg_current_xact_id(),
    recorded_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, job_id, seq, name),
    CHECK ((salt IS NULL) = (body IS NULL))
);

-- Append-only transitions of tool invocations; each is carried by exactly one event.
CREATE TABLE ledger (
    tenant_id        text COLLATE "C" NOT NULL,
    job_id           text COLLATE "C" NOT NULL,
    seq              bigint NOT NULL,
    step             bigint NOT NULL,
    attempt          integer NOT NULL,
    tool_name        text NOT NULL,
    effect           text NOT NULL CHECK (effect IN ('none', 'idempotent', 'once')),
    status           text NOT NULL CHECK (status IN ('started', 'committed', 'failed', 'unknown', 'confirmed', 'resolved')),
    epoch            bigint NOT NULL,
    idempotency_key  bytea,
    args_hash        bytea,
    result_hash      bytea,
    outcome          text NOT NULL DEFAULT '',
    xid              xid8 NOT NULL DEFAULT pg_current_xact_id(),
    recorded_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, job_id, seq)
);

-- Current state of every attempt: its first transition's identity, its last one's state.
CREATE VIEW tool_invocations WITH (security_invoker = true) AS
SELECT DISTINCT ON (tenant_id, job_id, step, attempt)
    tenant_id, job_id, step, attempt, tool_name, effect,
    status,
    status IN ('committed', 'confirmed') AS committed,
    first_value(idempotency_key) OVER call AS idempotency_key,
    first_value(args_hash) OVER call AS args_hash,
    result_hash, outcome, epoch,
    first_value(recorded_at) OVER call AS created_at,
    recorded_at AS updated_at
FROM ledger
WINDOW call AS (PARTITION BY tenant_id, job_id, step, attempt ORDER BY seq)
ORDER BY tenant_id, job_id, step, attempt, seq DESC;

CREATE TABLE lease_changes (
    tenant_id    text COLLATE "C" NOT NULL,
    job_id       text COLLATE "C" NOT NULL,
    epoch        bigint NOT NULL,
    change       text NOT NULL CHECK (change IN ('claimed', 'taken_over', 'released')),
    worker_id    text NOT NULL,
    lease_until  timestamptz,
    xid          xid8 NOT NULL DEFAULT pg_current_xact_id(),
    recorded_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, job_id, epoch, change)
);

-- The inbox: what others want of a job. It becomes events when the lease holder takes it.
CREATE TABLE signals (
    tenant_id        text COLLATE "C" NOT NULL,
    job_id           text COLLATE "C" NOT NULL,
    signal_id        uuid NOT NULL DEFAULT gen_random_uuid(),
    kind             text NOT NULL CHECK (kind IN ('signal', 'approval', 'cancel', 'pause', 'resume', 'resolve', 'checkpoint')),
    correlation_key  text NOT NULL DEFAULT '',
    sent_by          text NOT NULL,
    payload          text,
    taken_seq        bigint,
    recorded_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, job_id, signal_id),
    FOREIGN KEY (tenant_id, job_id) REFERENCES jobs (tenant_id, job_id) ON DELETE CASCADE
);
-- A signal with a key arrives exactly once.
CREATE UNIQUE INDEX signals_once ON signals (tenant_id, job_id, kind, correlation_key) WHERE correlation_key <> '';
CREATE INDEX signals_untaken ON signals (tenant_id, job_id) WHERE taken_seq IS NULL;

CREATE TABLE job_snapshots (
    tenant_id    text COLLATE "C" NOT NULL,
    job_id       text COLLATE "C" NOT NULL,
    seq          bigint NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('timer', 'checkpoint')),
    version      smallint NOT NULL,
    leaf         bytea NOT NULL,
    body         bytea NOT NULL,
    mac          bytea NOT NULL,
    xid          xid8 NOT NULL DEFAULT pg_current_xact_id(),
    recorded_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, job_id, seq),
    FOREIGN KEY (tenant_id, job_id) REFERENCES jobs (tenant_id, job_id)
);

CREATE TABLE limit_waits (
    tenant_id    text COLLATE "C" NOT NULL,
    job_id       text COLLATE "C" NOT NULL,
    step         bigint NOT NULL,
    attempt      integer NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('tool', 'llm')),
    name         text NOT NULL,
    asked_at     timestamptz NOT NULL,
    slot_at      timestamptz NOT NULL,
    started_at   timestamptz,
    outcome      text NOT NULL,
    xid          xid8 NOT NULL DEFAULT pg_current_xact_id(),
    recorded_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, job_id, step, attempt, kind, name, asked_at)
);

CREATE TABLE seals (
    tenant_id    text COLLATE "C" NOT NULL,
    job_id       text COLLATE "C" NOT NULL,
    seal         text COLLATE "C" NOT NULL,
    dsse         text COLLATE "C",
    tlog_proof   text COLLATE "C",
    timestamp    bytea,
    xid          xid8 NOT NULL DEFAULT pg_current_xact_id(),
    recorded_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, job_id)
);

CREATE TABLE job_tombstones (
    tenant_id       text COLLATE "C" NOT NULL,
    job_id          text COLLATE "C" NOT NULL,
    agent           text NOT NULL,
    event_count     bigint NOT NULL,
    head_leaf       bytea NOT NULL,
    deleted_by      text NOT NULL,
    reason          text NOT NULL,
    retention_days  integer NOT NULL,
    archive_ref     text NOT NULL,
    xid             xid8 NOT NULL DEFAULT pg_current_xact_id(),
    recorded_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, job_id)
);

CREATE TABLE erasures (
    tenant_id    text COLLATE "C" NOT NULL,
    job_id       text COLLATE "C" NOT NULL,
    seq          bigint NOT NULL,
    name         text COLLATE "C" NOT NULL,
    audit_seq    bigint NOT NULL,
    erased_by    text NOT NULL,
    reason       text NOT NULL,
    xid          xid8 NOT NULL DEFAULT pg_current_xact_id(),
    recorded_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, job_id, seq, name)
);

-- The audit log: one hash chain per tenant, in the same line form as events.
CREATE TABLE audit_heads (
    tenant_id  text COLLATE "C" PRIMARY KEY REFERENCES tenants (tenant_id),
    head_seq   bigint NOT NULL,
    head_leaf  bytea NOT NULL
);
CREATE TABLE audit_log (
    tenant_id    text COLLATE "C" NOT NULL,
    seq          bigint NOT NULL CHECK (seq >= 1),
    leaf         bytea NOT NULL,
    line         text COLLATE "C" NOT NULL,
    xid          xid8 NOT NULL DEFAULT pg_current_xact_id(),
    recorded_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, seq)
);

-- The mirror reads each of these by xid.
CREATE INDEX job_events_xid ON job_events (xid);
CREATE INDEX cells_xid ON cells (xid);
CREATE INDEX ledger_xid ON ledger (xid);
CREATE INDEX lease_changes_xid ON lease_changes (xid);
CREATE INDEX limit_waits_xid ON limit_waits (xid);
CREATE INDEX job_snapshots_xid ON job_snapshots (xid);
CREATE INDEX seals_xid ON seals (xid);
CREATE INDEX job_tombstones_xid ON job_tombstones (xid);
CREATE INDEX erasures_xid ON erasures (xid);
CREATE INDEX audit_log_xid ON audit_log (xid);

-- Terminal is terminal. The WHEN clause is tested in C; the function runs only to refuse.
CREATE FUNCTION refuse_terminal_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'job % has ended: nothing may follow', OLD.job_id USING ERRCODE = 'AE001';
END $$;
CREATE TRIGGER jobs_terminal BEFORE UPDATE ON jobs FOR EACH ROW
    WHEN (OLD.status IN (2, 3, 4) AND (NEW.status <> OLD.status OR NEW.head_seq <> OLD.head_seq OR NEW.head_leaf <> OLD.head_leaf))
    EXECUTE FUNCTION refuse_terminal_move();

-- No event lies beyond its job's head: what is not appended by moving the head is refused.
CREATE FUNCTION refuse_event_beyond_head() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE stray record;
BEGIN
    SELECT n.job_id, n.seq INTO stray
    FROM (SELECT tenant_id, job_id, max(seq) AS seq FROM new_rows GROUP BY tenant_id, job_id) n
    LEFT JOIN aetheris.jobs j ON j.tenant_id = n.tenant_id AND j.job_id = n.job_id
    WHERE j.head_seq IS NULL OR n.seq > j.head_seq
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'event % of job % lies beyond its head', stray.seq, stray.job_id USING ERRCODE = 'AE002';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER job_events_within_head AFTER INSERT ON job_events REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_beyond_head();

-- Walls.
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['tenants','jobs','job_events','cells','ledger','lease_changes','signals','job_snapshots',
                             'limit_waits','seals','job_tombstones','erasures','audit_heads','audit_log'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY app_reads ON %I FOR SELECT TO aetheris_app USING (tenant_id = current_setting(''aetheris.tenant'', true))', t);
        EXECUTE format('CREATE POLICY worker_all ON %I TO aetheris_worker USING (true) WITH CHECK (true)', t);
        EXECUTE format('GRANT SELECT ON %I TO aetheris_app, aetheris_worker', t);
    END LOOP;
    FOREACH t IN ARRAY ARRAY['tenants','jobs','job_events','cells','ledger','lease_changes','job_snapshots','limit_waits','seals',
                             'job_tombstones','erasures','audit_log'] LOOP
        EXECUTE format('CREATE POLICY mirror_reads ON %I FOR SELECT TO aetheris_mirror USING (true)', t);
        EXECUTE format('GRANT SELECT ON %I TO aetheris_mirror', t);
    END LOOP;
END $$;
GRANT SELECT ON tool_invocations TO aetheris_app, aetheris_worker;
GRANT SELECT ON store_identity TO aetheris_app, aetheris_worker, aetheris_mirror;
GRANT SELECT ON deployment_keys TO aetheris_app, aetheris_worker;

-- The app submits: a job at its first event, and nothing beyond; and it writes to the inbox.
CREATE POLICY app_submits ON jobs FOR INSERT TO aetheris_app
    WITH CHECK (tenant_id = current_setting('aetheris.tenant', true)
                AND status = 0 AND head_seq = 1 AND lease_epoch = 0 AND lease_owner IS NULL AND open_calls = 0);
CREATE POLICY app_wakes ON jobs FOR UPDATE TO aetheris_app
    USING (tenant_id = current_setting('aetheris.tenant', true));
CREATE POLICY app_submits ON job_events FOR INSERT TO aetheris_app
    WITH CHECK (tenant_id = current_setting('aetheris.tenant', true) AND seq = 1);
CREATE POLICY app_submits ON cells FOR INSERT TO aetheris_app
    WITH CHECK (tenant_id = current_setting('aetheris.tenant', true) AND seq = 1);
CREATE POLICY app_sends ON signals FOR INSERT TO aetheris_app
    WITH CHECK (tenant_id = current_setting('aetheris.tenant', true) AND taken_seq IS NULL);
-- The app may add the tenant it speaks for, and no other.
CREATE POLICY app_founds ON tenants FOR INSERT TO aetheris_app
    WITH CHECK (tenant_id = current_setting('aetheris.tenant', true));
GRANT INSERT ON tenants, jobs, job_events, cells, signals TO aetheris_app;
GRANT UPDATE (wake_at, cancel_requested_at) ON jobs TO aetheris_app;

-- The worker moves jobs and adds rows; what is written is never rewritten.
GRANT UPDATE ON jobs TO aetheris_worker;
GRANT INSERT ON job_events, cells, ledger, lease_changes, job_snapshots, limit_waits TO aetheris_worker;
GRANT UPDATE (taken_seq, payload) ON signals TO aetheris_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON workers TO aetheris_worker;
GRANT SELECT ON workers TO aetheris_app;

GRANT USAGE ON SCHEMA aetheris TO aetheris_app, aetheris_worker, aetheris_mirror;
