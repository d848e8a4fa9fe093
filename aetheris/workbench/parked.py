"""What waits for a person, as the lake tells of it: what, why, under which key, and the words that end it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import datetime

import plotly.graph_objects as go

from aetheris.domain.plain import printable
from aetheris.domain.rows import Rows
from aetheris.forensics.session import Answer, Session
from aetheris.workbench.charts.doubts import waiting
from aetheris.workbench.charts.template import duration

WORDS_CHARACTERS = 120
WHY = "what you know, and from where"


@dataclass(frozen=True, slots=True)
class Waiting:
    """One thing that only a person ends."""

    tenant: str
    job: str
    agent: str
    #: doubt, approval, paused or stopped.
    kind: str
    #: 0 where it is the job as a whole.
    step: int
    attempt: int
    #: The tool, the role that is asked, or who paused it.
    what: str
    reason: str
    #: The idempotency key that the tool was given, or the approval's correlation key; "" where there is none.
    key: str
    since: datetime
    expires_at: datetime | None
    #: The last moment that this record tells of.
    through: datetime

    @property
    def waited_us(self) -> int:
        """How long it had waited when this record ends, in microseconds."""
        return int((self.through - self.since).total_seconds() * 1e6)

    @property
    def label(self) -> str:
        """What it is, in a few words."""
        about = {
            "doubt": f"call {self.step} {self.what} is in doubt",
            "approval": f"step {self.step} asks for the word of {self.what}",
            "paused": self.reason,
            "stopped": "can't go on by itself",
        }
        return f"{self.job[:8]} {self.agent}: {about.get(self.kind, self.kind)}"

    @property
    def commands(self) -> list[tuple[str, str]]:
        """Ways to end it: (what it says, the command that says it), safe to paste into a shell."""
        told = {
            "doubt": [
                ("it happened", f"resolve JOB {self.step} --as done --why WHY"),
                (
                    "it happened, and the tool answered",
                    f"resolve JOB {self.step} --as done --result FILE.json --why WHY",
                ),
                ("the tool refused it", f"resolve JOB {self.step} --as failed --why WHY"),
                ("it did not happen and no longer can", f"resolve JOB {self.step} --as not-done --why WHY"),
            ],
            "approval": [
                ("yes", f"approve JOB {self.step} --why WHY"),
                ("no", f"approve JOB {self.step} --reject --why WHY"),
            ],
            "paused": [("let it go on", "resume JOB --why WHY"), ("end it", "cancel JOB --why WHY")],
            "stopped": [
                ("when what it names is mended", "resume JOB --why WHY"),
                ("end it", "cancel JOB --why WHY"),
            ],
        }
        # A record is a stranger's text: quoted, a job's or tenant's name can't become a command of its own.
        tenant = "" if self.tenant == "default" else f"--tenant {_quoted(self.tenant)} "
        fill = {"JOB": _quoted(self.job), "WHY": shlex.quote(WHY)}
        return [
            (said, f"aetheris {tenant}" + " ".join(fill.get(word, word) for word in words.split()))
            for said, words in told.get(self.kind, [])
        ]

    @property
    def advice(self) -> str:
        """How to come to know what to say."""
        return {
            "doubt": "Ask whatever is behind the tool whether it has this key. Until you know, say nothing: "
            "the call is never made again by itself.",
            "approval": "The job goes on with your answer, which is on its record with your name.",
            "paused": "It begins nothing until somebody lets it.",
            "stopped": "The reason says what is in its way; it goes on where it was.",
        }.get(self.kind, "")


class Parked:
    """Everything that waits for a person, longest first."""

    def __init__(self, session: Session) -> None:
        self.answer: Answer = session.query("trace/parked")
        self.waiting = [
            Waiting(
                r["tenant_id"], r["job_id"], r["agent"] or "", r["kind"], r["step"], r["attempt"] or 1, r["what"] or "",
                r["reason"], r["key"], r["since"], r["expires_at"], r["through"],
            )
            for r in self.answer.rows
        ]  # fmt: skip

    def __len__(self) -> int:
        return len(self.waiting)

    def __getitem__(self, index: int) -> Waiting:
        return self.waiting[index]

    @property
    def table(self) -> Rows:
        """Job, what it is, for how long by the end of this record, and why."""
        rows = [
            [w.job[:8], w.agent, w.kind, w.step or "", w.what, duration(w.waited_us), w.reason] for w in self.waiting
        ]
        return Rows(["job", "agent", "kind", "step", "what", "waited", "because"], rows)

    def figure(self) -> go.Figure:
        """Return how long each has waited."""
        rows = [{"kind": w.kind, "label": w.label, "since_us": -w.waited_us} for w in self.waiting]
        return waiting(rows, 0, "what waits for a person")

    def __repr__(self) -> str:
        return repr(self.table) if self.waiting else "nothing waits for a person"

    def _repr_html_(self) -> str:
        return self.table._repr_html_() if self.waiting else "<p>nothing waits for a person</p>"


def _quoted(text: str) -> str:
    return shlex.quote(printable(text, WORDS_CHARACTERS))
