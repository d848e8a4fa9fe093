"""The timeline of one job: a bar per call, wait or takeover, in order of their beginning."""

from __future__ import annotations

import html
from collections.abc import Sequence

import plotly.graph_objects as go

from aetheris.domain.ledger import OPEN
from aetheris.domain.trace import TraceLine
from aetheris.workbench.charts import template as look

DOUBT = "call in doubt"
OTHERS = "other events"
#: In the legend's order.
COLOURS = {
    "call": look.BLUE, DOUBT: look.PINK, "waiting": look.ORANGE, "took over": look.RED, "went on": look.SKY,
    OTHERS: look.GREY,
}  # fmt: skip
#: Of the whole, so that what took no time is still seen.
LEAST_SHARE = 0.004
#: More bars than this make a page slow; a panel turns pages.
ROWS_MOST = 200
#: A lease that another worker took up: its duration is the silence before it.
AFTER_A_GAP = frozenset({"took over", "went on"})


def timeline(lines: Sequence[TraceLine], title: str, *, begin: int = 0) -> go.Figure:
    """Return the figure of a trace, useful when empty too.

    At most ROWS_MOST lines are drawn, from line `begin` (counted from 0) on.
    """
    if not lines:
        return look.figure(title, "", "", empty="no events")
    shown = list(enumerate(lines))[begin : begin + ROWS_MOST]
    first = min((_began(x) for _, x in shown), default=0) if begin else 0
    last = max((_began(x) + (x.duration_us or 0) for _, x in shown), default=0)
    span = (last - first) or 1
    unit, scale = look.unit_for(span)
    if len(shown) < len(lines):
        title = f"{title}; lines {begin + 1:,} to {begin + len(shown):,} of {len(lines):,}"
    made = look.figure(title, f"{unit} since the job was created", "", rows=len(shown))
    for kind, colour in COLOURS.items():
        own = [(row, x) for row, x in shown if _kind(x) == kind]
        if not own:
            continue
        # Nobody knows how long a call in doubt took: it is hatched to the end.
        took = [last - _began(x) if kind == DOUBT else x.duration_us or 0 for _, x in own]
        made.add_bar(
            name=kind,
            uid=f"timeline-{kind.replace(' ', '-')}",  # names the hatch in the page: a blank there makes it black
            orientation="h",
            y=[label(row, x) for row, x in own],
            base=[_began(x) / scale for _, x in own],
            x=[max(us, span * LEAST_SHARE) / scale for us in took],
            marker_color=colour,
            marker_pattern_shape="/" if kind == DOUBT else "",
            hovertext=[_hover(x) for _, x in own],
            hoverinfo="text",
        )
    order = [label(row, x) for row, x in shown]
    made.update_yaxes(autorange="reversed", type="category", categoryorder="array", categoryarray=order)
    made.update_layout(barmode="overlay")
    return made


def label(row: int, line: TraceLine) -> str:
    """Return what stands beside a bar: its place from 1, what it is, and its name, safe as markup."""
    return look.safe(_named(row, line))


def named(row: int, line: TraceLine) -> str:
    """Return the same as plain text, for a list."""
    return html.unescape(label(row, line))


def _named(row: int, line: TraceLine) -> str:
    what = f"{line.what} {line.step}" if line.step and not line.what.endswith(f" {line.step}") else line.what
    return f"{row + 1}. {what} {line.name}".strip()


def _kind(line: TraceLine) -> str:
    if line.what == "call" and line.effect == "once" and line.states and line.states[-1] in OPEN:
        return DOUBT
    if line.what in COLOURS:
        return line.what
    return "waiting" if line.what.startswith(("approval", "child")) else OTHERS


def _began(line: TraceLine) -> int:
    return line.since_start_us - (line.duration_us or 0 if line.what in AFTER_A_GAP else 0)


def _hover(line: TraceLine) -> str:
    took = "" if line.duration_us is None else f"took {look.duration(line.duration_us)}"
    waited = f"waited {look.duration(line.waited_us)} for its limit" if line.waited_us else ""
    at = f"at {look.duration(line.since_start_us)}, event {line.seq}"
    return look.lines(f"{line.what} {line.name}", line.effect, ", ".join(line.states), line.note, took, waited, at)
