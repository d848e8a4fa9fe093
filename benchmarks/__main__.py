"""`python -m benchmarks NAME [--json]`: run one benchmark and print its figures. `soak` takes --minutes and --seed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

from aetheris.domain.errors import AetherisError
from benchmarks import api, crash, limiter, load, main_job, replay, soak, storage, throughput, tracing

BENCHMARKS: dict[str, Callable[..., dict[str, object]]] = {
    "api": api.run,
    "crash": crash.run,
    "limiter": limiter.run,
    "load": load.run,
    "main": main_job.run,
    "replay": replay.run,
    "soak": soak.run,
    "storage": storage.run,
    "throughput": throughput.run,
    "tracing": tracing.run,
}


def main() -> int:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=sorted(BENCHMARKS))
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--minutes", type=float, help=f"of the soak ({soak.MINUTES:g})")
    parser.add_argument("--seed", type=int, help=f"of the soak ({soak.SEED})")
    arguments = parser.parse_args()
    given = {name: value for name in ("minutes", "seed") if (value := getattr(arguments, name)) is not None}
    if given and arguments.name != "soak":
        parser.error("--minutes and --seed are for soak")
    try:
        figures = BENCHMARKS[arguments.name](**given)
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
