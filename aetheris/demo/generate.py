"""Airline data and scripted runs of our own, in the files that recorded ones come in.

Seeded: the same seed gives the same documents, order and all. The recorded
results come from `reference`, which shares nothing with the tools.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from aetheris.demo.generate_runs import make_run
from aetheris.demo.generate_world import make_world
from aetheris.store.airline_data import DataSet

SEED = 20260310
RUNS = 100


@dataclass(frozen=True, slots=True)
class Generated:
    """A world and runs that began in it; `runs` are the lines of runs.jsonl."""

    world: DataSet
    runs: list[dict[str, Any]]

    @property
    def calls(self) -> int:
        """How many tool results are recorded."""
        return sum(message["role"] == "tool" for run in self.runs for message in run["traj"])


def generate(seed: int = SEED, runs: int = RUNS) -> Generated:
    """Return a world and `runs` scripted runs in it."""
    random = Random(seed)
    world = make_world(random)
    return Generated(world, [make_run(random, world, number) for number in range(runs)])


def write(folder: Path, seed: int = SEED, runs: int = RUNS) -> Generated:
    """Write users, flights, reservations and desk (.json.gz) and runs.jsonl.gz into `folder`, made if need be."""
    made = generate(seed, runs)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("users", "flights", "reservations", "desk"):
        _write(folder / f"{name}.json.gz", [json.dumps(getattr(made.world, name), indent=1)])
    _write(folder / "runs.jsonl.gz", (json.dumps(run, separators=(",", ":")) for run in made.runs))
    return made


def _write(path: Path, lines: Iterable[str]) -> None:
    # No name and no time in the header: the same seed gives the same file.
    with path.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as file:
        for line in lines:
            file.write(f"{line}\n".encode())
