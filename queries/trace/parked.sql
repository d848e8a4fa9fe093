-- trace/parked: what waits for a person: calls in doubt, approvals, pauses, and jobs that can't go on by themselves
--
-- reads     events(tenant_id, job_id, seq, type, step, happened_at, line), ledger(*), cells(tenant_id, job_id, seq, name, body)
-- columns   tenant_id VARCHAR, job_id VARCHAR, agent VARCHAR, kind VARCHAR, step BIGINT, attempt INTEGER, what VARCHAR,
--           reason VARCHAR, key VARCHAR, since TIMESTAMP WITH TIME ZONE, expires_at TIMESTAMP WITH TIME ZONE,
--           through TIMESTAMP WITH TIME ZONE
-- blind to  what the store holds and the lake does not yet; `through` is the last event of this record

with jobs as (
    select
        tenant_id, job_id,
        arg_min(line ->> '$.data.agent', seq) as agent,
        arg_max(type, seq) as last_type,
        arg_max(line ->> '$.data.reason', seq) as last_reason,
        max(happened_at) as last_at,
        coalesce(max(seq) filter (type = 'pause_requested'), 0) as paused_seq,
        coalesce(max(seq) filter (type = 'job_resumed'), 0) as resumed_seq
    from events
    group by tenant_id, job_id
    having arg_max(type, seq) not in ('job_completed', 'job_failed', 'job_cancelled')
), attempts as (
    select
        tenant_id, job_id, step, attempt, max(seq) as seq,
        arg_max(tool_name, seq) as tool_name,
        arg_max(status, seq) as status,
        any_value(idempotency_key) filter (idempotency_key is not null) as idempotency_key
    from ledger
    where effect = 'once'
    group by tenant_id, job_id, step, attempt
), doubts as (
    select
        tenant_id, job_id, 'doubt' as kind, a.step, a.attempt, a.tool_name as what,
        coalesce(e.line ->> '$.data.reason', '') as reason,
        coalesce(lower(hex(a.idempotency_key)), '') as key, e.happened_at as since,
        null::timestamptz as expires_at
    from attempts a join events e using (tenant_id, job_id, seq)
    where a.status = 'unknown'
), approvals as (
    select
        asked.tenant_id, asked.job_id, 'approval' as kind, asked.step, null::integer as attempt,
        coalesce(asked.line ->> '$.data.role', 'anyone') as what,
        coalesce(try(c.body ->> '$'), '(its question is not here)') as reason,
        coalesce(asked.line ->> '$.data.correlation_key', '') as key, asked.happened_at as since,
        make_timestamptz((asked.line ->> '$.data.expires_at')::bigint) as expires_at
    from events asked
    left join cells c
        on (c.tenant_id, c.job_id, c.seq, c.name) = (asked.tenant_id, asked.job_id, asked.seq, 'title')
    where asked.type = 'approval_requested' and not exists (
        from events answered
        where (answered.tenant_id, answered.job_id, answered.step) = (asked.tenant_id, asked.job_id, asked.step)
          and answered.type = 'approval_completed'
    )
), pauses as (
    select
        j.tenant_id, j.job_id, 'paused' as kind, 0::bigint as step, null::integer as attempt,
        coalesce(e.line ->> '$.by', '') as what,
        'paused by ' || coalesce(e.line ->> '$.by', 'someone') as reason,
        '' as key, e.happened_at as since, null::timestamptz as expires_at
    from jobs j join events e on (e.tenant_id, e.job_id, e.seq) = (j.tenant_id, j.job_id, j.paused_seq)
    where j.paused_seq > j.resumed_seq
), known as (
    from doubts union all from approvals union all from pauses
), stopped as (
    select
        tenant_id, job_id, 'stopped' as kind, 0::bigint as step, null::integer as attempt, '' as what,
        coalesce(last_reason, '') as reason, '' as key, last_at as since, null::timestamptz as expires_at
    from jobs anti join known using (tenant_id, job_id)
    where last_type = 'job_parked'
)

select
    tenant_id, job_id, j.agent, w.kind, w.step, w.attempt, w.what, w.reason, w.key,
    -- A damaged line has no time: what it tells of is shown all the same.
    coalesce(w.since, j.last_at, 'epoch'::timestamptz) as since, w.expires_at,
    coalesce((select max(happened_at) from events), 'epoch'::timestamptz) as through
from (from known union all from stopped) w join jobs j using (tenant_id, job_id)
order by since, tenant_id, job_id, w.step, w.kind
