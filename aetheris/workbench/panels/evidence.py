"""The evidence panel: choose a job, leave cells out, make the package, see the verdict, take it with you.

Or bring a package: whoever was sent one sees the same eight layers.
"""

from __future__ import annotations

import base64
import html
import tempfile
from pathlib import Path

import ipywidgets as widgets

from aetheris.domain.errors import AetherisError
from aetheris.evidence import CellSelector, redact
from aetheris.workbench import look
from aetheris.workbench.desk import Desk, verify
from aetheris.workbench.panels.base import Panel, jobs_choice, text
from aetheris.workbench.panels.trace import NO_JOBS, NO_JOBS_TYPE
from aetheris.workbench.views import Judgement

#: A larger package is written by `job.export`: as a link it would make the page slow.
LINK_BYTES_MOST = 4_000_000


class EvidencePanel(Panel):
    """A job, what is left out, and a button. `judgement`, `code` and `size` say what is shown."""

    def __init__(self, desk: Desk, *, trust: str | Path | None = None) -> None:
        self._desk, self._trust = desk, trust
        self.job_choice = jobs_choice(desk.jobs.rows)
        self.left_out = widgets.Text(
            description="leave out", placeholder="args/passenger/email, result", layout=self.job_choice.layout
        )
        self.make = widgets.Button(description="make evidence", icon="file-archive-o", layout={"width": "auto"})
        #: Somebody else's package, to verify.
        self.brought = widgets.FileUpload(accept=".zip", description="verify another's", layout={"width": "auto"})
        self._said = text()
        self.judgement: Judgement | None = None
        self.data = b""
        self._name = ""
        super().__init__(self.job_choice, self.left_out, widgets.HBox([self.make, self.brought]), self._said)
        self.make.on_click(self._made)
        self.brought.observe(self._was_brought, names="value")
        if not desk.jobs.rows:
            self.left_out.layout.display = self.make.layout.display = "none"
            self._said.value = look.missing(NO_JOBS, *NO_JOBS_TYPE)

    def _summary(self) -> str:
        if self.judgement is None:
            return "evidence panel: nothing made yet"
        return f"evidence panel: {self._name}, {self.judgement.verdict.word}"

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
            self._said.value = look.page(look.say(f"✕ {error}", "bad"))
            return
        self._name = self.job_choice.value[:8]
        self._said.value = look.page(self.judgement._repr_html_(), self._link())

    def _was_brought(self, _: object = None) -> None:
        for given in self.brought.value:
            self._judge(str(given["name"]), bytes(given["content"]))

    def _judge(self, name: str, data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "e.zip"
            path.write_bytes(data)
            self.judgement, self.data, self._name = verify(path, self._trust), b"", look.option(name)
        self._said.value = look.page(look.heading(name), self.judgement._repr_html_())

    def _link(self) -> str:
        if self.size > LINK_BYTES_MOST:
            return look.say(f"{self.size:,} bytes, too many for a link; write it with:") + look.code(self.code)
        name = html.escape(f"evidence-{self._name}.zip", quote=True)
        data = base64.b64encode(self.data).decode()
        link = f'<a download="{name}" href="data:application/zip;base64,{data}">save {name}</a>'
        return f"<p>{link} ({self.size:,} bytes)</p>"
