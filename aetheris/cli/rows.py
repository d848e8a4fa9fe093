"""How jobs and traces stand in a table, from wherever they were read."""

from __future__ import annotations

from collections.abc import Sequence

from aetheris.cli.screen import duration
from aetheris.domain.trace import TraceLine

#: Under a list that was cut.
MORE = "--limit N shows more"


def short_ids(ids: Sequence[str], least: int = 6) -> dict[str, str]:
    """Return each id's shortest prefix (of at least `least`) that is unique among `ids`."""
    length = least
    while len({i[:length] for i in ids}) < len(set(ids)):
        length += 1
    return {i: i[:length] for i in ids}


def cells(line: TraceLine) -> list[str]:
    """Return a trace line as columns: when, what, name, effect, how long, states and notes."""
    what = f"{line.what} {line.step}" if line.what == "call" else line.what
    took = "" if line.duration_us is None else duration(line.duration_us / 1e6)
    notes = [", ".join(line.states) if line.effect != "none" or line.states != ("committed",) else ""]
    if line.attempt > 1:
        notes.append(f"attempt {line.attempt}")
    if line.waited_us:  # nothing is said of what did not wait
        notes.append(f"waited {duration(line.waited_us / 1e6)}")
    notes.append(line.note)
    if line.what in ("took over", "went on"):
        notes.append(f"epoch {line.epoch}")
    return [f"{line.since_start_us / 1e6:.3f}", what, line.name, line.effect, took, "  ".join(n for n in notes if n)]
