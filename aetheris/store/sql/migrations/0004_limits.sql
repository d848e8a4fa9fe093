-- Limits that hold over all workers: the state of each rate, permits in use, and changes on record.
--
-- tenant_id is '' where a limit is the whole deployment's, else the tenant whose own budget it is;
-- so the key begins with it as everywhere, and the tenant policies need no exception: a tenant sees
-- its own budgets, never the deployment's.
--
-- WHO MOVES A RATE
--   reserve_slots_v1 alone, under the row's lock, by this server's clock read after the lock is had.
--   It is GCRA (aetheris/domain/limits.py has the arithmetic and its source). What it has given out
--   is never given out again: a slot lost with its worker is wasted. give_back takes back a tail that
--   no waiter was given, and only while nothing was reserved behind it.
--
-- PERMITS
--   One row per call under way where max_concurrent is set. It lives until `until`, which the worker's
--   limiter renews for the permits in its hands; a killed worker's run out and are removed by the next
--   reservation.

CREATE TABLE rate_limits (
    tenant_id       text COLLATE "C" NOT NULL,
    kind            text NOT NULL CHECK (kind IN ('tool', 'llm')),
    name            text NOT NULL,
    tat_ns          bigint NOT NULL DEFAULT 0,
    interval_ns     bigint NOT NULL DEFAULT -1,
    burst           integer NOT NULL DEFAULT 1,
    max_concurrent  integer,
    -- Workers that have waiters, how many, and until when that is taken for granted.
    askers          text[] NOT NULL DEFAULT '{}',
    asker_waiting   integer[] NOT NULL DEFAULT '{}',
    asker_untils    bigint[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (tenant_id, kind, name)
) WITH (fillfactor = 50);

CREATE TABLE limit_permits (
    tenant_id  text COLLATE "C" NOT NULL,
    kind       text NOT NULL,
    name       text NOT NULL,
    worker_id  text NOT NULL,
    number     bigint NOT NULL,
    until      timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, kind, name, worker_id, number)
);

-- Which limit was in force from when, as first used by a reservation.
CREATE TABLE limit_changes (
    tenant_id       text COLLATE "C" NOT NULL,
    kind            text NOT NULL,
    name            text NOT NULL,
    interval_ns     bigint NOT NULL,
    burst           integer NOT NULL,
    max_concurrent  integer,
    worker_id       text NOT NULL,
    recorded_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, kind, name, recorded_at, worker_id)
);

CREATE FUNCTION reserve_slots_v1(
    p_tenant text, p_kind text, p_name text, p_interval bigint, p_burst integer, p_horizon bigint,
    p_max_concurrent integer, p_wanted integer, p_waiting integer, p_ahead integer, p_worker text, p_first_number bigint, p_permit_seconds double precision,
    OUT granted integer, OUT base_ns bigint, OUT now_ns bigint, OUT sharing integer
) LANGUAGE plpgsql AS $$
DECLARE
    s           aetheris.rate_limits%ROWTYPE;
    tolerance   bigint := p_interval * (p_burst - 1);
    reach       integer;
    kept          text[];
    kept_waiting  integer[];
    kept_untils   bigint[];
    share         integer;
