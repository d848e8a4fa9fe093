-- tenancy/actions: what was asked of each tenant's jobs, by action, granted or refused, as the audit chain tells it
--
-- binds     $tenant_id VARCHAR; null is every tenant in reach
-- reads     audit(*)
-- columns   tenant_id VARCHAR, action VARCHAR, success BOOLEAN, entries BIGINT, actors BIGINT,
--           first_at TIMESTAMP WITH TIME ZONE, last_at TIMESTAMP WITH TIME ZONE
-- blind to  what the store holds and the lake does not yet; an entry that does not say how it ended counts as granted

select
    tenant_id, type as action,
    coalesce((line ->> '$.data.success')::boolean, true) as success,
    count(*) as entries,
    count(distinct line ->> '$.by') as actors,
    min(happened_at) as first_at,
    max(happened_at) as last_at
from audit
where ($tenant_id is null or tenant_id = $tenant_id) and type <> 'audit_opened'
group by tenant_id, action, success
order by tenant_id, entries desc, action, success
