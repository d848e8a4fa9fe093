-- The audit chain at work: who may append, and that nothing written is ever rewritten.
--
-- WHO WRITES
--   Whoever acts: the app for the one tenant that it is bound to, the worker's role for any (erasures, holds,
--   collections, seals), a migration as owner. Nobody may update or delete an entry; triggers refuse it to roles
--   whose rights were widened by mistake, and to the owner.
--
-- ONE WRITER A TENANT
--   An append first locks the tenant's row in audit_heads and reads it, then builds its lines on that head, moves
--   the head and inserts the lines. So the lock comes before the read, two writers never build on one head, and a
--   transaction that also locks jobs takes the head's lock last.
--
-- WHAT THE DATABASE HOLDS BY ITSELF
--   A line hashes to its leaf; a head moves up only; entries follow each other up to the head without a gap.

ALTER TABLE audit_heads ADD COLUMN head_at bigint NOT NULL DEFAULT 0;

CREATE FUNCTION refuse_rewriting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: nothing written is changed or removed', TG_TABLE_NAME USING ERRCODE = 'AE003';
END $$;
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting();
CREATE TRIGGER audit_heads_stay BEFORE DELETE OR TRUNCATE ON audit_heads
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting();
CREATE TRIGGER audit_heads_rise BEFORE UPDATE ON audit_heads FOR EACH ROW
    WHEN (NEW.tenant_id <> OLD.tenant_id OR NEW.head_seq < OLD.head_seq OR NEW.head_at < OLD.head_at
          OR (NEW.head_seq = OLD.head_seq AND NEW.head_leaf <> OLD.head_leaf))
    EXECUTE FUNCTION refuse_rewriting();

CREATE FUNCTION refuse_audit_beside_head() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE stray record;
BEGIN
    SELECT n.tenant_id, n.last INTO stray
    FROM (SELECT tenant_id, min(seq) AS first, max(seq) AS last, count(*) AS n FROM new_rows GROUP BY tenant_id) n
    LEFT JOIN aetheris.audit_heads h ON h.tenant_id = n.tenant_id
    LEFT JOIN aetheris.audit_log l ON l.tenant_id = n.tenant_id AND l.seq = n.last
    WHERE h.head_seq IS NULL OR h.head_seq <> n.last OR h.head_leaf <> l.leaf OR n.n <> n.last - n.first + 1
       OR (n.first > 1 AND NOT EXISTS (
              SELECT FROM aetheris.audit_log p WHERE p.tenant_id = n.tenant_id AND p.seq = n.first - 1))
    LIMIT 1;
    IF NOT FOUND THEN
        SELECT tenant_id, seq AS last INTO stray FROM new_rows
        WHERE leaf <> sha256('\x00'::bytea || convert_to(line, 'UTF8')) LIMIT 1;
    END IF;
    IF FOUND THEN
        RAISE EXCEPTION 'audit entry % of tenant % is not at the head of its chain, or not its leaf''s line', stray.last, stray.tenant_id
            USING ERRCODE = 'AE002';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit_log_at_head AFTER INSERT ON audit_log REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_beside_head();

CREATE POLICY app_opens ON audit_heads FOR INSERT TO aetheris_app
    WITH CHECK (tenant_id = current_setting('aetheris.tenant', true));
CREATE POLICY app_moves ON audit_heads FOR UPDATE TO aetheris_app
    USING (tenant_id = current_setting('aetheris.tenant', true))
    WITH CHECK (tenant_id = current_setting('aetheris.tenant', true));
CREATE POLICY app_appends ON audit_log FOR INSERT TO aetheris_app
    WITH CHECK (tenant_id = current_setting('aetheris.tenant', true));
CREATE POLICY owner_appends ON audit_heads TO aetheris_owner USING (true) WITH CHECK (true);
CREATE POLICY owner_appends ON audit_log TO aetheris_owner USING (true) WITH CHECK (true);
GRANT INSERT ON audit_heads, audit_log TO aetheris_app, aetheris_worker;
GRANT UPDATE (head_seq, head_leaf, head_at) ON audit_heads TO aetheris_app, aetheris_worker;

-- Support: a tenant's admin lets one person of another tenant in, in one role, for a while. Nothing else crosses.
CREATE TABLE support_grants (
    tenant_id     text COLLATE "C" NOT NULL REFERENCES tenants (tenant_id),
    grant_id      uuid NOT NULL DEFAULT gen_random_uuid(),
    guest_tenant  text COLLATE "C" NOT NULL,
    guest         text NOT NULL,
    role          text NOT NULL CHECK (role IN ('operator', 'auditor')),
    reason        text NOT NULL CHECK (reason <> ''),
    granted_by    text NOT NULL,
    granted_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at    timestamptz NOT NULL CHECK (expires_at <= granted_at + interval '8 hours'),
    revoked_at    timestamptz,
    PRIMARY KEY (tenant_id, grant_id)
);
ALTER TABLE support_grants ENABLE ROW LEVEL SECURITY;
ALTER TABLE support_grants FORCE ROW LEVEL SECURITY;
CREATE POLICY app_reads ON support_grants FOR SELECT TO aetheris_app
    USING (tenant_id = current_setting('aetheris.tenant', true));
CREATE POLICY app_grants ON support_grants FOR INSERT TO aetheris_app
    WITH CHECK (tenant_id = current_setting('aetheris.tenant', true) AND revoked_at IS NULL);
CREATE POLICY app_revokes ON support_grants FOR UPDATE TO aetheris_app
    USING (tenant_id = current_setting('aetheris.tenant', true))
    WITH CHECK (tenant_id = current_setting('aetheris.tenant', true));
GRANT SELECT, INSERT, UPDATE (revoked_at) ON support_grants TO aetheris_app;
