-- audit_lock: lock a tenant's audit chain and read its head, which is made where there is none
--
-- The update changes nothing: it takes the row's lock, and what it returns was read once the lock was had.
INSERT INTO aetheris.audit_heads AS h (tenant_id, head_seq, head_leaf)
VALUES (%(tenant)s, 0, '')
ON CONFLICT (tenant_id) DO UPDATE SET head_seq = h.head_seq
RETURNING head_seq, head_leaf, head_at, (extract(epoch FROM clock_timestamp()) * 1e6)::bigint AS now_us
