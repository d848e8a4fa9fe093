"""`python -m tests`: the whole suite in the order of its cost; stops at the first part that fails."""

from __future__ import annotations

import subprocess
import sys
import time

PARTS: list[tuple[str, list[str]]] = [
    ("house", ["tests/house"]),
    ("unit and property", ["tests/unit", "tests/property", "-n", "2", "--dist", "loadfile"]),
    ("evidence", ["tests/evidence", "-n", "2", "--dist", "loadfile"]),
    ("store and races", ["tests/store", "tests/races"]),
    ("crash", ["tests/crash"]),
    ("acceptance", ["tests/acceptance"]),
    ("notebooks", ["--nbval", "notebooks", "-p", "no:cacheprovider"]),
]


def main() -> int:
    """Run every part; print how long each took."""
    timings = []
    for name, arguments in PARTS:
        print(f"== {name}", flush=True)
        began = time.perf_counter()
        code = subprocess.run([sys.executable, "-m", "pytest", *arguments], check=False).returncode
        timings.append(f"{name} {time.perf_counter() - began:.0f} s")
        if code not in (0, 5):
            print(f"failed in {name} ({', '.join(timings)})", flush=True)
            return code
    print(", ".join(timings), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
