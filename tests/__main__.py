"""`python -m tests`: the whole suite in the order of its cost; stops at the first part that fails.

Ends with how long each part took, and how much of each room the parts ran
through together (in this process's own tests: what a killed or separate
process ran is not counted).
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from coverage import Coverage

#: Three at a time on two cores where most of a test is waiting for a server or a lease.
PARTS: list[tuple[str, list[str]]] = [
    ("house", ["tests/house"]),
    ("unit and property", ["tests/unit", "tests/property", "-n", "2", "--dist", "loadfile"]),
    ("evidence", ["tests/evidence", "-n", "2", "--dist", "loadfile"]),
    ("api", ["tests/api", "-n", "2", "--dist", "loadfile"]),
    ("store and races", ["tests/store", "tests/races", "-n", "3", "--dist", "loadfile"]),
    ("crash and soak", ["tests/crash", "tests/soak", "-n", "3", "--dist", "loadfile"]),
    ("acceptance", ["tests/acceptance", "-n", "3", "--dist", "loadfile"]),
    ("notebooks", ["--nbval", "notebooks", "-p", "no:cacheprovider"]),
]


ROOMS = ("domain", "store", "runtime", "lake", "evidence", "forensics", "api")


def main() -> int:
    """Run every part; print how long each took, and the coverage of the rooms."""
    timings = []
    with tempfile.TemporaryDirectory(prefix="aetheris-coverage-") as folder:
        for number, (name, arguments) in enumerate(PARTS):
            print(f"== {name}", flush=True)
            began = time.perf_counter()
            code = _run(arguments, Path(folder) / f"part.{number}")
            timings.append(f"{name} {time.perf_counter() - began:.0f} s")
            if code not in (0, 5):
                print(f"failed in {name} ({', '.join(timings)})", flush=True)
                return code
        print(", ".join(timings), flush=True)
        print(f"coverage: {_coverage(Path(folder))}", flush=True)
    return 0


def _run(arguments: list[str], data: Path) -> int:
    if "--nbval" not in arguments:  # a kernel is another process
        arguments = [*arguments, *(f"--cov=aetheris/{room}" for room in ROOMS), "--cov-report="]
    words = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(words, env={**os.environ, "COVERAGE_FILE": str(data)}, check=False).returncode


def _coverage(folder: Path) -> str:
    """Return each room's share of lines that ran, over all parts."""
    found = Coverage(data_file=str(folder / "all"))
    found.combine([str(part) for part in sorted(folder.glob("part.*"))])
    shares = [(room, found.report(include=[f"aetheris/{room}/*"], file=io.StringIO())) for room in ROOMS]
    return ", ".join(f"{room} {share:.0f} %" for room, share in shares)


if __name__ == "__main__":
    raise SystemExit(main())
