"""The evidence panel: choose a job, leave cells out, make the package, see the verdict, take it with you."""

from __future__ import annotations

import base64
import html
import tempfile
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from aetheris.domain.errors import AetherisError
from aetheris.evidence import CellSelector, redact
from aetheris.workbench.desk import Desk, verify
from aetheris.workbench.views import Judgement

#: A larger package is written by `job.export`: as a link it would make the page slow.
LINK_BYTES_MOST = 20_000_000


class EvidencePanel:
    """A job, what is left out, and a button. `judgement`, `code` and `size` say what is shown."""

    def __init__(self, desk: Desk, *, trust: str | Path | None = None) -> None:
        self._desk, self._trust = desk, trust
        options = [(f"{j['job_id'][:8]}  {j['agent']}  {j['status']}", j["job_id"]) for j in desk.jobs.rows]
        self.job_choice = widgets.Dropdown(options=options, description="job")
        self.left_out = widgets.Text(description="leave out", placeholder="args/passenger/email, result")
        self.make = widgets.Button(description="make evidence", icon="file-archive-o")
        self._said = widgets.HTML()
        self.judgement: Judgement | None = None
        self.data = b""
        self.make.on_click(self._made)
        self._view = widgets.VBox([self.job_choice, self.left_out, self.make, self._said])
        if not options:
            self._said.value = "<p>no jobs here</p>"

    def __repr__(self) -> str:
        if self.judgement is None:
            return "evidence panel: nothing made yet"
        return f"evidence panel: {self.job_choice.value[:8]}, {self.judgement.verdict.word}"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return {**self._view._repr_mimebundle_(**kwargs), "text/plain": repr(self)}

    @property
    def size(self) -> int:
        """The package's size in bytes; 0 before one is made."""
        return len(self.data)

    @property
    def drop(self) -> list[CellSelector]:
        """What is left out."""
        return [CellSelector(name.strip()) for name in self.left_out.value.split(",") if name.strip()]

    @property
    def code(self) -> str:
        """What was chosen by hand, as code."""
        made = f"lake.jobs[{self.job_choice.value!r}].export('e.zip')"
        return made if not self.drop else f"{made}  # then redact {', '.join(d.path for d in self.drop)}"

    def _made(self, _: object = None) -> None:
        if self.job_choice.value is None:
            return
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "e.zip"
                self._desk.jobs[self.job_choice.value].export(path)
                if self.drop:
                    redact(path.read_bytes(), path, self.drop)
                self.data = path.read_bytes()
                self.judgement = verify(path, self._trust)
        except AetherisError as error:
            self.judgement, self.data = None, b""
            self._said.value = f"<p>{html.escape(str(error))}</p>"
            return
        self._said.value = self.judgement._repr_html_() + self._link()

    def _link(self) -> str:
        if self.size > LINK_BYTES_MOST:
            return f"<p>{self.size:,} bytes: write it with job.export</p>"
        name = html.escape(f"evidence-{self.job_choice.value[:8]}.zip", quote=True)
        text = base64.b64encode(self.data).decode()
        return f'<a download="{name}" href="data:application/zip;base64,{text}">save {name} ({self.size:,} bytes)</a>'
