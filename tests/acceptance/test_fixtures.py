"""Each check finds its defect, and no other check cries wolf beyond what follows from it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from aetheris.demo import fixtures
from aetheris.domain.errors import Corrupt
from aetheris.forensics import library
from aetheris.forensics.checks import run_checks
from aetheris.forensics.source import open_source

FOLDER = Path(__file__).parents[2] / "data" / "fixtures"

#: defect -> check -> numbers of the events where it must be found: no more and no fewer.
EXPECTED: dict[str, dict[str, list[int]]] = {
    "clean": {},
    # The line has another hash now, and nothing else changed.
    "edited_line": {"integrity/chain": [3]},
    # The dropped event was a start: its end has none now.
    "dropped_event": {"integrity/gaps": [5], "integrity/calls": [5]},
    # Both stand under a wrong number; the links around them are torn; the ledger's rows meet the wrong events.
    "swapped_order": {
        "integrity/chain": [3, 4, 5],
        "integrity/gaps": [3, 4],
        "integrity/cells": [3, 4],
        "integrity/ledger": [3, 4],
        "leases/epochs": [4],
    },
    "forged_result": {"integrity/cells": [3]},
    # Two starts of one call; the ledger no longer says what the events say.
    "two_starts": {"integrity/calls": [5], "integrity/ledger": [5]},
    "missing_ledger_row": {"integrity/ledger": [3]},
    "wrong_genesis": {"integrity/genesis": [1]},
    # The epoch falls, and the call's rows disagree on it.
    "stale_epoch": {"leases/epochs": [5], "integrity/ledger": [5], "integrity/moves": [5, 6]},
    # What the overwritten event had told is told by cells and ledger alone now.
    "event_after_end": {"integrity/moves": [6], "integrity/cells": [5], "integrity/ledger": [5]},
}


def found(name: str) -> dict[str, list[int]]:
    """Return what the checks find in a fixture: check -> numbers of events."""
    with open_source(FOLDER / name) as session:
        return {r.name: sorted({row["seq"] for row in r.answer.rows}) for r in run_checks(session) if not r.passed}


@pytest.mark.parametrize("defect", EXPECTED)
def test_each_defect_is_found_where_it_is(defect: str) -> None:
    """A check that misses its defect is worse than none; one that cries wolf is soon ignored."""
    assert found(defect) == EXPECTED[defect]


def test_every_fixture_is_expected_and_every_check_can_fail() -> None:
    """A check without a fixture in which it fails may be unable to."""
    assert set(EXPECTED) == {"clean", *fixtures.DEFECTS}
    failing = {check for checks in EXPECTED.values() for check in checks}
    # The columns are made from the line when a lake is written; tests/unit hold them to it.
    assert {q.name for q in library.checks()} - failing <= {"integrity/columns"}


def test_the_generator_gives_the_same_bytes_again(tmp_path: Path) -> None:
    """Seeded: whoever doubts a fixture makes it anew."""
    fixtures.write(tmp_path / "again")
    assert (tmp_path / "again" / "SHA256SUMS").read_text() == (FOLDER / "SHA256SUMS").read_text()


def test_a_changed_byte_of_a_fixture_is_noticed_on_opening(tmp_path: Path) -> None:
    """Files are held against their SHA-256 before a row is read."""
    fixtures.write(tmp_path / "f")
    victim = next((tmp_path / "f" / "clean").rglob("*.parquet"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(bytes(data))
    with pytest.raises(Corrupt, match="its bytes are not those"):
        open_source(tmp_path / "f" / "clean")


def test_the_listed_digests_are_those_of_the_files() -> None:
    """What is in the repository is what was made."""
    for line in (FOLDER / "SHA256SUMS").read_text().splitlines():
        digest, _, name = line.partition("  ")
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest, name
