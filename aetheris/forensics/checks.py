"""Running the checks: each one's violations, its time, and what they are about."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aetheris.domain.errors import Refused
from aetheris.forensics import library
from aetheris.forensics.library import Query
from aetheris.forensics.session import Answer, Session


@dataclass(frozen=True)
class CheckResult:
    """One check's outcome: no rows is a pass."""

    query: Query
    answer: Answer
    seconds: float

    @property
    def name(self) -> str:
        """The check's name, as `family/rule`."""
        return self.query.name

    @property
    def violations(self) -> int:
        """How many rows broke the rule."""
        return int(self.answer.table.num_rows)

    @property
    def passed(self) -> bool:
        """True when nothing broke the rule."""
        return self.violations == 0


def run_checks(session: Session, names: Sequence[str] = ()) -> Iterator[CheckResult]:
    """Run the checks (all, or those named) and yield each as it is done. Errors: Refused for an unknown name."""
    for query in [_check(name) for name in names] or library.checks():
        began = time.perf_counter()
        answer = session.query(query.name)
        yield CheckResult(query, answer, time.perf_counter() - began)


def _check(name: str) -> Query:
    known = {query.name: query for query in library.checks()}
    if name not in known:
        raise Refused(f"no check is named {name!r}; there are {', '.join(known)}")
    return known[name]
