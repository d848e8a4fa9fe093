-- integrity/cells: what is kept beside a line is what the line committed to
--
-- violation one row per cell whose commitment is another, per cell that no line commits to, and per committed
--           cell that is neither there nor erased on record
-- reads     events(tenant_id, job_id, seq, line), cells(*), erasures(tenant_id, job_id, seq, name)
-- columns   tenant_id VARCHAR, job_id VARCHAR, seq BIGINT, rule VARCHAR, expected VARCHAR, found VARCHAR
-- blind to  whether a tool or model spoke the truth

with committed as (
    select tenant_id, job_id, seq, c.key as name, c.value ->> '$' as commitment
    from (select tenant_id, job_id, seq, line from events) e, json_each(e.line, '$.cells') c
), kept as (
    select
        tenant_id, job_id, seq, name, salt, body,
        sha256(
            encode('aetheris/cell/v1') || '\x00'::blob || salt
            || unhex(printf('%016x', octet_length(encode(name)))) || encode(name)
            || unhex(printf('%016x', seq))
            || unhex(printf('%016x', octet_length(encode(job_id)))) || encode(job_id)
            || encode(body)
        ) as own
    from cells
), paired as (
    select
        coalesce(c.tenant_id, k.tenant_id) as tenant_id, coalesce(c.job_id, k.job_id) as job_id, coalesce(c.seq, k.seq) as seq,
        coalesce(c.name, k.name) as name, c.commitment, k.name is not null and k.body is not null as there, k.own,
        exists (
            from erasures x
            where x.tenant_id = c.tenant_id and x.job_id = c.job_id and x.seq = c.seq and x.name = c.name
        ) as erased
    from committed c
    full join kept k on c.tenant_id = k.tenant_id and c.job_id = k.job_id and c.seq = k.seq and c.name = k.name
)

select
    tenant_id, job_id, seq,
    case
        when commitment is null then 'cell ' || name || ' has no line that commits to it'
        when not there then 'cell ' || name || ' is missing and was not erased on record'
        else 'cell ' || name || ' is not what the line committed to'
    end as rule,
    coalesce(commitment, '') as expected, coalesce(own, '') as found
from paired
where commitment is null or (not there and not erased) or (there and own is distinct from commitment)
order by tenant_id, job_id, seq, rule
