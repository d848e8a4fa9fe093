-- integrity/snapshots: a snapshot is the fold of its job's events up to its place, and names the event there
--
-- violation one row per snapshot that says something else than its events, and per one with another event's leaf
-- reads     events(tenant_id, job_id, seq, leaf, line), snapshots(tenant_id, job_id, seq, leaf, body)
-- columns   tenant_id VARCHAR, job_id VARCHAR, seq BIGINT, rule VARCHAR, expected VARCHAR, found VARCHAR
-- blind to  the HMAC, whose key never leaves the store, and the part that replays read, which never comes to the lake

with told as (
    -- Each snapshot with the events up to it: one fold a snapshot.
    select
        k.tenant_id, k.job_id, k.seq as upto, e.seq, e.line,
        e.line ->> '$.type' as type,
        (e.line ->> '$.step')::bigint as step,
        e.line -> '$.cells' as cells
    from snapshots k join events e on e.tenant_id = k.tenant_id and e.job_id = k.job_id and e.seq <= k.seq
),
-- include parts/fold
, compared as (
    select
        k.tenant_id, k.job_id, k.seq, k.leaf, e.leaf as event_leaf,
        -- Bytes that are no text can't be a fold; they are shown as they stand.
        try(decode(k.body)) as body,
        f.body as folded
    from snapshots k
    left join folded f on f.tenant_id = k.tenant_id and f.job_id = k.job_id and f.upto = k.seq
    left join events e on e.tenant_id = k.tenant_id and e.job_id = k.job_id and e.seq = k.seq
)

select
    tenant_id, job_id, seq, 'the snapshot is not of the event at its place' as rule,
    lower(hex(event_leaf)) as expected, lower(hex(leaf)) as found
from compared
where leaf is distinct from event_leaf
union all
select
    tenant_id, job_id, seq, 'the snapshot is not the fold of its events',
    sha256(coalesce(folded, '')), sha256(coalesce(body, ''))
from compared
where body is distinct from folded
order by tenant_id, job_id, seq, rule
