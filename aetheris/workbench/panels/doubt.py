"""The doubt panel: what waits for a person, why, under which key, and the words that end it.

It reads the record and changes nothing: an answer is given at the terminal or
over the API, by somebody whose name then stands beside it.
"""

from __future__ import annotations

import ipywidgets as widgets

from aetheris.domain.rows import Rows
from aetheris.workbench import look
from aetheris.workbench.charts.template import duration
from aetheris.workbench.desk import Desk
from aetheris.workbench.panels.base import Panel, saying, show, text
from aetheris.workbench.parked import Waiting

ROWS_SHOWN = 8
NONE = (
    "Nothing in this record waits for a person. A lake is as old as its last round; "
    "to bring it up to date, and to ask the live system:"
)
NONE_TYPE = ("aetheris mirror", "aetheris jobs --parked")


class DoubtPanel(Panel):
    """How long each has waited, and what to do about the chosen one. `selected` and `code` say what is shown."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.parked = desk.parked()
        options = [(look.option(f"{n}. {w.label}"), n - 1) for n, w in enumerate(self.parked.waiting, 1)]
        self.row_choice = widgets.Select(
            options=options, description="waits", rows=min(max(len(options), 2), ROWS_SHOWN),
            layout={"width": "52em", "max_width": "100%"},
        )  # fmt: skip
        self._figure, self._inside = widgets.Output(), text()
        super().__init__(self._figure, self.row_choice, self._inside)
        self.row_choice.observe(self._chosen, names="value")
        if not len(self.parked):
            self.row_choice.layout.display = "none"
            self._inside.value = look.missing(NONE, *NONE_TYPE)
            return
        show(self._figure, self.parked.figure())
        self._chosen()

    def _summary(self) -> str:
        waiting = self.selected
        return f"doubt panel: {waiting.label}" if waiting else "doubt panel: nothing waits for a person"

    @property
    def selected(self) -> Waiting | None:
        """What is shown."""
        return None if self.row_choice.value is None else self.parked[self.row_choice.value]

    @property
    def rows_shown(self) -> int:
        """How many things wait."""
        return len(self.parked)

    @property
    def code(self) -> str:
        """What was chosen by hand, as code."""
        return "lake.parked()" if self.row_choice.value is None else f"lake.parked()[{self.row_choice.value}]"

    def _chosen(self, _: object = None) -> None:
        waiting = self.selected
        if waiting is not None:
            with saying(self._inside):
                self._inside.value = look.page(*self._told(waiting))

    def _told(self, waiting: Waiting) -> list[str]:
        facts = [["why", waiting.reason], ["waited", f"{duration(waiting.waited_us)}, to the end of this record"]]
        if waiting.kind == "doubt":
            facts += [["tool", waiting.what], ["attempt", str(waiting.attempt)]]
        if waiting.kind == "approval":
            facts += [["who may answer", waiting.what]]
        if waiting.key:
            facts += [["key", waiting.key]]
        if waiting.expires_at is not None:
            facts += [["expires", f"{waiting.expires_at:%Y-%m-%d %H:%M:%S} UTC"]]
        parts = [look.heading(waiting.label), look.table(Rows(["", ""], facts)), look.say(waiting.advice)]
        if waiting.kind == "doubt":
            step = self._desk.jobs[waiting.job].step(waiting.step)
            parts += [look.heading("what the call was asked"), look.table(step.cells, "its arguments are not here")]
        for said, command in waiting.commands:
            parts += [look.say(f"{said}:"), look.code(command)]
        return parts
