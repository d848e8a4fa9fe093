"""What a defect is: something done to a store, and what each check must say of it.

A `bug` is done to the script, before the chain is laid: every hash is right,
and the story is wrong. A `tampering` is done to the rows afterwards, as
someone with write access to a lake would. Each function returns the
violations that must be found, all of them: a check that says more cries wolf.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from aetheris.demo.fixtures_scripts import Rows, Script, lay

Jobs = dict[str, Script]
CHAIN, GAPS, GENESIS, MOVES = "integrity/chain", "integrity/gaps", "integrity/genesis", "integrity/moves"
CALLS, LEDGER, CELLS, COLUMNS = "integrity/calls", "integrity/ledger", "integrity/cells", "integrity/columns"
KEPT = "limits/kept"
EPOCHS, OVERLAP, DOUBT = "leases/epochs", "leases/overlap", "integrity/doubt"
SNAPSHOTS, RUNS = "integrity/snapshots", "integrity/runs"
#: The jobs that a damaged store holds: a few of the clean store's, of one tenant.
GROUND = ("rebooked", "taken_over", "retried")


class Violation(NamedTuple):
    """A row that a check must return."""

    check: str
    job: str
    seq: int
    rule: str


@dataclass(frozen=True, slots=True)
class Defect:
    """A store with something wrong in it, and what must be found."""

    name: str
    done: str
    rows: Rows
    violations: tuple[Violation, ...]


DEFECTS: dict[str, Callable[[Jobs], Defect]] = {}


def bug(fn: Callable[[Jobs], list[Violation]]) -> Callable[[Jobs], list[Violation]]:
    """Register a defect of the story: the function changes the scripts it is given."""

    def make(jobs: Jobs) -> Defect:
        found = fn(jobs)
        return Defect(fn.__name__, fn.__doc__ or "", lay(jobs.values()), tuple(found))

    DEFECTS[fn.__name__] = make
    return fn


def tampering(fn: Callable[[Rows, Jobs], list[Violation]]) -> Callable[[Rows, Jobs], list[Violation]]:
    """Register a defect of the rows: the function changes the rows it is given."""

    def make(jobs: Jobs) -> Defect:
        rows = lay(jobs.values())
        found = fn(rows, jobs)
        return Defect(fn.__name__, fn.__doc__ or "", rows, tuple(found))

    DEFECTS[fn.__name__] = make
    return fn
