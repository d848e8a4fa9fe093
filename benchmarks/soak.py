"""`soak`: an installation under load and faults (tests/soak), watched from outside; three minutes by default.

    python -m benchmarks soak --minutes 60 --seed 1 --json

tests/soak/figures.py says what each figure is. One that the run was too short
for is null: memory needs about a quarter of an hour, growth twenty-five minutes.
"""

from __future__ import annotations

import sys
from typing import Any

from aetheris.domain.errors import Corrupt
from tests.soak import place, report
from tests.soak.run import soak

MINUTES = 3.0
SEED = 1


def run(minutes: float = MINUTES, seed: int = SEED) -> dict[str, object]:
    """Return the figures by name. Errors: Corrupt where an invariant broke, with the report and where it is kept."""
    place.entered()
    outcome = soak(minutes, seed, lambda words: print(words, file=sys.stderr, flush=True))
    if outcome.broken:
        raise Corrupt(f"the soak broke {len(outcome.broken)} invariants: {report.text(outcome)}")
    figures: dict[str, Any] = report.document(outcome)
    return {name: value for name, value in figures.items() if name not in ("broken", "folder")}
