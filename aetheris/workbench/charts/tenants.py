"""A figure of who asked what: requests by action, granted and refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from aetheris.workbench.charts import template as look

ROWS_MOST = 40


def requests(rows: Sequence[dict[str, Any]], title: str) -> go.Figure:
    """Return a bar for each action, its refused requests hatched beside the granted ones; the ROWS_MOST most asked."""
    actions = list(dict.fromkeys(r["action"] for r in rows))[:ROWS_MOST]
    if not actions:
        return look.figure(title, "", "", empty="nothing is on this tenant's audit chain")
    made = look.figure(title, "entries on the audit chain", "", rows=len(actions))
    for success, name, colour, hatch in ((True, "granted", look.BLUE, ""), (False, "refused", look.RED, "/")):
        own = {r["action"]: r["entries"] for r in rows if r["success"] is success}
        made.add_bar(
            uid=f"requests-{name}",
            name=name,
            orientation="h",
            y=[look.safe(a) for a in actions],
            x=[own.get(a, 0) for a in actions],
            marker_color=colour,
            marker_pattern_shape=hatch,
        )
    made.update_layout(barmode="stack", showlegend=True)
    made.update_yaxes(autorange="reversed", type="category")
    totals = Counter[str]()
    for row in rows:
        totals[row["action"]] += row["entries"]
    made.update_xaxes(**look.whole(max(totals.values())))
    return made
