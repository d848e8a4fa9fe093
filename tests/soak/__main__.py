"""Run a soak: `python -m tests.soak --minutes 60 --seed 1`. Exit 1 when an invariant broke."""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.soak import place, report, run


def main() -> int:
    """Run, say a line a minute, print the report, write it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, default=Path("soak.json"), help="where the report is written as JSON")
    options = parser.parse_args()
    if not 0.5 <= options.minutes <= 60 * 24 * 7:
        parser.error("--minutes: from half a minute to a week")
    place.entered()
    outcome = run.soak(options.minutes, options.seed, lambda words: print(words, flush=True))
    print(report.text(outcome))
    report.write(outcome, options.report)
    return 1 if outcome.broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
