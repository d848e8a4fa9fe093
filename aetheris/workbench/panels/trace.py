"""The trace panel: choose a job, see its timeline, step into a call."""

from __future__ import annotations

import html
import json
from typing import Any

import ipywidgets as widgets

from aetheris.workbench.charts.timeline import label
from aetheris.workbench.desk import Desk, Job

STEPS_SHOWN = 8


class TracePanel:
    """Two choosers, a figure and a table. `selected`, `step` and `code` say what is shown."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        options = [(f"{j['job_id'][:8]}  {j['agent']}  {j['status']}", j["job_id"]) for j in desk.jobs.rows]
        self.job_choice = widgets.Dropdown(options=options, description="job")
        #: Named as the bars are: one click opens what a bar stands for.
        self.step_choice = widgets.Select(options=[], description="open", rows=6, layout={"width": "34em"})
        self._figure, self._inside = widgets.Output(), widgets.HTML()
        self.job_choice.observe(self._job_chosen, names="value")
        self.step_choice.observe(self._step_chosen, names="value")
        self._view = widgets.VBox([self.job_choice, self._figure, self.step_choice, self._inside])
        self._job_chosen()

    def __repr__(self) -> str:
        return f"trace panel: {self.selected!r}" if self.selected else "trace panel: no jobs"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return {**self._view._repr_mimebundle_(**kwargs), "text/plain": repr(self)}

    @property
    def selected(self) -> Job | None:
        """The job that is shown."""
        return self._desk.jobs[self.job_choice.value] if self.job_choice.value else None

    @property
    def rows_shown(self) -> int:
        """How many lines the timeline has."""
        return len(self.selected.trace) if self.selected else 0

    @property
    def code(self) -> str:
        """What was chosen by hand, as code."""
        step = f".step({self.step_choice.value})" if self.step_choice.value else ".timeline()"
        return f"lake.jobs[{self.job_choice.value!r}]{step}"

    def _job_chosen(self, _: object = None) -> None:
        job = self.selected
        if job is None:
            self._inside.value = "<p>no jobs here</p>"
            return
        data = {"application/vnd.plotly.v1+json": json.loads(job.timeline().to_json())}
        self._figure.outputs = ({"output_type": "display_data", "data": data, "metadata": {}},)
        named = [(html.unescape(label(row, x)), x.step) for row, x in enumerate(job.trace) if x.step]
        self.step_choice.options = named
        self.step_choice.rows = min(max(len(named), 2), STEPS_SHOWN)
        self._step_chosen()

    def _step_chosen(self, _: object = None) -> None:
        job, step = self.selected, self.step_choice.value
        found = job.step(step)._repr_html_() if job is not None and step else html.escape("no step in this job")
        self._inside.value = found
