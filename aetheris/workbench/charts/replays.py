"""A figure of replays: time to the next step against events, a line for each thing a worker may go on from."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

#: Okabe and Ito's palette.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")


def against_events(sides: Mapping[str, Sequence[tuple[int, float]]], title: str) -> go.Figure:
    """Return a line of (events, seconds) for each side; both axes are logarithmic, so a straight line is linear."""
    figure = go.Figure()
    for n, (name, points) in enumerate(sides.items()):
        figure.add_scatter(
            uid=f"replay-{n}",
            name=html.escape(name),
            x=[events for events, _ in points],
            y=[seconds * 1e3 for _, seconds in points],
            mode="lines+markers",
            line_color=COLOURS[n % len(COLOURS)],
        )
    figure.update_layout(
        title={"text": html.escape(title), "x": 0.01},
        xaxis={"type": "log", "title": "events", "automargin": True},
        yaxis={"type": "log", "title": "ms", "automargin": True},
        height=360,
        margin={"l": 10, "r": 10, "t": 50, "b": 10},
        template="none",
        font={"color": "#888888"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
    )
    return figure
