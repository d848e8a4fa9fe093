"""Figures of replays: time against events, a line for each thing a worker or an auditor may go on from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from aetheris.workbench.charts import template as look


def against_events(sides: Mapping[str, Sequence[tuple[int, float]]], title: str) -> go.Figure:
    """Return a line of (events, seconds) for each side; both axes are logarithmic, so a straight line is linear."""
    if not any(sides.values()):
        return look.figure(title, "", "", empty="nothing was replayed")
    made = look.figure(title, "events in the job", "milliseconds")
    colours = look.shades(list(sides))
    for n, (name, points) in enumerate(sides.items()):
        made.add_scatter(
            uid=f"replay-{n}",
            name=look.safe(name),
            x=[events for events, _ in points],
            y=[seconds * 1e3 for _, seconds in points],
            mode="lines+markers",
            line_color=colours[name],
            marker_symbol=look.MARKS[n % len(look.MARKS)],
            hovertemplate="%{x:,d} events: %{y:.3g} ms<extra></extra>",
        )
    # 1, 2, 5, 10 ...: a logarithmic axis that shows bare digits between the tens is misread.
    made.update_xaxes(type="log", dtick="D2", tickformat=",d")
    made.update_yaxes(type="log", dtick="D2", tickformat=",~g")
    made.update_layout(showlegend=True)
    return made
