-- reserve_tokens: one slot of a budget of requests and tokens, for a waiter that the worker has in mind
SELECT granted, slot_ns, next_ns, now_ns, sharing
FROM aetheris.reserve_tokens_v2(
    %(tenant)s::text, %(kind)s::text, %(name)s::text, %(interval)s::bigint, %(token_ns)s::bigint, %(tokens)s::bigint,
    %(ahead_ns)s::bigint, %(max_concurrent)s::integer, %(waiting)s::integer, %(ahead)s::integer, %(worker)s::text,
    %(number)s::bigint, %(permit_seconds)s::double precision)
