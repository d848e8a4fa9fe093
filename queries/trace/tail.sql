-- trace/tail: a job's event lines after an event, in order: what a snapshot does not yet hold
--
-- binds     $job_id VARCHAR, $after BIGINT
-- reads     events(job_id, seq, line)
-- columns   seq BIGINT, line VARCHAR
-- blind to  what the store holds and the lake does not yet

select seq, line
from events
where job_id = $job_id and seq > $after
order by seq
