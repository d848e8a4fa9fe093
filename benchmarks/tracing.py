"""`tracing`: what spans cost a call, round about in one run: off, and made and batched but sent nowhere."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
import timeit
from collections.abc import Sequence
from pathlib import Path

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

import aetheris as ae
from aetheris.domain.jobs import JobStatus
from aetheris.runtime import logs, tracing
from benchmarks.limiter import chain, free
from benchmarks.place import measured

CHAINS = 50
STEPS = 100
ROUNDS = 7


class _Nowhere(SpanExporter):
    def __init__(self) -> None:
        self.count = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.count += len(spans)
        return SpanExportResult.SUCCESS


def run() -> dict[str, object]:
    """Return the ratio of processor time with tracing on to off; of calls that do nothing, so it is the most."""
    return measured(_ratio)


def _hooks_us() -> float:
    """What tracing and the context of logs cost a call while no SDK is set up, microseconds."""
    hold = tracing.Traced("", "bench", "job", 1, "chain", "1")

    def call() -> None:
        logs.bound(step=1, tool=free.name)
        with hold.step(1, free.name), hold.attempt(1, 1, 0, free.span_data()) as span:
            span.ended({} if span.line() else {"traceparent": span.traceparent})

    return min(timeit.repeat(call, number=20_000, repeat=5)) / 20_000 * 1e6


async def _ratio(home: Path) -> dict[str, object]:
    nowhere, provider = _Nowhere(), TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(nowhere, max_queue_size=100_000))
    times: dict[bool, list[float]] = {True: [], False: []}
    async with ae.AsyncSystem(home=home) as system:
        await system.start_worker([chain], ae.Settings(concurrency=CHAINS))
        for n in range(2 * ROUNDS + 2):
            on = n % 2 == 1
            with tracing.using(provider) if on else contextlib.nullcontext():
                began = time.process_time()
                found = await system.wait(await asyncio.gather(*(system.submit(chain, STEPS) for _ in range(CHAINS))))
                assert set(found.values()) == {JobStatus.COMPLETED}, found  # a call that fails is cheap
                provider.force_flush()
                if n > 1:
                    times[on].append(time.process_time() - began)
    hooks = _hooks_us()
    off, on_ = statistics.median(times[False]), statistics.median(times[True])
    return {
        "tracing_on_ratio": round(on_ / off, 3),
        "hooks_off_ratio": round(hooks / (off / (CHAINS * STEPS) * 1e6), 3),
        "off_us_a_call": round(off / (CHAINS * STEPS) * 1e6, 1),
        "on_us_a_call": round(on_ / (CHAINS * STEPS) * 1e6, 1),
        "spans": nowhere.count,
    }
