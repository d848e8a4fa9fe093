-- trace/snapshots: the snapshots that were taken, oldest first, each with the fold that it holds
--
-- binds     $job_id VARCHAR (null for all)
-- reads     snapshots(*)
-- columns   tenant_id VARCHAR, job_id VARCHAR, seq BIGINT, kind VARCHAR, version INTEGER, bytes BIGINT, body VARCHAR,
--           recorded_at TIMESTAMP WITH TIME ZONE
-- blind to  the part that replays read: it holds what may be sensitive, and stays in the store

select
    tenant_id, job_id, seq, kind, version,
    octet_length(body) as bytes,
    -- Bytes that are no text are no fold; integrity/snapshots reports them.
    try(decode(body)) as body,
    recorded_at
from snapshots
where $job_id is null or job_id = $job_id
order by tenant_id, job_id, seq
