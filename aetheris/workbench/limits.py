"""One limit as the lake tells of it: who waited how long, what was achieved, and what another would have given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from aetheris.domain.errors import Refused
from aetheris.domain.limits import Arrival, Limit, what_if
from aetheris.forensics.session import Answer, Session
from aetheris.workbench.charts import waits as charts
from aetheris.workbench.tables import Rows


class LimitView:
    """The recorded waits of one limit."""

    def __init__(self, session: Session, kind: str, name: str) -> None:
        self._session, self.kind, self.name = session, kind, name
        self.arrivals: Answer = session.query("limits/arrivals", kind=kind, limit=name)
        self._rows = self.arrivals.rows
        if not self._rows:
            known = sorted({f"{r['name']}" for r in session.query("limits/waits").rows if r["kind"] == kind})
            raise Refused(f"no call waited for {kind} {name!r}; there are {', '.join(known) or 'none'}")
        self.waits_us = [r["waited_us"] for r in self._rows if r["outcome"] == "started"]

    def __repr__(self) -> str:
        p50, p95 = quantile(self.waits_us, 0.5), quantile(self.waits_us, 0.95)
        return (
            f"{self.kind} {self.name}: {len(self.waits_us):,} starts, {self.achieved_per_second:.2f} per s,"
            f" at most {self.most_in_1s} in any second; waits P50 {p50 / 1e6:.2f} s, P95 {p95 / 1e6:.2f} s"
        )

    @property
    def achieved_per_second(self) -> float:
        """(n - 1) / (last - first), by the record."""
        times = sorted(r["started_us"] for r in self._rows if r["outcome"] == "started")
        return (len(times) - 1) / ((times[-1] - times[0]) / 1e6) if len(times) > 1 and times[-1] > times[0] else 0.0

    @property
    def most_in_1s(self) -> int:
        """The most starts in any second, wherever it begins."""
        return max((r["most_in_1s"] for r in self.achieved.rows), default=0)

    @property
    def achieved(self) -> Answer:
        """Starts in each second."""
        return self._session.query("limits/achieved", kind=self.kind, limit=self.name)

    def waits(self) -> Rows:
        """Return how long each tenant's calls waited."""
        found = [
            r for r in self._session.query("limits/waits").rows if (r["kind"], r["name"]) == (self.kind, self.name)
        ]
        return Rows(list(found[0]), [list(r.values()) for r in found])

    def ahead(self) -> Rows:
        """Return who waited for whom, by tenant."""
        return _table(self._session.query("limits/ahead", kind=self.kind, limit=self.name))

    def jobs(self) -> Rows:
        """Return what each job lost to this limit."""
        return _table(self._session.query("limits/jobs", kind=self.kind, limit=self.name))

    def utilisation(self, qps: float) -> Rows:
        """Return how much of a budget of `qps` was used while someone waited."""
        interval = Limit(qps=qps).interval_ns // 1000
        return _table(
            self._session.query("limits/utilisation", kind=self.kind, limit=self.name, interval_us=interval)
        )  # fmt: skip

    def histogram(self, bounds: Sequence[float]) -> list[int]:
        """Return how many waits were at most each bound (seconds), as Prometheus counts its buckets."""
        return [sum(w <= bound * 1e6 for w in self.waits_us) for bound in bounds]

    def waterfall(self) -> go.Figure:
        """Return a bar for each call, from its ask to its start."""
        return charts.waterfall(self._rows, f"{self.kind} {self.name}: from ask to start")

    def what_if(self, qps: float, burst: int = 1) -> WhatIf:
        """Replay the recorded asks under another limit. Errors: Refused for one that makes no sense."""
        if not 0 < qps <= 1_000_000 or burst < 1:
            raise Refused(f"what if qps={qps:g}, burst={burst}: qps must be above 0 and burst at least 1")
        # An ask made anew because its start came too late is the limiter's own, not a caller's.
        own: dict[tuple[Any, ...], int] = {}
        for r in self._rows:
            own.setdefault((r["tenant_id"], r["job_id"], r["step"], r["attempt"]), r["asked_us"])
        arrivals = [Arrival(asked * 1000, key[0], key[1]) for key, asked in own.items()]
        served = what_if(Limit(qps=qps, burst=burst), arrivals)
        return WhatIf(
            qps, burst, [(slot - a.at_ns) // 1000 for a, slot in served], [slot // 1000 for _, slot in served]
        )


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The waits there would have been."""

    qps: float
    burst: int
    waits_us: list[int]
    slots_us: list[int]

    def __repr__(self) -> str:
        return (
            f"at qps={self.qps:g}, burst={self.burst}: {self.achieved_per_second:.2f} per s;"
            f" waits P50 {self.p50_us / 1e6:.2f} s, P95 {self.p95_us / 1e6:.2f} s"
        )

    @property
    def p50_us(self) -> float:
        """The median wait."""
        return quantile(self.waits_us, 0.5)

    @property
    def p95_us(self) -> float:
        """95 of 100 waits are at most this."""
        return quantile(self.waits_us, 0.95)

    @property
    def achieved_per_second(self) -> float:
        """(n - 1) / (last - first)."""
        times = self.slots_us
        return (len(times) - 1) / ((times[-1] - times[0]) / 1e6) if len(times) > 1 and times[-1] > times[0] else 0.0


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of them lie, between neighbours in proportion; 0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _table(answer: Answer) -> Rows:
    return Rows(answer.table.column_names, [list(r.values()) for r in answer.rows])
