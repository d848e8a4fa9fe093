"""What is measured, and from what; a figure that the run was too short for is None.

p95_overhead_ms
    Over `stream` jobs: from the moment before the call of submit to the time of
    the job's last event, less what its tools were told to take (each tool takes
    just that; its late wake-up counts as overhead). Of jobs that no fault touched:
    the job never had a second lease (max epoch 1: whatever was killed, stopped
    or restarted, it was not this job's worker), no outage (PostgreSQL killed, disk
    full) fell between its submit and its end or in the 5 s before, and none of
    its tools has a limit. All other load goes on meanwhile, and so do starts of
    processes.
rss_slope_mb_per_h
    The steepest line (least squares) through the resident memory of one process
    over its life: of the worker that is never killed, and of the last mirror. Its first
    five minutes are left out: until caches, threads and the allocator have what
    they keep, a mirror grows by a third, and on a busy machine that takes minutes.
    Of processes that were watched for SLOPE_SECONDS after that. rss_mb is where
    each stood then, and at the end.
connections_slope_per_h, connections_max
    Client connections at PostgreSQL, after the first minute.
gb_per_month_pg
    A month is 20 jobs a minute for 30 days (benchmarks/storage.py). In the steady state
    as many jobs leave PostgreSQL as come, so a month adds what stays for good (tombstones,
    audit chain). Here: the line through the store's size over jobs ended, from
    the time when retention has set in, times the jobs of a month; what bloat there is is in it.
gb_per_month_lake
    The same of the lake's live files. A job here is larger than an airline
    run, the mix of benchmarks/storage.py; so: bytes per event, times the events of
    a mean airline run of this soak, times the jobs of a month.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.storage import GB, JOBS_A_MONTH
from tests.soak.faults import Faults
from tests.soak.load import Submitted
from tests.soak.processes import Fleet
from tests.soak.reckon import Told
from tests.soak.watch import Sample

FIRST_SECONDS = 60.0
WARM_SECONDS = 300.0
SLOPE_SECONDS = 240.0
STEADY_SECONDS = 900.0
LEAST_JOBS = 20


def overhead_ms(submitted: Sequence[Submitted], told: dict[str, Told], faults: Faults) -> list[float]:
    """Return what untouched jobs took beyond their tools, in milliseconds."""
    found = []
    for job in submitted:
        record = told.get(job.job)
        if job.kind != "stream" or record is None or record.epochs != 1 or record.last != "job_completed":
            continue
        ended = record.last_us / 1e6
        if not faults.touched(job.at, ended):
            found.append((ended - job.at) * 1000 - job.tools_ms)
    return found


def p95(values: Sequence[float]) -> float | None:
    """Return the 95th percentile, of at least LEAST_JOBS values."""
    return round(statistics.quantiles(values, n=20)[-1], 1) if len(values) >= LEAST_JOBS else None


def slope(points: Sequence[tuple[float, float]], least: float) -> float | None:
    """Return the slope of the line through (x, y); None when x spans less than `least`."""
    if len(points) < 10 or points[-1][0] - points[0][0] < least:
        return None
    return statistics.linear_regression([x for x, _ in points], [y for _, y in points]).slope


def memory(fleet: Fleet) -> tuple[dict[str, float], dict[str, list[int]]]:
    """Return MB per hour of the anchor and of the last mirror, as far as they can be told, and MB from and to."""
    slopes, levels = {}, {}
    for name, member in (("worker", fleet.workers[0]), ("mirror", fleet.mirror)):
        points = [(age / 3600, size / 1e6) for age, size in member.resident if age > WARM_SECONDS]
        if (line := slope(points, SLOPE_SECONDS / 3600)) is not None:
            slopes[name] = round(line, 1)
            levels[name] = [round(points[0][1]), round(points[-1][1])]
    return slopes, levels


def connections(samples: Sequence[Sample], began: float) -> tuple[int, float | None]:
    """Return the most connections, and their slope per hour after the first minute."""
    points = [((s.at - began) / 3600, float(s.connections)) for s in samples if s.at - began > FIRST_SECONDS]
    line = slope(points, SLOPE_SECONDS / 3600)
    return max((s.connections for s in samples), default=0), None if line is None else round(line, 1)


def growth(
    samples: Sequence[Sample], steady_from: float, submitted: Sequence[Submitted], told: dict[str, Told]
) -> tuple[float | None, float | None]:
    """Return GB a month of PostgreSQL and of the lake, from the samples after `steady_from`."""
    steady = [s for s in samples if s.at >= steady_from and s.lake_events]
    if len(steady) < 2 or steady[-1].at - steady[0].at < STEADY_SECONDS:
        return None, None
    airline = [told[j.job].events for j in submitted if j.kind == "airline" and j.job in told]
    store = slope([(float(s.jobs_ended), float(s.store_bytes)) for s in steady], LEAST_JOBS)
    lake = slope([(float(s.lake_events), float(s.lake_bytes)) for s in steady], LEAST_JOBS)
    if store is None or lake is None or not airline:
        return None, None
    month = JOBS_A_MONTH / GB
    return round(store * month, 3), round(lake * statistics.mean(airline) * month, 3)
