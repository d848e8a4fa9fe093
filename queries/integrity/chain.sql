-- integrity/chain: every leaf is the hash of its line, and every line names its predecessor's leaf
--
-- violation one row per event whose leaf or link is wrong
-- reads     events(tenant_id, job_id, seq, leaf, line)
-- columns   tenant_id VARCHAR, job_id VARCHAR, seq BIGINT, rule VARCHAR, expected VARCHAR, found VARCHAR
-- blind to  a gap (integrity/gaps): a link is judged only between neighbours

with hashed as (
    select
        tenant_id, job_id, seq, leaf,
        sha256('\x00'::blob || encode(line)) as own,
        line ->> '$.prev' as prev,
        lag(seq) over by_job as before_seq,
        lag(leaf) over by_job as before
    from events
    window by_job as (partition by tenant_id, job_id order by seq)
)

select tenant_id, job_id, seq, 'the leaf is not the hash of the line' as rule, own as expected, lower(hex(leaf)) as found
from hashed
where own is distinct from lower(hex(leaf))
union all
select tenant_id, job_id, seq, 'prev is not the leaf of the event before', lower(hex(before)), prev
from hashed
where before_seq = seq - 1 and prev is distinct from lower(hex(before))
order by tenant_id, job_id, seq, rule
