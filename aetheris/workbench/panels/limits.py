"""The rate-limit lab: the waits there were, what was achieved, and sliders for the limit there might have been."""

from __future__ import annotations

import math

import ipywidgets as widgets
import plotly.graph_objects as go

from aetheris.domain.limits import QPS_MOST
from aetheris.domain.rows import Rows
from aetheris.workbench import look
from aetheris.workbench.charts import waits as charts
from aetheris.workbench.charts.template import duration
from aetheris.workbench.desk import Desk
from aetheris.workbench.limits import LimitView, Waits
from aetheris.workbench.panels.base import Panel, choice, show, text

WAIT_BOUNDS = (0.001, 0.01, 0.1, 0.5, 1, 2, 5, 10)
WAITS, RATE, EACH = "how long they waited", "starts per second", "each call"
BURST_MOST = 50
NONE = (
    "No call in this record waited for a limit. Only what is written is limited: "
    "name a tool in aetheris.yaml, run the jobs, and bring the record over:"
)
NONE_TYPE = (
    "rate_limits:",
    "  tools:",
    "    refund: {qps: 10, burst: 1}",
    "",
    "aetheris config check",
    "aetheris mirror",
)


class LimitPanel(Panel):
    """Sliders, a choice of figure, and a table of figures. `shown`, `rows_shown` and `code` say what is shown.

    `source` is one limit's view, or a desk, whose limits one then chooses among.
    """

    def __init__(self, source: LimitView | Desk, *, qps: float = 10, burst: int = 1) -> None:
        self._desk = source if isinstance(source, Desk) else None
        names = source.limit_names if isinstance(source, Desk) else [(source.kind, source.name)]
        self.limit_choice = choice([(f"{kind} {name}", (kind, name)) for kind, name in names], "limit")
        self._limit: LimitView | None = source if isinstance(source, LimitView) else None
        ends = (max(qps / 10, 1e-6), min(qps * 10, QPS_MOST))
        self.qps = widgets.FloatLogSlider(
            value=qps, min=math.log10(ends[0]), max=math.log10(ends[1]), step=0.02, description="qps",
            readout_format=".3g", continuous_update=False,
        )  # fmt: skip
        self.burst = widgets.IntSlider(
            value=burst, min=1, max=max(BURST_MOST, burst), description="burst", continuous_update=False
        )
        self.figure_choice = widgets.ToggleButtons(options=[WAITS, RATE, EACH], style={"button_width": "auto"})
        self._said, self._figure = text(), widgets.Output()
        self.shown = Waits("", [], [])
        whole = [self.limit_choice, widgets.HBox([self.qps, self.burst]), self.figure_choice, self._figure, self._said]
        super().__init__(*whole)
        self.limit_choice.layout.display = None if self._desk is not None and names else "none"
        for chooser, chosen in (
            (self.limit_choice, self._limit_chosen), (self.qps, self._moved), (self.burst, self._moved),
            (self.figure_choice, self._draw),
        ):  # fmt: skip
            chooser.observe(chosen, names="value")
        if not names:
            for chooser in (self.qps, self.burst, self.figure_choice):
                chooser.layout.display = "none"
            self._said.value = look.missing(NONE, *NONE_TYPE)
            return
        self._limit_chosen()

    def _summary(self) -> str:
        return f"limit panel: {self.shown!r}" if self._limit else "limit panel: no call waited for a limit"

    @property
    def rows_shown(self) -> int:
        """How many calls were replayed."""
        return len(self.shown.waits_us)

    @property
    def code(self) -> str:
        """What was chosen by hand, as code."""
        if self._limit is None:
            return "lake.limits(NAME)"
        kind = "" if self._limit.kind == "tool" else f", kind={self._limit.kind!r}"
        return f"lake.limits({self._limit.name!r}{kind}).what_if(qps={self._qps:g}, burst={self.burst.value})"

    def _limit_chosen(self, _: object = None) -> None:
        if self._desk is not None and self.limit_choice.value is not None:
            kind, name = self.limit_choice.value
            self._limit = self._desk.limits(name, kind)
        self._moved()

    def _moved(self, _: object = None) -> None:
        if self._limit is None:
            return
        self.shown = self._limit.what_if(self._qps, self.burst.value)
        recorded = self._limit.recorded()
        rows = [_figures("recorded", recorded), _figures(f"if qps={self._qps:g}, burst={self.burst.value}", self.shown)]
        headings = ["", "starts", "per second", "median wait", "95 % waited at most"]
        self._said.value = look.page(
            look.table(Rows(headings, rows)),
            look.heading("by tenant, as recorded"),
            look.table(_by_tenant(self._limit.waits())),
        )
        self._draw()

    def _draw(self, _: object = None) -> None:
        if self._limit is not None:
            show(self._figure, self._drawn(self._limit))

    def _drawn(self, limit: LimitView) -> go.Figure:
        if self.figure_choice.value == RATE:
            return limit.rate(self._qps)
        if self.figure_choice.value == EACH:
            return limit.waterfall()
        sides = {
            "recorded": limit.recorded().histogram(WAIT_BOUNDS),
            "what if": self.shown.histogram(WAIT_BOUNDS),
        }
        return charts.histograms(WAIT_BOUNDS, sides, "waits: recorded, and what they would have been")

    @property
    def _qps(self) -> float:
        return float(f"{self.qps.value:.3g}")  # what the slider shows


def _figures(name: str, waits: Waits) -> list[str]:
    return [
        name,
        f"{len(waits.waits_us):,}",
        f"{waits.achieved_per_second:.2f}",
        duration(waits.p50_us),
        duration(waits.p95_us),
    ]


def _by_tenant(rows: Rows) -> Rows:
    headings = ["tenant", "asked", "started", "refused", "median wait", "95 % waited at most", "longest"]
    return Rows(
        headings,
        [
            [
                r["tenant_id"],
                r["asked"],
                r["started"],
                r["refused"],
                *(_time(r[n]) for n in ("p50_us", "p95_us", "longest_us")),
            ]
            for r in rows
        ],
    )


def _time(us: int | None) -> str:
    return "" if us is None else duration(us)
