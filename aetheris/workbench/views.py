"""What the desk answers with: a step from the inside, what the checks found, a verdict. Each shows itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from aetheris.domain.errors import Refused
from aetheris.domain.rows import Rows
from aetheris.evidence import Verdict
from aetheris.forensics.checks import CheckResult


class Step:
    """One step from the inside: its cells (iterating gives them), its ledger rows, and its events' hashes."""

    def __init__(self, cells: Rows, ledger: Rows, events: Rows) -> None:
        self.cells, self.ledger, self.events = cells, ledger, events

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.cells)

    def __repr__(self) -> str:
        return f"{self.cells!r}\n\nledger\n{self.ledger!r}\n\nevents\n{self.events!r}"

    def _repr_html_(self) -> str:
        parts = (self.cells._repr_html_(), self.ledger._repr_html_(), self.events._repr_html_())
        return "{}<p>ledger</p>{}<p>events</p>{}".format(*parts)


class Checks(Rows):
    """What the checks found. `seconds` stands beside and not in the table: it is never the same twice."""

    def __init__(self, results: Sequence[CheckResult]) -> None:
        super().__init__(["check", "violations", "holds"], [[r.name, r.violations, r.query.title] for r in results])
        self.seconds = {r.name: r.seconds for r in results}
        self._answers = {r.name: r.answer for r in results}

    @property
    def passed(self) -> bool:
        """True when no check found anything."""
        return not any(row["violations"] for row in self)

    def violations(self, name: str) -> Rows:
        """Return what a check found, row by row: which job, which event, which rule. Errors: Refused."""
        if name not in self._answers:
            raise Refused(f"no check is named {name!r}; there are {', '.join(self._answers)}")
        shown = ["job_id", "seq", "rule", "expected", "found"]
        return Rows(["job", "event", *shown[2:]], [[r[n] for n in shown] for r in self._answers[name].rows])


class Judgement:
    """A verdict as lights with causes: the word beside each, for those who don't see the colour."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict
        self.exit_code = verdict.exit_code
        marks = {"passed": "● passed", "failed": "✕ failed", "not shown": "○ not shown"}
        self.layers = Rows(["layer", "verdict", "seen"], [[x.name, marks[x.status], x.summary] for x in verdict.layers])

    def __repr__(self) -> str:
        return f"{self.layers!r}\n{self.verdict.sentence} (exit {self.exit_code})"

    def _repr_html_(self) -> str:
        return f"{self.layers._repr_html_()}<p>{self.verdict.sentence} (exit {self.exit_code})</p>"
