-- Tokens: what a model's provider counts beside requests.
--
-- A call reserves what it is thought to use before it starts, and both rates move in one statement: a call
-- that had its request slot long ago and waited for tokens could start together with others otherwise.
-- What the answer says was really used then moves tokens_tat_ns, forward or back.

ALTER TABLE rate_limits
    ADD COLUMN tokens_tat_ns bigint NOT NULL DEFAULT 0,
    ADD COLUMN token_ns bigint NOT NULL DEFAULT 0;
ALTER TABLE limit_changes ADD COLUMN token_ns bigint NOT NULL DEFAULT 0;

CREATE FUNCTION reserve_tokens_v1(
    p_tenant text, p_kind text, p_name text, p_interval bigint, p_token_ns bigint, p_tokens bigint, p_ahead_ns bigint,
    p_max_concurrent integer, p_waiting integer, p_ahead integer, p_worker text, p_number bigint, p_permit_seconds double precision,
    OUT granted boolean, OUT slot_ns bigint, OUT next_ns bigint, OUT now_ns bigint, OUT sharing integer
) LANGUAGE plpgsql AS $$
DECLARE
    s             aetheris.rate_limits%ROWTYPE;
    kept          text[];
    kept_waiting  integer[];
    kept_untils   bigint[];
    others        bigint;
    spacing       bigint := greatest(p_interval, p_tokens * p_token_ns);
BEGIN
    SELECT * INTO s FROM aetheris.rate_limits
    WHERE tenant_id = p_tenant AND kind = p_kind AND name = p_name FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        INSERT INTO aetheris.rate_limits (tenant_id, kind, name) VALUES (p_tenant, p_kind, p_name) ON CONFLICT DO NOTHING;
        SELECT * INTO s FROM aetheris.rate_limits
        WHERE tenant_id = p_tenant AND kind = p_kind AND name = p_name FOR NO KEY UPDATE;
    END IF;
    now_ns := (extract(epoch FROM clock_timestamp()) * 1e6)::bigint * 1000;

    IF (s.interval_ns, s.token_ns, s.max_concurrent) IS DISTINCT FROM (p_interval, p_token_ns, p_max_concurrent) THEN
        INSERT INTO aetheris.limit_changes (tenant_id, kind, name, interval_ns, burst, max_concurrent, token_ns, worker_id)
        VALUES (p_tenant, p_kind, p_name, p_interval, 1, p_max_concurrent, p_token_ns, p_worker);
        -- What an earlier, slower limit had spaced far ahead doesn't bind a faster one.
        s.tat_ns := least(s.tat_ns, now_ns + p_ahead_ns);
        s.tokens_tat_ns := least(s.tokens_tat_ns, now_ns + p_ahead_ns);
    END IF;
    slot_ns := greatest(now_ns, s.tat_ns, s.tokens_tat_ns);
    granted := slot_ns <= now_ns + p_ahead_ns;

    -- Workers share what is open ahead by how many wait in each; whoever has nothing ahead gets one.
    SELECT coalesce(array_agg(a), '{}'), coalesce(array_agg(w), '{}'), coalesce(array_agg(u), '{}'), coalesce(sum(w), 0)
    INTO kept, kept_waiting, kept_untils, others
    FROM unnest(s.askers, s.asker_waiting, s.asker_untils) AS x (a, w, u) WHERE u > now_ns AND a <> p_worker;
    sharing := cardinality(kept) + 1;
    IF sharing > 1 AND p_ahead > 0 AND spacing > 0
       AND p_ahead >= ceil((1 + p_ahead_ns / spacing)::numeric * p_waiting / (p_waiting + others)) THEN
        granted := false;
    END IF;

    IF p_max_concurrent IS NOT NULL AND granted THEN
        DELETE FROM aetheris.limit_permits
        WHERE tenant_id = p_tenant AND kind = p_kind AND name = p_name AND until <= clock_timestamp();
        granted := p_max_concurrent > (SELECT count(*) FROM aetheris.limit_permits
                                       WHERE tenant_id = p_tenant AND kind = p_kind AND name = p_name);
        IF granted THEN
            INSERT INTO aetheris.limit_permits (tenant_id, kind, name, worker_id, number, until)
            VALUES (p_tenant, p_kind, p_name, p_worker, p_number, clock_timestamp() + p_permit_seconds * interval '1 second');
        END IF;
    END IF;

    IF granted THEN
        s.tat_ns := slot_ns + p_interval;
        s.tokens_tat_ns := slot_ns + p_tokens * p_token_ns;
    END IF;
    next_ns := greatest(s.tat_ns, s.tokens_tat_ns);
    -- Whoever has nobody left without a slot shares no more.
    IF p_waiting - p_ahead > granted::integer THEN
        kept := kept || p_worker;
        kept_waiting := kept_waiting || p_waiting;
        kept_untils := kept_untils || (now_ns + p_ahead_ns + 1000000000);
    END IF;
    UPDATE aetheris.rate_limits SET
        tat_ns = s.tat_ns, tokens_tat_ns = s.tokens_tat_ns,
        interval_ns = p_interval, token_ns = p_token_ns, burst = 1, max_concurrent = p_max_concurrent,
        askers = kept, asker_waiting = kept_waiting, asker_untils = kept_untils
    WHERE tenant_id = p_tenant AND kind = p_kind AND name = p_name;
END $$;