BEGIN
    SELECT * INTO s FROM aetheris.rate_limits
    WHERE tenant_id = p_tenant AND kind = p_kind AND name = p_name FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        INSERT INTO aetheris.rate_limits (tenant_id, kind, name) VALUES (p_tenant, p_kind, p_name) ON CONFLICT DO NOTHING;
        SELECT * INTO s FROM aetheris.rate_limits
        WHERE tenant_id = p_tenant AND kind = p_kind AND name = p_name FOR NO KEY UPDATE;
    END IF;
    -- The clock is read once the lock is had: what waited for it must not reckon from before.
    now_ns := (extract(epoch FROM clock_timestamp()) * 1e6)::bigint * 1000;
    base_ns := greatest(now_ns, s.tat_ns);

    IF (s.interval_ns, s.burst, s.max_concurrent) IS DISTINCT FROM (p_interval, p_burst, p_max_concurrent) THEN
        INSERT INTO aetheris.limit_changes (tenant_id, kind, name, interval_ns, burst, max_concurrent, worker_id)
        VALUES (p_tenant, p_kind, p_name, p_interval, p_burst, p_max_concurrent, p_worker);
        -- What an earlier, slower limit had spaced far ahead doesn't bind a faster one.
        base_ns := greatest(now_ns, least(base_ns, now_ns + p_horizon + tolerance));
    END IF;

    -- Workers share what is open ahead by how many wait in each, so that a wait is as long in one as in another;
    -- but whoever has nothing ahead gets one, however few he is.
    SELECT coalesce(array_agg(a), '{}'), coalesce(array_agg(w), '{}'), coalesce(array_agg(u), '{}')
    INTO kept, kept_waiting, kept_untils
    FROM unnest(s.askers, s.asker_waiting, s.asker_untils) AS x (a, w, u) WHERE u > now_ns AND a <> p_worker;
    sharing := cardinality(kept) + 1;
    granted := p_wanted;
    IF p_interval > 0 THEN
        reach := least(p_wanted, greatest(0, (now_ns + p_horizon - base_ns + tolerance) / p_interval + 1));
        IF now_ns + p_horizon - base_ns + tolerance < 0 THEN reach := 0; END IF;
        share := ceil((p_burst + p_horizon / p_interval)::numeric * p_waiting
                      / (p_waiting + coalesce((SELECT sum(w) FROM unnest(kept_waiting) AS w), 0)));
        granted := least(reach, CASE WHEN sharing = 1 THEN reach
                                     WHEN p_ahead = 0 THEN greatest(1, share)
                                     ELSE greatest(0, share - p_ahead) END);
    END IF;

    IF p_max_concurrent IS NOT NULL THEN
        DELETE FROM aetheris.limit_permits
        WHERE tenant_id = p_tenant AND kind = p_kind AND name = p_name AND until <= clock_timestamp();
        granted := greatest(0, least(granted, p_max_concurrent - (
            SELECT count(*) FROM aetheris.limit_permits
            WHERE tenant_id = p_tenant AND kind = p_kind AND name = p_name)::integer));
        INSERT INTO aetheris.limit_permits (tenant_id, kind, name, worker_id, number, until)
        SELECT p_tenant, p_kind, p_name, p_worker, n, clock_timestamp() + p_permit_seconds * interval '1 second'
        FROM generate_series(p_first_number, p_first_number + granted - 1) AS n;
    END IF;

    -- Whoever has nobody left without a slot shares no more.
    IF p_waiting - p_ahead > granted THEN
        kept := kept || p_worker;
        kept_waiting := kept_waiting || p_waiting;
        kept_untils := kept_untils || (now_ns + p_horizon + 1000000000);
    END IF;
    UPDATE aetheris.rate_limits SET
        tat_ns = base_ns + granted * p_interval,
        interval_ns = p_interval, burst = p_burst, max_concurrent = p_max_concurrent,
        askers = kept, asker_waiting = kept_waiting, asker_untils = kept_untils
    WHERE tenant_id = p_tenant AND kind = p_kind AND name = p_name;
END $$;

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['rate_limits', 'limit_permits', 'limit_changes'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY app_reads ON %I FOR SELECT TO aetheris_app USING (tenant_id = current_setting(''aetheris.tenant'', true))', t);
        EXECUTE format('CREATE POLICY worker_all ON %I TO aetheris_worker USING (true) WITH CHECK (true)', t);
        EXECUTE format('GRANT SELECT ON %I TO aetheris_app, aetheris_worker', t);
    END LOOP;
END $$;
GRANT INSERT, UPDATE ON rate_limits TO aetheris_worker;
GRANT INSERT, UPDATE, DELETE ON limit_permits TO aetheris_worker;
GRANT INSERT ON limit_changes TO aetheris_worker;
