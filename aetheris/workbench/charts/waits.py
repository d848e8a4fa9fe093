"""Figures of waits: from ask to start, starts per second, and two histograms side by side."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

#: Okabe and Ito's palette, one colour per tenant, then again.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
REFUSED = "#999999"
ROWS_MOST = 500


def waterfall(rows: Sequence[dict[str, Any]], title: str) -> go.Figure:
    """Return a bar for each wait, in order of asking; the first ROWS_MOST of them."""
    shown = list(rows[:ROWS_MOST])
    first = min((r["asked_us"] for r in shown), default=0)
    figure = go.Figure()
    for n, tenant in enumerate(dict.fromkeys(r["tenant_id"] for r in shown)):
        own = [(row, r) for row, r in enumerate(shown) if r["tenant_id"] == tenant]
        figure.add_bar(
            name=html.escape(tenant),
            uid=f"waits-{n}",
            orientation="h",
            y=[row for row, _ in own],
            base=[(r["asked_us"] - first) / 1e6 for _, r in own],
            x=[((r["started_us"] or r["slot_us"]) - r["asked_us"]) / 1e6 for _, r in own],
            marker_color=[COLOURS[n % len(COLOURS)] if r["outcome"] == "started" else REFUSED for _, r in own],
            hovertext=[html.escape(f"{r['job_id'][:8]} {r['outcome']}") for _, r in own],
            hoverinfo="text",
        )
    more = f" (the first {ROWS_MOST} of {len(rows):,})" if len(rows) > ROWS_MOST else ""
    return _laid_out(figure, html.escape(title) + more, "seconds since the first ask", "call, in order of asking")


def rate(rows: Sequence[dict[str, Any]], qps: float | None, title: str) -> go.Figure:
    """Return starts per second, with the limit as a line where it is given."""
    figure = go.Figure()
    figure.add_bar(
        uid="rate", x=[r["second"] for r in rows], y=[r["starts"] for r in rows], marker_color=COLOURS[0], name="starts"
    )
    if qps is not None:
        figure.add_hline(y=qps, line_dash="dot", annotation_text=f"{qps:g} per s")
    return _laid_out(figure, html.escape(title), "second", "starts")


def histograms(bounds: Sequence[float], sides: Mapping[str, Sequence[int]], title: str) -> go.Figure:
    """Return cumulative counts by upper bound, one group of bars for each side."""
    figure = go.Figure()
    for n, (name, counts) in enumerate(sides.items()):
        figure.add_bar(
            uid=f"histogram-{n}",
            name=html.escape(name),
            x=[f"≤ {b:g} s" for b in bounds],
            y=list(counts),
            marker_color=COLOURS[n % len(COLOURS)],
        )
    return _laid_out(figure, html.escape(title), "wait", "calls, cumulative")


def _laid_out(figure: go.Figure, title: str, x: str, y: str) -> go.Figure:
    figure.update_layout(
        title={"text": title, "x": 0.01},
        xaxis_title=x,
        yaxis_title=y,
        barmode="overlay" if "since" in x else "group",
        height=360,
        margin={"l": 10, "r": 10, "t": 50, "b": 10},
        template="none",
        font={"color": "#888888"},
        xaxis={"automargin": True},
        yaxis={"automargin": True},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
    )
    return figure
