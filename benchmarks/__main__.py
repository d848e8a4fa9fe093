"""`python -m benchmarks NAME [--json]`: run one benchmark and print its figures."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

from aetheris.domain.errors import AetherisError
from benchmarks import api, crash, limiter, load, main_job, replay, storage, throughput, tracing

BENCHMARKS: dict[str, Callable[[], dict[str, object]]] = {
    "api": api.run,
    "crash": crash.run,
    "limiter": limiter.run,
    "load": load.run,
    "main": main_job.run,
    "replay": replay.run,
    "storage": storage.run,
    "throughput": throughput.run,
    "tracing": tracing.run,
}


def main() -> int:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=sorted(BENCHMARKS))
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    try:
        figures = BENCHMARKS[arguments.name]()
    except AetherisError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return error.exit_code
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        for key, value in figures.items():
            print(f"{key:<32} {value:,}" if isinstance(value, int | float) else f"{key:<32} {value}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
