"""One limit as the lake tells of it: who waited how long, what was achieved, and what another would have given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from aetheris.domain.errors import Refused
from aetheris.domain.limits import QPS_MOST, Arrival, Limit, what_if
from aetheris.domain.plain import printable
from aetheris.domain.rows import Rows
from aetheris.forensics.session import Answer, Session
from aetheris.workbench.charts import waits as charts


@dataclass(frozen=True, slots=True)
class Waits:
    """How long calls waited, and when they started: as recorded, or as they would have."""

    name: str
    waits_us: list[int]
    starts_us: list[int]

    def __repr__(self) -> str:
        return (
            f"{printable(self.name)}: {len(self.waits_us):,} starts, {self.achieved_per_second:.2f} per s;"
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
        """(n - 1) / (last - first); 0 where that says nothing."""
        times = self.starts_us
        return (len(times) - 1) / ((times[-1] - times[0]) / 1e6) if len(times) > 1 and times[-1] > times[0] else 0.0

    def histogram(self, bounds: Sequence[float]) -> list[int]:
        """Return how many waits were at most each bound (seconds), as Prometheus counts its buckets."""
        return [sum(w <= bound * 1e6 for w in self.waits_us) for bound in bounds]


class LimitView:
    """The recorded waits of one limit."""

    def __init__(self, session: Session, kind: str, name: str) -> None:
        self._session, self.kind, self.name = session, kind, name
        self.arrivals: Answer = session.query("limits/arrivals", kind=kind, limit=name)
        self._rows = self.arrivals.rows
        if not self._rows:
            known = sorted({str(r["name"]) for r in session.query("limits/waits").rows if r["kind"] == kind})
            raise Refused(f"no call waited for {kind} {name!r}; there are {', '.join(known) or 'none'}")

    def __repr__(self) -> str:
        return f"{self.kind} {self.recorded()!r}; at most {self.most_in_1s} in any second"

    def recorded(self) -> Waits:
        """Return the waits there were, each from its call's first ask."""
        started = [(r, asked) for r, asked in self._asked() if r["outcome"] == "started"]
        return Waits(
            self.name, [r["started_us"] - asked for r, asked in started], sorted(r["started_us"] for r, _ in started)
        )

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
        answer = self._session.query("limits/waits")
        found = [r for r in answer.rows if (r["kind"], r["name"]) == (self.kind, self.name)]
        return Rows(answer.table.column_names, [list(r.values()) for r in found])

    def ahead(self) -> Rows:
        """Return who waited for whom, by tenant."""
        return _table(self._session.query("limits/ahead", kind=self.kind, limit=self.name))

    def jobs(self) -> Rows:
        """Return what each job lost to this limit."""
        return _table(self._session.query("limits/jobs", kind=self.kind, limit=self.name))

    def utilisation(self, qps: float) -> Rows:
        """Return how much of a budget of `qps` was used while someone waited."""
        interval_us = Limit(qps=qps).interval_ns // 1000
        own = {"kind": self.kind, "limit": self.name}
        return _table(self._session.query("limits/utilisation", interval_us=interval_us, **own))

    def waterfall(self) -> go.Figure:
        """Return a bar for each call, from its ask to its start."""
        return charts.waterfall(self._rows, f"{self.kind} {self.name}: from ask to start")

    def rate(self, qps: float | None = None) -> go.Figure:
        """Return starts per second, with a limit as a line where it is given."""
        return charts.rate(self.achieved.rows, qps, f"{self.kind} {self.name}: starts in each second")

    def histograms(self, others: Mapping[str, Mapping[float, int]], bounds: Sequence[float]) -> go.Figure:
        """Return the recorded waits beside other histograms (upper bound -> calls) as a figure."""
        sides = {"the lake": self.recorded().histogram(bounds)}
        sides |= {name: [counts.get(b, 0) for b in bounds] for name, counts in others.items()}
        return charts.histograms(bounds, sides, f"{self.kind} {self.name}: calls that waited at most so long")

    def what_if(self, qps: float, burst: int = 1) -> Waits:
        """Replay the recorded asks under another limit. Errors: Refused for one that makes no sense."""
        if not 0 < qps <= QPS_MOST or burst < 1:
            raise Refused(f"what if qps={qps:g}, burst={burst}: qps must be above 0 and burst at least 1")
        arrivals = {_call(r): Arrival(asked * 1000, r["tenant_id"], r["job_id"]) for r, asked in self._asked()}
        served = what_if(Limit(qps=qps, burst=burst), list(arrivals.values()))
        waits = [(slot - a.at_ns) // 1000 for a, slot in served]
        return Waits(f"{self.name} at qps={qps:g}, burst={burst}", waits, [slot // 1000 for _, slot in served])

    def _asked(self) -> list[tuple[dict[str, Any], int]]:
        """Return each row with its call's first ask: one made anew, too late for its slot, is the limiter's own."""
        first: dict[tuple[Any, ...], int] = {}
        return [(r, first.setdefault(_call(r), r["asked_us"])) for r in self._rows]


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of them lie, between neighbours in proportion; 0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _call(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["tenant_id"], row["job_id"], row["step"], row["attempt"]


def _table(answer: Answer) -> Rows:
    return Rows(answer.table.column_names, [list(r.values()) for r in answer.rows])
