"""The timeline of one job: a bar per call, wait or takeover, in order of their beginning."""

from __future__ import annotations

import html
from collections.abc import Sequence

import plotly.graph_objects as go

from aetheris.domain.trace import TraceLine

#: Okabe and Ito's palette: told apart by colour-blind people, on light and on dark.
COLOURS = {"call": "#0072B2", "waiting": "#E69F00", "took over": "#D55E00", "went on": "#CC79A7"}
OTHER = "#999999"
FAINT = "rgba(128,128,128,0.3)"
LEAST_SHARE = 0.004
LONG_US = 10_000_000
#: A lease that another worker took up: its duration is the silence before it.
AFTER_A_GAP = frozenset({"took over", "went on"})
ROW_PIXELS = 26


def timeline(lines: Sequence[TraceLine], title: str) -> go.Figure:
    """Return the figure of a trace; useful when `lines` is empty too."""
    span = max([_began(x) + (x.duration_us or 0) for x in lines], default=1) or 1
    unit, scale = ("seconds", 1e6) if span >= LONG_US else ("milliseconds", 1e3)
    figure = go.Figure()
    for kind in dict.fromkeys(x.what for x in lines):
        own = [(row, x) for row, x in enumerate(lines) if x.what == kind]
        figure.add_bar(
            name=html.escape(kind),
            uid=f"timeline-{kind}",
            orientation="h",
            y=[label(row, x) for row, x in own],
            base=[_began(x) / scale for _, x in own],
            # What took no time still has to be seen.
            x=[max(x.duration_us or 0, span * LEAST_SHARE) / scale for _, x in own],
            marker_color=COLOURS.get(kind, OTHER),
            hovertext=[_hover(x) for _, x in own],
            hoverinfo="text",
        )
    figure.update_layout(
        title={"text": html.escape(title) if lines else f"{html.escape(title)}: no events", "x": 0.01},
        # Grey on any ground: the theme is the notebook's, and may be dark.
        xaxis={"title": f"{unit} since the job was created", "gridcolor": FAINT, "zerolinecolor": FAINT},
        yaxis={"autorange": "reversed", "type": "category", "automargin": True, "categoryorder": "array",
               "categoryarray": [label(row, x) for row, x in enumerate(lines)]},
        barmode="overlay",
        height=170 + ROW_PIXELS * max(len(lines), 1),
        margin={"l": 10, "r": 10, "t": 50, "b": 90},
        template="none",
        font={"color": "#888888"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": -0.45, "x": 0, "yanchor": "top"},
    )  # fmt: skip
    return figure


def _began(line: TraceLine) -> int:
    return line.since_start_us - (line.duration_us or 0 if line.what in AFTER_A_GAP else 0)


def label(row: int, line: TraceLine) -> str:
    """Return what stands beside a bar: its place from 1, what it is, and its name, safe as markup."""
    what = f"{line.what} {line.step}" if line.step else line.what
    return html.escape(f"{row + 1}. {what} {line.name}".strip())


def _hover(line: TraceLine) -> str:
    parts = [f"{line.what} {line.name}", line.effect, ", ".join(line.states), line.note]
    if line.duration_us is not None:
        parts.append(f"{line.duration_us / 1e3:.3f} ms")
    return "<br>".join(html.escape(p) for p in parts if p.strip())
