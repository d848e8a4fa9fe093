-- trace/decisions: how well the record bears out each answer of a model, 0 to 100, and by what
--
-- binds     $job_id VARCHAR = NULL
-- reads     events(tenant_id, job_id, seq, step, type, line)
-- columns   tenant_id VARCHAR, job_id VARCHAR, seq BIGINT, step BIGINT, model VARCHAR, grounds BIGINT, acts BIGINT,
--           completeness DOUBLE, quality DOUBLE, confidence DOUBLE, oversight DOUBLE, score DOUBLE
-- blind to  whether a decision was right; the last answer of a job that has not ended

-- The same reckoning as aetheris/domain/decisions.py, where its words are: a property holds them to each other.
with read as (
    select
        tenant_id, job_id, seq, step, type,
        coalesce(line ->> '$.data.tool_name', '') as tool_name,
        try_cast(line ->> '$.data.attempt' as integer) as attempt,
        line ->> '$.data.effect' as effect,
        line ->> '$.data.outcome' as outcome,
        line ->> '$.data.decision' as decision,
        coalesce(line ->> '$.data.llm_model', '') as model,
        coalesce(line ->> '$.data.finish_reason', '') as finish_reason,
        try_cast(line ->> '$.data.confidence_ppm' as bigint) as confidence_ppm
    from events
    where $job_id is null or job_id = $job_id
), answers as (
    select *, lag(seq) over in_turn as before_seq, lead(seq) over in_turn as next_seq
    from read
    where type = 'tool_invocation_finished' and starts_with(tool_name, 'llm:') and outcome = 'success'
    window in_turn as (partition by tenant_id, job_id order by seq)
), ended as (
    select tenant_id, job_id, min(seq) as end_seq
    from read
    where type in ('job_completed', 'job_failed', 'job_cancelled')
    group by tenant_id, job_id
), decisions as (
    select a.*, coalesce(a.before_seq, -1) as from_seq, coalesce(a.next_seq, e.end_seq) as through_seq
    from answers a left join ended e using (tenant_id, job_id)
    where coalesce(a.next_seq, e.end_seq) is not null
), attempts as (
    select
        tenant_id, job_id, step, attempt,
        min(seq) filter (
            type in ('tool_invocation_started', 'tool_call_refused')
            or (type = 'tool_invocation_finished' and effect = 'none')
        ) as began_seq,
        any_value(effect) as effect,
        min(seq) filter (type <> 'tool_invocation_started') as ended_seq,
        arg_min(type, seq) filter (type <> 'tool_invocation_started') as ended_by,
        arg_min(outcome, seq) filter (type <> 'tool_invocation_started') as outcome
    from read
    where starts_with(type, 'tool_') and type <> 'tool_invocation_unknown' and not starts_with(tool_name, 'llm:')
    group by tenant_id, job_id, step, attempt
), judged as (
    select
        d.tenant_id, d.job_id, d.seq,
        a.began_seq < d.seq as is_ground,
        coalesce(a.ended_seq < d.through_seq, false) as has_ended,
        has_ended and a.ended_by <> 'tool_invocation_resolved' as known,
        has_ended and a.outcome in ('success', 'done') as succeeded,
        a.effect = 'once' as once,
        exists (
            from read p
            where (p.tenant_id, p.job_id) = (d.tenant_id, d.job_id) and p.type = 'approval_completed'
              and p.decision = 'approved' and p.seq > d.seq and p.seq < a.began_seq
        ) as approved
    from decisions d
    join attempts a using (tenant_id, job_id)
    where a.began_seq > d.from_seq and a.began_seq < d.through_seq
), counted as (
    select
        tenant_id, job_id, seq, count(*) as attempts,
        count(*) filter (is_ground) as grounds,
        count(*) filter (known) as known,
        count(*) filter (is_ground and succeeded) as succeeded,
        count(*) filter (not is_ground and once) as once,
        count(*) filter (not is_ground and once and approved) as approved
    from judged
    group by tenant_id, job_id, seq
), shares as (
    select
        tenant_id, job_id, seq, d.step, d.model,
        coalesce(c.grounds, 0) as grounds, coalesce(c.attempts - c.grounds, 0) as acts,
        if(coalesce(c.attempts, 0) = 0, 1.0::double, c.known / c.attempts) as completeness,
        if(coalesce(c.grounds, 0) = 0, 1.0::double, c.succeeded / c.grounds) as quality,
        case
            when d.confidence_ppm is not null then least(greatest(d.confidence_ppm, 0), 1000000) / 1e6
            else if(d.finish_reason in ('stop', 'tool_calls', 'function_call', ''), 1.0::double, 0.0::double)
        end::double as confidence,
        if(coalesce(c.once, 0) = 0, 1.0::double, c.approved / c.once) as oversight
    from decisions d left join counted c using (tenant_id, job_id, seq)
)

select *, 30 * completeness + 25 * quality + 25 * confidence + 20 * oversight as score
from shares
order by tenant_id, job_id, seq
