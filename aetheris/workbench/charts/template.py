"""One look for every figure: ground, grey, palette, units, and how a stranger's text is written into one.

A figure is drawn once and shown on light and on dark: its ground is
transparent, and its grey stands out from white as from JupyterLab's black by
4.3 to 1. Bars have an outline of that grey, since no palette stands out from
both grounds. Nothing is loaded from elsewhere.

Source: Okabe and Ito, Color Universal Design (2008), for the palette; WCAG 2.2
(1.4.3, 1.4.11) for contrasts.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from aetheris.domain.plain import printable

GREY = "#797979"
FAINT = "rgba(128,128,128,0.28)"
CLEAR = "rgba(0,0,0,0)"
#: Told apart by colour-blind people, in this order.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
BLUE, ORANGE, GREEN, PINK, SKY, RED = PALETTE
MARKS = ("circle", "square", "diamond", "cross", "triangle-up", "x")
NAME_CHARACTERS = 48
HOVER_CHARACTERS = 160
PLAIN_HEIGHT = 340
ROW_PIXELS = 26
WHOLE_TICKS_MOST = 10

_AXIS = {
    "automargin": True,
    "color": GREY,
    "gridcolor": FAINT,
    "zerolinecolor": FAINT,
    "linecolor": FAINT,
    "ticks": "",
    "separatethousands": True,
    "exponentformat": "none",
    "title": {"standoff": 12, "font": {"size": 13}},
}
TEMPLATE = go.layout.Template(
    layout={
        "font": {
            "family": "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif",
            "size": 13,
            "color": GREY,
        },
        "title": {"x": 0, "xref": "container", "xanchor": "left", "pad": {"l": 10}, "font": {"size": 15}},
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "colorway": list(PALETTE),
        "separators": ".,",
        "xaxis": _AXIS,
        "yaxis": {**_AXIS, "ticklabelstandoff": 6},
        "margin": {"l": 10, "r": 16, "t": 76, "b": 10},
        # Above the plot: below it would cover the axis' title, and beside it halve a narrow cell.
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "bgcolor": CLEAR},
        "hoverlabel": {"bgcolor": "#222222", "bordercolor": GREY, "font": {"color": "#f2f2f2"}, "align": "left"},
        "modebar": {"bgcolor": CLEAR, "color": FAINT, "activecolor": GREY},
        "bargap": 0.25,
    },
    data={
        "bar": [go.Bar(marker={"line": {"color": GREY, "width": 1}})],
        "scatter": [go.Scatter(marker={"size": 8}, line={"width": 2})],
    },
)

#: What one is called on an axis, and its microseconds, largest first.
UNITS = (
    ("days", 86_400e6), ("hours", 3_600e6), ("minutes", 60e6), ("seconds", 1e6), ("milliseconds", 1e3),
    ("microseconds", 1.0),
)  # fmt: skip
SHORT = {"days": "d", "hours": "h", "minutes": "min", "seconds": "s", "milliseconds": "ms", "microseconds": "µs"}


def figure(title: str, x: str, y: str, *, rows: int = 0, empty: str = "") -> go.Figure:
    """Return a figure without traces in the one template, `title` and axes given as plain text.

    `rows` makes it high enough for so many bars on top of each other; `empty`,
    if given, is written where the traces would be: what is missing.
    """
    made = go.Figure()
    made.update_layout(
        template=TEMPLATE,
        title_text=safe(title, HOVER_CHARACTERS),
        xaxis_title_text=safe(x, HOVER_CHARACTERS),
        yaxis_title_text=safe(y, HOVER_CHARACTERS),
        height=PLAIN_HEIGHT if not rows else 150 + ROW_PIXELS * rows,
    )
    if empty:
        made.update_xaxes(visible=False)
        made.update_yaxes(visible=False)
        made.update_layout(height=120)
        made.add_annotation(
            text=safe(empty, HOVER_CHARACTERS), showarrow=False, x=0, y=0.5, xref="paper", yref="paper", xanchor="left"
        )
    return made


def unit_for(span_us: float) -> tuple[str, float]:
    """Return the unit in which a span of microseconds reads as a small number, and that unit's microseconds."""
    return next(((name, scale) for name, scale in UNITS if span_us >= 2 * scale), UNITS[-1])


def whole(most: float) -> dict[str, Any]:
    """Return what an axis of counts up to `most` needs so that each tick is a whole number, and none stands twice."""
    return {"tickformat": ",d", "rangemode": "tozero", **({"dtick": 1} if most <= WHOLE_TICKS_MOST else {})}


def duration(us: float) -> str:
    """Return microseconds as people read them: `412 ms`, `31.4 s`, `6 h`."""
    name, scale = next(((n, s) for n, s in UNITS if us >= s), UNITS[-1])
    value = us / scale
    return f"{value:.3g} {SHORT[name]}" if value < 1000 else f"{value:,.0f} {SHORT[name]}"


def safe(text: str, limit: int = NAME_CHARACTERS) -> str:
    """Return a stranger's text as a figure may hold it: one line, cut, no markup, no formula, no bidi mark.

    plotly reads a small HTML in titles, labels and hovers, and TeX between
    dollars where a page brings MathJax.
    """
    return html.escape(printable(text, limit), quote=False).replace("$", "&#36;")


def lines(*texts: str) -> str:
    """Return a hover's lines, each safe; empty ones left out."""
    return "<br>".join(safe(t, HOVER_CHARACTERS) for t in texts if t.strip())


def shades(names: Sequence[str]) -> dict[str, str]:
    """Return a colour for each name, in order; the palette goes round."""
    return {name: PALETTE[n % len(PALETTE)] for n, name in enumerate(names)}
