-- One change at a time in a world; in a statement of its own, so that the next one sees what the last holder wrote.
SELECT pg_advisory_xact_lock(hashtextextended(%(dataset)s || '/' || %(world)s, 0))
