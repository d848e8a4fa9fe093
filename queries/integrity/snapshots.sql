-- integrity/snapshots: a snapshot is the fold of its job's events up to its place, and names the event there
--
-- violation one row per snapshot that says something else than its events, and per one with another event's leaf
-- reads     events(tenant_id, job_id, seq, leaf, line), snapshots(tenant_id, job_id, seq, leaf, body)
-- columns   tenant_id VARCHAR, job_id VARCHAR, seq BIGINT, rule VARCHAR, expected VARCHAR, found VARCHAR
-- blind to  the HMAC, whose key never leaves the store, and the part that replays read, which never comes to the lake

with told as (
    -- Each snapshot with the events up to it: one fold a snapshot.
    select
        k.tenant_id, k.job_id, k.seq as snapshot, e.seq, e.line,
        e.line ->> '$.type' as type,
        (e.line ->> '$.step')::bigint as step,
        e.line -> '$.cells' as cells
    from snapshots k join events e on e.tenant_id = k.tenant_id and e.job_id = k.job_id and e.seq <= k.seq
), moved as (
    -- What an event says of its step: kind, status, commitment of the result.
    select
        tenant_id, job_id, snapshot, seq, step,
        case
            when type like 'tool_invocation_%' then line ->> '$.data.tool_name'
            when type = 'random_recorded' then 'random'
            when type = 'state_checkpointed' then 'checkpoint'
            when type = 'job_waiting' then line ->> '$.data.wait_type'
            else type
        end as kind,
        case type
            when 'tool_invocation_started' then 'started'
            when 'tool_invocation_finished' then if(line ->> '$.data.outcome' = 'success', 'committed', 'failed')
            when 'tool_invocation_unknown' then 'unknown'
            when 'tool_invocation_confirmed' then 'confirmed'
            when 'tool_invocation_resolved' then 'resolved'
            when 'job_waiting' then 'waiting'
            else 'committed'
        end as status,
        case
            when type like 'tool_invocation_%' then coalesce(cells ->> '$.result', cells ->> '$.error', '')
            when type = 'random_recorded' then coalesce(cells ->> '$.value', '')
            when type = 'state_checkpointed' then coalesce(cells ->> '$.state', '')
            when type = 'job_waiting' then ''
            else coalesce(cells ->> '$.payload', '')
        end as result
    from told
    where type in ('tool_invocation_started', 'tool_invocation_finished', 'tool_invocation_unknown',
                   'tool_invocation_confirmed', 'tool_invocation_resolved', 'random_recorded', 'state_checkpointed')
       or (step > 0 and type in ('job_waiting', 'timer_fired', 'wait_completed', 'approval_completed'))
), latest as (
    select
        tenant_id, job_id, snapshot, step,
        json_array(step, arg_max(kind, seq), arg_max(status, seq), arg_max(result, seq))::varchar as told
    from moved
    group by tenant_id, job_id, snapshot, step
), steps as (
    select tenant_id, job_id, snapshot, string_agg(told, ',' order by step) as told
    from latest
    group by tenant_id, job_id, snapshot
), jobs as (
    select
        tenant_id, job_id, snapshot, max(seq) as seq,
        case arg_max(type, seq)
            when 'job_created' then 'pending'
            when 'job_leased' then 'running'
            when 'job_waiting' then 'waiting'
            when 'job_parked' then 'parked'
            when 'job_retrying' then 'retrying'
            when 'job_completed' then 'completed'
            when 'job_failed' then 'failed'
            when 'job_cancelled' then 'cancelled'
            else if(arg_max((line ->> '$.epoch')::bigint, seq) > 0, 'running', 'pending')
        end as status,
        arg_max(line ->> '$.epoch', seq) as epoch,
        arg_max(line ->> '$.at', seq) as last_at,
        coalesce(max(seq) filter (type = 'state_checkpointed'), 0) as checkpoint_seq
    from told
    group by tenant_id, job_id, snapshot
), folded as (
    select
        j.tenant_id, j.job_id, j.snapshot,
        '{"checkpoint_seq":' || j.checkpoint_seq || ',"epoch":' || j.epoch || ',"head_seq":' || j.seq
        || ',"last_at":' || j.last_at || ',"status":"' || j.status || '","steps":[' || coalesce(s.told, '') || ']}' as body
    from jobs j left join steps s using (tenant_id, job_id, snapshot)
), compared as (
    select
        k.tenant_id, k.job_id, k.seq, k.leaf, e.leaf as event_leaf,
        -- Bytes that are no text can't be a fold; they are shown as they stand.
        try(decode(k.body)) as body,
        f.body as folded
    from snapshots k
    left join folded f on f.tenant_id = k.tenant_id and f.job_id = k.job_id and f.snapshot = k.seq
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
