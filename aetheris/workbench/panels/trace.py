"""The trace panel: choose a job, see its timeline, step into a call."""

from __future__ import annotations

import ipywidgets as widgets

from aetheris.workbench import look
from aetheris.workbench.charts.timeline import ROWS_MOST, named
from aetheris.workbench.desk import Desk, Job
from aetheris.workbench.panels.base import Panel, jobs_choice, saying, show, text

STEPS_SHOWN = 8


class TracePanel(Panel):
    """Two choosers, a figure and a table. `selected`, `step_choice` and `code` say what is shown."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._selected: Job | None = None
        self.job_choice = jobs_choice(desk.jobs.rows)
        #: Turns the pages of a long job.
        self.first_line = widgets.IntSlider(value=1, min=1, max=1, step=ROWS_MOST, description="from line")
        #: Named as the bars are: one click opens what a bar stands for.
        self.step_choice = widgets.Select(
            options=[], description="open", rows=6, layout={"width": "34em", "max_width": "100%"}
        )
        self._figure, self._inside = widgets.Output(), text()
        super().__init__(self.job_choice, self.first_line, self._figure, self.step_choice, self._inside)
        self.job_choice.observe(self._job_chosen, names="value")
        self.first_line.observe(self._page_turned, names="value")
        self.step_choice.observe(self._step_chosen, names="value")
        self._job_chosen()

    def _summary(self) -> str:
        return f"trace panel: {self.selected!r}" if self.selected else "trace panel: no jobs"

    @property
    def selected(self) -> Job | None:
        """The job that is shown."""
        return self._selected

    @property
    def rows_shown(self) -> int:
        """How many lines the timeline has, over all its pages."""
        return len(self.selected.trace) if self.selected else 0

    @property
    def code(self) -> str:
        """What was chosen by hand, as code."""
        step = f".step({self.step_choice.value})" if self.step_choice.value else ".timeline()"
        return f"lake.jobs[{self.job_choice.value!r}]{step}"

    def _job_chosen(self, _: object = None) -> None:
        self._selected = None
        for chooser in (self.job_choice, self.first_line, self.step_choice):
            chooser.layout.display = None if self.job_choice.value else "none"
        if self.job_choice.value is None:
            self._inside.value = look.missing(NO_JOBS, *NO_JOBS_TYPE)
            return
        show(self._figure, None)
        with saying(self._inside):
            self._selected = self._desk.jobs[self.job_choice.value]
            self._draw()

    def _draw(self) -> None:
        count = self.rows_shown
        self.first_line.layout.display = None if count > ROWS_MOST else "none"
        self.first_line.value = 1
        self.first_line.max = max(count, 1)
        self._page_turned()

    def _page_turned(self, _: object = None) -> None:
        job, begin = self._selected, self.first_line.value - 1
        if job is None:
            return
        with saying(self._inside):
            show(self._figure, job.timeline(begin))
            page = list(enumerate(job.trace))[begin : begin + ROWS_MOST]
            options = [(named(row, line), line.step) for row, line in page if line.step]
            self.step_choice.options = options
            self.step_choice.rows = min(max(len(options), 2), STEPS_SHOWN)
            self.step_choice.layout.display = None if options else "none"
            self._step_chosen()

    def _step_chosen(self, _: object = None) -> None:
        job, step = self._selected, self.step_choice.value
        if job is None or not step:
            self._inside.value = look.page(look.say("this job has come to no step"))
            return
        with saying(self._inside):
            found = job.step(step)
            self._inside.value = look.page(
                look.heading(f"step {step}: what was asked and answered"),
                look.table(found.cells, "nothing was said in this step"),
                look.heading("ledger"),
                look.table(found.ledger, "no tool was called in this step"),
                look.heading("events and the hashes that bind them"),
                look.table(found.events),
            )


NO_JOBS = "No job is here. A lake gets jobs from a mirror; run some, and bring them over:"
NO_JOBS_TYPE = ("aetheris demo", "aetheris mirror", "lake = wb.open('.aetheris/lake')")
