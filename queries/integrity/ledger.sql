-- integrity/ledger: events and the tool ledger tell one story, row by row
--
-- violation one row per event without its ledger row, per row without its event, and per field that differs
-- reads     events(tenant_id, job_id, seq, line), ledger(*)
-- columns   tenant_id VARCHAR, job_id VARCHAR, seq BIGINT, rule VARCHAR, expected VARCHAR, found VARCHAR
-- blind to  what both leave out

with told as (
    select
        tenant_id, job_id, seq,
        case
            when type = 'tool_invocation_started' then 'started'
            when type = 'tool_invocation_finished' and line ->> '$.data.outcome' = 'success' then 'committed'
            when type = 'tool_invocation_finished' then 'failed'
            else replace(type, 'tool_invocation_', '')
        end as status,
        line ->> '$.step' as step,
        line ->> '$.epoch' as epoch,
        line ->> '$.data.attempt' as attempt,
        line ->> '$.data.tool_name' as tool_name,
        line ->> '$.data.effect' as effect,
        coalesce(line ->> '$.data.idempotency_key', '') as idempotency_key,
        coalesce(line ->> '$.cells.args', '') as args_hash,
        coalesce(line ->> '$.cells.result', line ->> '$.cells.error', '') as result_hash,
        if(status in ('confirmed', 'resolved'), coalesce(line ->> '$.data.outcome', ''), '') as outcome
    from (select *, line ->> '$.type' as type from (select tenant_id, job_id, seq, line from events))
    where type like 'tool_invocation_%'
), kept as (
    select
        tenant_id, job_id, seq, status, step::varchar as step, epoch::varchar as epoch, attempt::varchar as attempt,
        tool_name, effect,
        coalesce(lower(hex(idempotency_key)), '') as idempotency_key,
        coalesce(lower(hex(args_hash)), '') as args_hash,
        coalesce(lower(hex(result_hash)), '') as result_hash,
        outcome
    from ledger
), both_sides as (
    select
        coalesce(t.tenant_id, k.tenant_id) as tenant_id, coalesce(t.job_id, k.job_id) as job_id, coalesce(t.seq, k.seq) as seq,
        t.status is null as no_event, k.status is null as no_row, t.status as told_status, k.status as kept_status,
        unnest([
            {field: 'status', told: t.status, kept: k.status}, {field: 'step', told: t.step, kept: k.step},
            {field: 'attempt', told: t.attempt, kept: k.attempt}, {field: 'tool_name', told: t.tool_name, kept: k.tool_name},
            {field: 'effect', told: t.effect, kept: k.effect}, {field: 'epoch', told: t.epoch, kept: k.epoch},
            {field: 'idempotency_key', told: t.idempotency_key, kept: k.idempotency_key},
            {field: 'args_hash', told: t.args_hash, kept: k.args_hash},
            {field: 'result_hash', told: t.result_hash, kept: k.result_hash}, {field: 'outcome', told: t.outcome, kept: k.outcome}
        ], recursive := true)
    from told t
    full join kept k on t.tenant_id = k.tenant_id and t.job_id = k.job_id and t.seq = k.seq
)

select
    tenant_id, job_id, seq,
    case
        when no_row then 'the event has no ledger row'
        when no_event then 'the ledger row has no event'
        else field || ' differs between event and ledger'
    end as rule,
    coalesce(told, '') as expected, coalesce(kept, '') as found
from both_sides
where ((no_row or no_event) and field = 'status') or (not no_row and not no_event and told is distinct from kept)
order by tenant_id, job_id, seq, rule
