"""A figure of what waits for a person: a bar each, as long as it has waited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from aetheris.workbench.charts import template as look

ROWS_MOST = 60
COLOURS = {"doubt": look.PINK, "approval": look.ORANGE, "paused": look.SKY, "stopped": look.RED}


def waiting(rows: Sequence[dict[str, Any]], through_us: int, title: str) -> go.Figure:
    """Return a bar for each row (`kind`, `label`, `since_us`), to `through_us`, the record's last moment."""
    if not rows:
        return look.figure(title, "", "", empty="nothing waits for a person")
    shown = list(enumerate(rows[:ROWS_MOST], 1))
    unit, scale = look.unit_for(max(through_us - r["since_us"] for _, r in shown))
    if len(rows) > ROWS_MOST:
        title = f"{title} (the {ROWS_MOST} longest of {len(rows):,})"
    made = look.figure(title, f"{unit}, up to the last event of this record", "", rows=len(shown))
    for kind in dict.fromkeys(r["kind"] for _, r in shown):
        own = [(n, r) for n, r in shown if r["kind"] == kind]
        made.add_bar(
            uid=f"waiting-{kind}",
            name=look.safe(kind),
            orientation="h",
            y=[look.safe(f"{n}. {r['label']}") for n, r in own],
            x=[(through_us - r["since_us"]) / scale for _, r in own],
            marker_color=COLOURS.get(kind, look.GREY),
            hovertext=[look.lines(r["label"], f"for {look.duration(through_us - r['since_us'])}") for _, r in own],
            hoverinfo="text",
        )
    order = [look.safe(f"{n}. {r['label']}") for n, r in shown]
    made.update_yaxes(autorange="reversed", type="category", categoryorder="array", categoryarray=order)
    made.update_layout(barmode="overlay", showlegend=True)
    return made
