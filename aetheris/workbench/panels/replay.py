"""The replay bench: a job's state at any event, and what a snapshot saves, measured here.

State is a fold over events, made by DuckDB from the lake; a snapshot with the
events after it must come to the same. An agent's own code is replayed by the
runtime (`aetheris replay`), which has it.
"""

from __future__ import annotations

import ipywidgets as widgets

from aetheris.domain.fold import JobState
from aetheris.domain.rows import Rows
from aetheris.workbench import look
from aetheris.workbench.charts.replays import against_events
from aetheris.workbench.desk import Desk, Job
from aetheris.workbench.folds import Folds
from aetheris.workbench.panels.base import Panel, jobs_choice, plural, saying, show, text
from aetheris.workbench.panels.trace import NO_JOBS, NO_JOBS_TYPE

STEPS_SHOWN = 12
NONE = (
    "No snapshot is in this record: a job gets one when it has 1,000 events since the last, "
    "or when somebody asks. To take one:"
)
NONE_TYPE = ("aetheris snapshot JOB", "aetheris mirror")


class ReplayPanel(Panel):
    """A job, an event to stop at, and a button that measures. `state`, `folds` and `code` say what is shown."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._job: Job | None = None
        self.job_choice = jobs_choice(desk.jobs.rows)
        self.through = widgets.IntSlider(
            value=1, min=1, max=1, description="at event", continuous_update=False,
            layout={"width": "34em", "max_width": "100%"},
        )  # fmt: skip
        self.measure = widgets.Button(description="measure the snapshots", icon="clock-o", layout={"width": "auto"})
        self._state, self._figure, self._measured = text(), widgets.Output(), text()
        super().__init__(
            self.job_choice, self.through, self._state, widgets.HBox([self.measure]), self._figure, self._measured
        )
        #: What the last measurement found; None before the first.
        self.folds: Folds | None = None
        self.state: JobState | None = None
        self.job_choice.observe(self._job_chosen, names="value")
        self.through.observe(self._event_chosen, names="value")
        self.measure.on_click(self._measure)
        self._job_chosen()

    def _summary(self) -> str:
        if self._job is None or self.state is None:
            return "replay panel: no jobs"
        return f"replay panel: job {self._job.id[:8]} at event {self.state.head_seq}: {self.state.status.word}"

    @property
    def rows_shown(self) -> int:
        """How many steps the state has."""
        return len(self.state.steps) if self.state is not None else 0

    @property
    def code(self) -> str:
        """What was chosen by hand, as code."""
        return f"lake.jobs[{self.job_choice.value!r}].state_at({self.through.value})"

    def _job_chosen(self, _: object = None) -> None:
        self._job = self.state = None
        for widget in (self.job_choice, self.through, self.measure):
            widget.layout.display = None if self.job_choice.value else "none"
        if self.job_choice.value is None:
            self._state.value = look.missing(NO_JOBS, *NO_JOBS_TYPE)
            return
        with saying(self._state):
            self._job = self._desk.jobs[self.job_choice.value]
            self._to_its_end(self._job)

    def _to_its_end(self, job: Job) -> None:
        count = max(len(job.lines), 1)
        if self.through.value > count:
            self.through.value = count
        self.through.max = count
        if self.through.value == count:
            self._event_chosen()
        else:
            self.through.value = count

    def _event_chosen(self, _: object = None) -> None:
        if self._job is not None:
            with saying(self._state):
                self.state = self._job.state_at(self.through.value)
                self._state.value = self._told(self._job, self.state)

    def _told(self, job: Job, state: JobState) -> str:
        steps = sorted(state.steps.items())
        rows = [[step, kind, status, result[:16]] for step, (kind, status, result) in steps[-STEPS_SHOWN:]]
        before = len(steps) - len(rows)
        return look.page(
            look.say(
                f"After event {state.head_seq:,} of {len(job.lines):,} the job is {state.status.word}, "
                f"under epoch {state.epoch}, with {plural(len(steps), 'step')}"
                + (f"; the last {len(rows)} of them:" if before else ":" if rows else ".")
            ),
            look.table(Rows(["step", "what", "status", "commitment of its result"], rows)) if rows else "",
        )

    def _measure(self, _: object = None) -> None:
        with saying(self._measured):
            self.folds = self._desk.folds()
            self._show(self.folds)

    def _show(self, folds: Folds) -> None:
        if not len(folds):
            show(self._figure, None)
            self._measured.value = look.missing(NONE, *NONE_TYPE)
            return
        show(self._figure, against_events(folds.curves, "time to a job's state"))
        said = "Each snapshot, with the events after it, is the fold of all its job's events."
        broken = "A snapshot says another thing than its job's events; `aetheris check` names it."
        self._measured.value = look.page(
            look.say(f"● {said}", "good") if folds.all_same else look.say(f"✕ {broken}", "bad"), look.table(folds.table)
        )
