"""The rate-limit lab: the waits there were, and sliders for the limit there might have been."""

from __future__ import annotations

import html
import json
import math
from typing import Any

import ipywidgets as widgets

from aetheris.workbench.charts import waits as charts
from aetheris.workbench.limits import LimitView, Waits

WAIT_BOUNDS = (0.001, 0.01, 0.1, 0.5, 1, 2, 5, 10)


class LimitPanel:
    """Two sliders, a figure and a line of figures. `shown` and `code` say what is shown."""

    def __init__(self, view: LimitView, *, qps: float = 10, burst: int = 1) -> None:
        self._view = view
        least, most = math.log10(qps / 10), math.log10(qps * 10)
        self.qps = widgets.FloatLogSlider(value=qps, min=least, max=most, step=0.02, description="qps")
        self.burst = widgets.IntSlider(value=burst, min=1, max=50, description="burst")
        self._said, self._figure = widgets.HTML(), widgets.Output()
        self.qps.observe(self._moved, names="value")
        self.burst.observe(self._moved, names="value")
        self._view_box = widgets.VBox([self.qps, self.burst, self._said, self._figure])
        self.shown: Waits = view.what_if(qps, burst)
        self._moved()

    def __repr__(self) -> str:
        return f"limit panel: {self.shown!r}"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return {**self._view_box._repr_mimebundle_(**kwargs), "text/plain": repr(self)}

    @property
    def rows_shown(self) -> int:
        """How many calls were replayed."""
        return len(self.shown.waits_us)

    @property
    def code(self) -> str:
        """What was chosen by hand, as code."""
        return f"lake.limits({self._view.name!r}).what_if(qps={self.qps.value:g}, burst={self.burst.value})"

    def _moved(self, _: object = None) -> None:
        self.shown = self._view.what_if(float(f"{self.qps.value:g}"), self.burst.value)
        sides = {
            "recorded": self._view.recorded().histogram(WAIT_BOUNDS),
            "what if": self.shown.histogram(WAIT_BOUNDS),
        }
        figure = charts.histograms(WAIT_BOUNDS, sides, "waits: recorded, and what they would have been")
        data = {"application/vnd.plotly.v1+json": json.loads(figure.to_json())}
        self._figure.outputs = ({"output_type": "display_data", "data": data, "metadata": {}},)
        self._said.value = f"<p>{html.escape(repr(self.shown))}</p>"
