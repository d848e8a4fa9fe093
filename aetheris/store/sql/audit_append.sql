-- audit_append: put lines on the head that was locked by audit_lock in this transaction
WITH moved AS (
    UPDATE aetheris.audit_heads SET head_seq = %(new_seq)s, head_leaf = %(new_leaf)b, head_at = %(new_at)s
    WHERE tenant_id = %(tenant)s AND head_seq = %(old_seq)s
    RETURNING tenant_id
)
INSERT INTO aetheris.audit_log (tenant_id, seq, leaf, line)
SELECT moved.tenant_id, l.seq, l.leaf, l.line
FROM moved, unnest(%(seqs)b::bigint[], %(leaves)b::bytea[], %(lines)b::text[]) AS l (seq, leaf, line)
