-- parts/fold: the runtime's own fold, in DuckDB: one row per `upto` of a job, its state as the fold of its events
--
-- reads     told(tenant_id, job_id, upto, seq, line, type, step, cells): the events to fold, once per `upto`
-- gives     folded(tenant_id, job_id, upto, seq, status, steps, body): `body` is what a snapshot stores, to the byte

moved as (
    -- What an event says of its step: kind, status, commitment of the result.
    select
        tenant_id, job_id, upto, seq, step,
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
        tenant_id, job_id, upto, step,
        json_array(step, arg_max(kind, seq), arg_max(status, seq), arg_max(result, seq))::varchar as told
    from moved
    group by tenant_id, job_id, upto, step
), steps as (
    select tenant_id, job_id, upto, count(*) as steps, string_agg(told, ',' order by step) as told
    from latest
    group by tenant_id, job_id, upto
), jobs as (
    select
        tenant_id, job_id, upto, max(seq) as seq,
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
    group by tenant_id, job_id, upto
), folded as (
    select
        j.tenant_id, j.job_id, j.upto, j.seq, j.status, coalesce(s.steps, 0) as steps,
        '{"checkpoint_seq":' || j.checkpoint_seq || ',"epoch":' || j.epoch || ',"head_seq":' || j.seq
        || ',"last_at":' || j.last_at || ',"status":"' || j.status || '","steps":[' || coalesce(s.told, '') || ']}' as body
    from jobs j left join steps s using (tenant_id, job_id, upto)
)
