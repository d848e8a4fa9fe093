-- reserve_slots: up to `wanted` slots of one budget, each for a waiter that the worker will name
SELECT granted, base_ns, now_ns, sharing
FROM aetheris.reserve_slots_v2(
    %(tenant)s::text, %(kind)s::text, %(name)s::text, %(interval)s::bigint, %(burst)s::integer, %(horizon)s::bigint,
    %(max_concurrent)s::integer, %(wanted)s::integer, %(waiting)s::integer, %(ahead)s::integer, %(worker)s::text, %(first_number)s::bigint,
    %(permit_seconds)s::double precision)
