"""What every panel has: one look, a short repr, and figures and texts that are replaced as somebody chooses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ipywidgets as widgets
import plotly.graph_objects as go

from aetheris.domain.errors import AetherisError
from aetheris.domain.plain import printable
from aetheris.workbench import look

#: No logo, and no button that would send the figure elsewhere.
CONFIG = {"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"]}
REPR_CHARACTERS = 300
FULL = {"width": "100%"}


class Panel:
    """Widgets in a column under the one look. A saved notebook keeps the repr alone."""

    def __init__(self, *children: widgets.Widget) -> None:
        self._view = widgets.VBox([widgets.HTML(look.STYLE, layout={"display": "none"}), *children], layout=FULL)

    def __repr__(self) -> str:
        return printable(self._summary(), REPR_CHARACTERS)

    def _summary(self) -> str:
        """What is shown, in a line."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return {**self._view._repr_mimebundle_(**kwargs), "text/plain": repr(self)}

    @property
    def texts(self) -> list[str]:
        """The markup that is shown, piece by piece."""
        return [w.value for w in _all(self._view) if isinstance(w, widgets.HTML)]

    @property
    def figures(self) -> list[dict[str, Any]]:
        """The figures that are shown, as plotly's JSON."""
        return [o["data"][PLOTLY] for w in _all(self._view) if isinstance(w, widgets.Output) for o in w.outputs]


PLOTLY = "application/vnd.plotly.v1+json"


@contextmanager
def saying(where: widgets.HTML) -> Iterator[None]:
    """Write in one line, at `where`, why a record can't be shown: a widget's callback would swallow the traceback."""
    try:
        yield
    except AetherisError as error:
        where.value = look.page(look.say(f"✕ {error}", "bad"))


def show(output: widgets.Output, figure: go.Figure | None) -> None:
    """Put a figure into an output, in place of what was there."""
    if figure is None:
        output.outputs = ()
        return
    data = {PLOTLY: {**json.loads(figure.to_json()), "config": CONFIG}}
    output.outputs = ({"output_type": "display_data", "data": data, "metadata": {}},)


def text() -> widgets.HTML:
    """Return an empty piece of markup, as wide as the panel."""
    return widgets.HTML(layout=FULL)


def choice(options: list[tuple[str, Any]], description: str) -> widgets.Dropdown:
    """Return a chooser among (name, value); names are strangers' text."""
    named = [(look.option(name), value) for name, value in options]
    return widgets.Dropdown(options=named, description=description, layout={"width": "34em", "max_width": "100%"})


def plural(count: int, word: str) -> str:
    """Return a count of things; the words here all end in s when there are more."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def jobs_choice(rows: list[dict[str, Any]]) -> widgets.Dropdown:
    """Return a chooser of jobs, named by the start of their id, agent and status."""
    return choice([(f"{r['job_id'][:8]}  {r['agent']}  {r['status']}", r["job_id"]) for r in rows], "job")


def _all(widget: widgets.Widget) -> list[widgets.Widget]:
    return [widget, *(found for child in getattr(widget, "children", ()) for found in _all(child))]
