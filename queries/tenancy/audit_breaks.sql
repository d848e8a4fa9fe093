-- tenancy/audit_breaks: where a tenant's audit chain is broken; no row is a sound chain
--
-- reads     audit(*)
-- columns   tenant_id VARCHAR, seq BIGINT, rule VARCHAR, expected VARCHAR, found VARCHAR
-- blind to  a tail cut off: only a head that was noted elsewhere knows how many entries there were

with entries as (
    select
        tenant_id, seq, line, type,
        lower(hex(leaf)) as leaf,
        sha256('\x00'::blob || encode(line)) as own,
        line ->> '$.prev' as prev,
        epoch_us(happened_at) as own_at,
        lag(lower(hex(leaf)), 1, repeat('0', 64)) over chain as before_leaf,
        lag(seq, 1, 0) over chain as before,
        lag(epoch_us(happened_at), 1, 0) over chain as before_at
    from audit
    window chain as (partition by tenant_id order by seq)
)

select tenant_id, seq, 'the leaf is not the hash of the line' as rule, own as expected, leaf as found
from entries where own is distinct from leaf
union all
select tenant_id, seq, 'does not follow the entry before', (before + 1)::varchar, seq::varchar
from entries where seq is distinct from before + 1
union all
select tenant_id, seq, 'prev is not the leaf of the entry before', before_leaf, prev
from entries where prev is distinct from before_leaf
union all
select tenant_id, seq, 'earlier than the entry before', before_at::varchar, own_at::varchar
from entries where own_at is null or own_at < before_at
union all
select tenant_id, seq, 'the chain opens with another entry, or for another tenant', tenant_id, coalesce(line ->> '$.data.tenant', type)
from entries where seq = 1 and (type is distinct from 'audit_opened' or (line ->> '$.data.tenant') is distinct from tenant_id)
order by tenant_id, seq, rule
