-- Holds: a provider's word when to come again ends when it said, whatever limits its askers have.
--
-- A hold was nothing but a rate moved ahead, and a reservation under other limits than the last one's takes back
-- what an earlier limit had spaced out. Workers whose limits differ change them with every reservation, so the
-- first of the others ended the hold. Now its end stands in a column of its own. These two move the rate to it
-- where limits change, and leave everything else to the functions of migrations 4 and 7, under the same row lock.

ALTER TABLE rate_limits ADD COLUMN held_until_ns bigint NOT NULL DEFAULT 0;

CREATE FUNCTION reserve_slots_v2(
    p_tenant text, p_kind text, p_name text, p_interval bigint, p_burst integer, p_horizon bigint,
    p_max_concurrent integer, p_wanted integer, p_waiting integer, p_ahead integer, p_worker text, p_first_number bigint, p_permit_seconds double precision,
    OUT granted integer, OUT base_ns bigint, OUT now_ns bigint, OUT sharing integer
) LANGUAGE plpgsql AS $$
DECLARE
    s          aetheris.rate_limits%ROWTYPE;
    tolerance  bigint := greatest(p_interval, 0) * (p_burst - 1);
BEGIN
    SELECT * INTO s FROM aetheris.rate_limits
    WHERE tenant_id = p_tenant AND kind = p_kind AND name = p_name FOR NO KEY UPDATE;
    now_ns := (extract(epoch FROM clock_timestamp()) * 1e6)::bigint * 1000;
    IF s.held_until_ns > now_ns
       AND (s.interval_ns, s.burst, s.max_concurrent) IS DISTINCT FROM (p_interval, p_burst, p_max_concurrent) THEN
        INSERT INTO aetheris.limit_changes (tenant_id, kind, name, interval_ns, burst, max_concurrent, worker_id)
        VALUES (p_tenant, p_kind, p_name, p_interval, p_burst, p_max_concurrent, p_worker);
        UPDATE aetheris.rate_limits SET
            tat_ns = greatest(least(s.tat_ns, now_ns + p_horizon + tolerance), s.held_until_ns + tolerance),
            interval_ns = p_interval, burst = p_burst, max_concurrent = p_max_concurrent
        WHERE tenant_id = p_tenant AND kind = p_kind AND name = p_name;
    END IF;
    SELECT r.granted, r.base_ns, r.now_ns, r.sharing INTO granted, base_ns, now_ns, sharing
    FROM aetheris.reserve_slots_v1(p_tenant, p_kind, p_name, p_interval, p_burst, p_horizon, p_max_concurrent, p_wanted,
                                   p_waiting, p_ahead, p_worker, p_first_number, p_permit_seconds) r;
END $$;

CREATE FUNCTION reserve_tokens_v2(
    p_tenant text, p_kind text, p_name text, p_interval bigint, p_token_ns bigint, p_tokens bigint, p_ahead_ns bigint,
    p_max_concurrent integer, p_waiting integer, p_ahead integer, p_worker text, p_number bigint, p_permit_seconds double precision,
    OUT granted boolean, OUT slot_ns bigint, OUT next_ns bigint, OUT now_ns bigint, OUT sharing integer
) LANGUAGE plpgsql AS $$
DECLARE
    s  aetheris.rate_limits%ROWTYPE;
BEGIN
    SELECT * INTO s FROM aetheris.rate_limits
    WHERE tenant_id = p_tenant AND kind = p_kind AND name = p_name FOR NO KEY UPDATE;
    now_ns := (extract(epoch FROM clock_timestamp()) * 1e6)::bigint * 1000;
    IF s.held_until_ns > now_ns
       AND (s.interval_ns, s.token_ns, s.max_concurrent) IS DISTINCT FROM (p_interval, p_token_ns, p_max_concurrent) THEN
        INSERT INTO aetheris.limit_changes (tenant_id, kind, name, interval_ns, burst, max_concurrent, token_ns, worker_id)
        VALUES (p_tenant, p_kind, p_name, p_interval, 1, p_max_concurrent, p_token_ns, p_worker);
        UPDATE aetheris.rate_limits SET
            tat_ns = greatest(least(s.tat_ns, now_ns + p_ahead_ns), s.held_until_ns),
            tokens_tat_ns = least(s.tokens_tat_ns, now_ns + p_ahead_ns),
            interval_ns = p_interval, token_ns = p_token_ns, burst = 1, max_concurrent = p_max_concurrent
        WHERE tenant_id = p_tenant AND kind = p_kind AND name = p_name;
    END IF;
    SELECT r.granted, r.slot_ns, r.next_ns, r.now_ns, r.sharing INTO granted, slot_ns, next_ns, now_ns, sharing
    FROM aetheris.reserve_tokens_v1(p_tenant, p_kind, p_name, p_interval, p_token_ns, p_tokens, p_ahead_ns, p_max_concurrent,
                                    p_waiting, p_ahead, p_worker, p_number, p_permit_seconds) r;
END $$;
