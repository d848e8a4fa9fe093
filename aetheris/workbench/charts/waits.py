"""Figures of waits: from ask to start, starts per second, and how many waited at most so long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from aetheris.workbench.charts import template as look

ROWS_MOST = 500
EMPTY = "no call waited for this limit"


def waterfall(rows: Sequence[dict[str, Any]], title: str) -> go.Figure:
    """Return a bar for each wait, in order of asking; the first ROWS_MOST of them. Hatched: no start came of it."""
    if not rows:
        return look.figure(title, "", "", empty=EMPTY)
    shown = list(rows[:ROWS_MOST])
    first = min(r["asked_us"] for r in shown)
    unit, scale = look.unit_for(max(_end(r) for r in shown) - first)
    more = f" (the first {ROWS_MOST} of {len(rows):,})" if len(rows) > ROWS_MOST else ""
    made = look.figure(title + more, f"{unit} since the first ask", "call, in order of asking")
    colours = look.shades(list(dict.fromkeys(r["tenant_id"] for r in shown)))
    for n, (tenant, colour) in enumerate(colours.items()):
        own = [(row, r) for row, r in enumerate(shown, 1) if r["tenant_id"] == tenant]
        made.add_bar(
            name=look.safe(tenant),
            uid=f"waits-{n}",
            orientation="h",
            y=[row for row, _ in own],
            base=[(r["asked_us"] - first) / scale for _, r in own],
            x=[(_end(r) - r["asked_us"]) / scale for _, r in own],
            marker_color=colour,
            # A hundred bars on one another: outlines would be all that is seen.
            marker_line_width=0,
            marker_pattern_shape=["" if r["outcome"] == "started" else "/" for _, r in own],
            hovertext=[_hover(r) for _, r in own],
            hoverinfo="text",
        )
    made.update_layout(barmode="overlay", bargap=0.1, showlegend=True)
    made.update_yaxes(autorange="reversed")
    return made


def rate(rows: Sequence[dict[str, Any]], qps: float | None, title: str) -> go.Figure:
    """Return starts per second, with the limit as a line where it is given."""
    if not rows:
        return look.figure(title, "", "", empty="nothing started under this limit")
    made = look.figure(title, "second of the run, from 0", "starts in that second")
    made.add_bar(uid="rate", x=[r["second"] for r in rows], y=[r["starts"] for r in rows], name="starts")
    if qps is not None:
        made.add_hline(y=qps, line_dash="dot", line_color=look.RED, line_width=2)
        # Above the line and outside of the bars, where it can be read.
        made.add_annotation(
            text=f"limit {qps:g} per second",
            x=1,
            xref="paper",
            xanchor="right",
            y=qps,
            yanchor="bottom",
            showarrow=False,
        )
        made.update_yaxes(range=[0, 1.2 * max(qps, *(r["starts"] for r in rows))])
    made.update_yaxes(**look.whole(max(r["starts"] for r in rows)))
    made.update_xaxes(**look.whole(max(r["second"] for r in rows)))
    return made


def histograms(bounds: Sequence[float], sides: Mapping[str, Sequence[int]], title: str) -> go.Figure:
    """Return how many calls waited at most each bound (seconds), one group of bars for each side."""
    if not any(any(counts) for counts in sides.values()):
        return look.figure(title, "", "", empty=EMPTY)
    made = look.figure(title, "waited at most", "calls, cumulative")
    colours = look.shades(list(sides))
    for n, (name, counts) in enumerate(sides.items()):
        made.add_bar(
            uid=f"histogram-{n}",
            name=look.safe(name),
            x=[look.duration(b * 1e6) for b in bounds],
            y=list(counts),
            marker_color=colours[name],
        )
    made.update_layout(barmode="group", showlegend=True)
    made.update_xaxes(type="category")
    made.update_yaxes(**look.whole(max(max(counts, default=0) for counts in sides.values())))
    return made


def _end(row: dict[str, Any]) -> int:
    return int(row["started_us"] or row["slot_us"])


def _hover(row: dict[str, Any]) -> str:
    waited = look.duration(_end(row) - row["asked_us"])
    return look.lines(f"job {row['job_id'][:8]} of {row['tenant_id']}", f"{row['outcome']} after {waited}")
