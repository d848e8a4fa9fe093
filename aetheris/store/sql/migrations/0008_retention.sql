-- What happens to a job once it has ended: sealed, held, collected, erased in parts.
--
-- WHO
--   aetheris_keeper  alone may take rows away: a finished job's, once they are in the lake and sealed,
--                    and the salt and body of a cell. It runs no tool and appends to no job's chain.
--
-- SEALED
--   jobs.seal_state is 0 (not yet), 1 (sealed) or 2 (the record contradicts itself, so nothing was sealed:
--   a person looks). It moves once, after the end, so it may stand in an index.
--
-- COLLECTED
--   A tombstone keeps what later questions need: the id, the head, whose it was, when, and the idempotency
--   key, so that a key that was used once never starts a second job.
--
-- ERASED
--   lake_erased_at is null until no byte of the cell is left under the lake's folder.

ALTER TABLE jobs ADD COLUMN seal_state smallint NOT NULL DEFAULT 0 CHECK (seal_state IN (0, 1, 2));
CREATE INDEX jobs_unsealed ON jobs (tenant_id, job_id) WHERE status IN (2, 3, 4) AND seal_state = 0;

ALTER TABLE job_tombstones
    ADD COLUMN idempotency_key text,
    ADD COLUMN created_at timestamptz NOT NULL DEFAULT 'epoch',
    ADD COLUMN ended_at timestamptz NOT NULL DEFAULT 'epoch';
CREATE UNIQUE INDEX job_tombstones_key ON job_tombstones (tenant_id, idempotency_key) WHERE idempotency_key IS NOT NULL;

ALTER TABLE erasures ADD COLUMN lake_erased_at timestamptz;
CREATE INDEX erasures_in_lake ON erasures (tenant_id, job_id) WHERE lake_erased_at IS NULL;

-- A legal hold: while one is open, nothing of the job is collected or erased.
CREATE TABLE legal_holds (
    tenant_id        text COLLATE "C" NOT NULL,
    job_id           text COLLATE "C" NOT NULL,
    placed_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    placed_by        text NOT NULL,
    reason           text NOT NULL,
    released_at      timestamptz,
    released_by      text,
    release_reason   text,
    PRIMARY KEY (tenant_id, job_id, placed_at)
);
CREATE UNIQUE INDEX legal_holds_open ON legal_holds (tenant_id, job_id) WHERE released_at IS NULL;
ALTER TABLE legal_holds ENABLE ROW LEVEL SECURITY;
ALTER TABLE legal_holds FORCE ROW LEVEL SECURITY;
CREATE POLICY app_reads ON legal_holds FOR SELECT TO aetheris_app
    USING (tenant_id = current_setting('aetheris.tenant', true));
GRANT SELECT ON legal_holds TO aetheris_app;

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['tenants','jobs','job_events','cells','ledger','lease_changes','signals','job_snapshots',
                             'limit_waits','seals','job_tombstones','erasures','audit_heads','audit_log','legal_holds'] LOOP
        EXECUTE format('CREATE POLICY keeper_all ON %I TO aetheris_keeper USING (true) WITH CHECK (true)', t);
        EXECUTE format('GRANT SELECT ON %I TO aetheris_keeper', t);
    END LOOP;
    FOREACH t IN ARRAY ARRAY['jobs','job_events','cells','ledger','lease_changes','signals','job_snapshots','limit_waits','seals'] LOOP
        EXECUTE format('GRANT DELETE ON %I TO aetheris_keeper', t);
    END LOOP;
    -- VACUUM after a collection; before PostgreSQL 17 that right can't be given, and autovacuum does it.
    IF current_setting('server_version_num')::integer >= 170000 THEN
        FOREACH t IN ARRAY ARRAY['jobs','job_events','cells','ledger','lease_changes','signals','job_snapshots','limit_waits','seals'] LOOP
            EXECUTE format('GRANT MAINTAIN ON %I TO aetheris_keeper', t);
        END LOOP;
    END IF;
END $$;
GRANT SELECT ON store_identity TO aetheris_keeper;
GRANT INSERT ON seals, job_tombstones, erasures, legal_holds TO aetheris_keeper;
GRANT UPDATE (seal_state) ON jobs TO aetheris_keeper;
GRANT UPDATE (salt, body) ON cells TO aetheris_keeper;
GRANT UPDATE (payload) ON signals TO aetheris_keeper;
GRANT UPDATE (lake_erased_at) ON erasures TO aetheris_keeper;
GRANT UPDATE (released_at, released_by, release_reason) ON legal_holds TO aetheris_keeper;
GRANT INSERT ON audit_heads, audit_log TO aetheris_keeper;
GRANT UPDATE (head_seq, head_leaf, head_at) ON audit_heads TO aetheris_keeper;
GRANT USAGE ON SCHEMA aetheris TO aetheris_keeper;

-- A key that was used once never starts a second job, also after the first was collected. The first trigger
-- skips the row, as the key's own index does for a job that is there; the second catches a collection that
-- committed while that index made the insert wait, which the first could not yet see.
CREATE FUNCTION skip_collected_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM aetheris.job_tombstones t
               WHERE t.tenant_id = NEW.tenant_id AND t.idempotency_key = NEW.idempotency_key) THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END $$;
CREATE FUNCTION refuse_collected_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM aetheris.job_tombstones t
               WHERE t.tenant_id = NEW.tenant_id AND t.idempotency_key = NEW.idempotency_key) THEN
        RAISE EXCEPTION 'the job with this key is being collected: try again' USING ERRCODE = 'AE004';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER jobs_key_skip BEFORE INSERT ON jobs FOR EACH ROW
    WHEN (NEW.idempotency_key IS NOT NULL) EXECUTE FUNCTION skip_collected_key();
CREATE TRIGGER jobs_key_refuse AFTER INSERT ON jobs FOR EACH ROW
    WHEN (NEW.idempotency_key IS NOT NULL) EXECUTE FUNCTION refuse_collected_key();
