"""The processes that are soaked: workers and the mirror, as an operator would run them, and how each ended.

One that ends without having been told to, or prints a traceback, is a crash of
ours. The one exception: a process that is just starting while PostgreSQL is
away leaves with one line that says so; whoever keeps services starts it again,
and so do we.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.driver import Process
from tests.soak.place import Place

LEASE_SECONDS = 4.0
WORKERS = 3
SERVED = (
    *(f"tests.soak.agents:{name}" for name in ("stream", "crowd", "spread", "listener", "asker", "talker")),
    "aetheris.demo.airline:airline",
    "aetheris.demo.long_jobs:reader",
    "aetheris.demo.long_jobs:resumer",
)
CONFIG = """\
rate_limits:
  tools: {{charge: {{qps: 5, burst: 1, max_concurrent: 4}}}}
  llm: {{local: {{requests_per_minute: 600, tokens_per_minute: 90000}}}}
models:
  desk: {{provider: local, base_url: "{model}", model: m, expected_output_tokens: 5}}
runtime:
  snapshot: {{interval: 3s, event_threshold: 1000}}
  gc: {{interval: 5s, ttl_days: 1, batch_size: 200}}
"""
#: What Python says of an error that nobody caught, and of tasks that nobody waited for.
TROUBLE = ("Traceback (most recent call last)", "was never retrieved", "was destroyed but it is pending")
AWAY = ("can't reach PostgreSQL", "can't write")
STARTING_SECONDS = 20.0
#: A worker drains for half a minute at most; a mirror ends the round and the duty under way.
ENDING_SECONDS = 90.0


@dataclass(slots=True)
class Member:
    """One process and what is known of its life. `anchor` is never killed, stopped or restarted."""

    name: str
    process: Process
    anchor: bool
    began: float = field(default_factory=time.time)
    told: str = ""  # the signal that is to end it
    #: (age in seconds, bytes)
    resident: list[tuple[float, int]] = field(default_factory=list)

    @property
    def pid(self) -> int:
        """Its number."""
        return self.process.pid

    def end(self, number: signal.Signals) -> None:
        """Tell it to end."""
        self.told = self.told or number.name
        self.process.send(number)

    def sample(self) -> None:
        """Note how much memory it holds now."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return
        self.resident.append((time.time() - self.began, pages * os.sysconf("SC_PAGE_SIZE")))


class Fleet:
    """All processes of a soak, and those that have ended."""

    def __init__(self, place: Place, model_url: str, retention_seconds: float, grace_seconds: float) -> None:
        self.place = place
        config = place.folder / "aetheris.yaml"
        config.write_text(CONFIG.format(model=model_url))
        given = {k: v for k, v in os.environ.items() if not k.startswith(("AETHERIS_", "COVERAGE", "COV_"))}
        self._env = {
            **given,
            "AETHERIS_DSN": place.dsn,
            "AETHERIS_HOME": str(place.home),
            "CONFIG_PATH": str(config),
            "WORLD": str(place.world),
            "SOAK_RETENTION_SECONDS": f"{retention_seconds:g}",
            "SOAK_GRACE_SECONDS": f"{grace_seconds:g}",
            "PYTHONUNBUFFERED": "1",
        }
        self.workers: list[Member] = []
        self.everyone: list[Member] = []
        self.crashes: list[str] = []
        self.turned_away = 0
        self._heard: set[str] = set()

    def start(self) -> None:
        """Start everything; the first worker is the anchor."""
        self.workers = [self.worker(anchor=n == 0) for n in range(WORKERS)]
        self.mirror = self.start_mirror()

    def worker(self, *, anchor: bool = False) -> Member:
        """Start one worker."""
        words = ["worker", *SERVED, "--lease", f"{LEASE_SECONDS:g}", "--concurrency", "100", "--metrics-port", "0"]
        return self._start("worker", [sys.executable, "-m", "aetheris", *words], anchor)

    def start_mirror(self) -> Member:
        """Start the mirror."""
        return self._start("mirror", [sys.executable, "-m", "tests.soak.mirror", str(self.place.lake)], False)

    def victim(self, chance: random.Random) -> Member:
        """Return a worker that may be hurt."""
        return chance.choice([w for w in self.workers if not w.anchor])

    def replace(self, old: Member) -> Member:
        """Put a new process in the place of one that ended or is to end."""
        if old is self.mirror:
            self.mirror = self.start_mirror()
            return self.mirror
        new = self.worker(anchor=old.anchor)
        self.workers[self.workers.index(old)] = new
        return new

    def look(self, *, away: bool) -> None:
        """Note crashes, and put something in the place of what is gone. `away`: PostgreSQL is, or was just now."""
        for member in [*self.workers, self.mirror]:
            if member.process.alive or member.told:
                continue
            said = member.process.tail()
            if away and time.time() - member.began < STARTING_SECONDS and any(w in said for w in AWAY):
                self.turned_away += 1
            else:
                self.crashes.append(f"{member.name} ended by itself with {member.process.code}: {_last(said)}")
            member.told = "gone"
        if not away:  # one that starts while PostgreSQL is away would only leave again
            for member in [m for m in [*self.workers, self.mirror] if m.told == "gone"]:
                self.replace(member)
        for member in self.everyone:
            self._listen(member)

    def stop(self) -> None:
        """Let everything end in order, the mirror last: its last round brings all that was committed."""
        for group in (self.workers, [self.mirror]):
            for member in group:
                member.process.send(signal.SIGCONT)
                member.end(signal.SIGTERM)
            for member in group:
                self.ended_well(member)
        for member in self.everyone:
            self._listen(member)

    def ended_well(self, member: Member) -> None:
        """Wait for one that was told to end in order; note it as a crash where it does not."""
        try:
            member.process.wait_dead(ENDING_SECONDS)
        except AssertionError as error:
            self.crashes.append(f"{member.name} does not end: {_last(str(error))}")
            member.process.kill()
            return
        code, said = member.process.code, member.process.tail()
        held_nothing = " serves " not in said
        if code and held_nothing and any(word in said for word in AWAY):  # as in `look`, and told to end besides
            self.turned_away += 1
        # Or told before Python had come to its own handlers.
        elif code and not (held_nothing and code == -signal.SIGTERM):
            self.crashes.append(f"{member.name} was told to end and left with {code}: {_last(said)}")

    def kill(self) -> None:
        """Leave nothing running."""
        for member in self.everyone:
            member.process.kill()

    def refusals(self) -> int:
        """In how many lines of ours a full disk is told of."""
        return sum(m.process.output.read_text(errors="replace").count("No space left") for m in self.everyone)

    def holder(self, worker_id: str) -> Member | None:
        """Return the process that a worker's name (HOST-PID-RANDOM) names."""
        return next((m for m in reversed(self.everyone) if f"-{m.pid}-" in worker_id), None)

    def _start(self, kind: str, argv: list[str], anchor: bool) -> Member:
        name = f"{kind} {len(self.everyone) + 1}"
        process = Process(argv, self._env, self.place.logs / f"{name.replace(' ', '-')}.log")
        member = Member(name, process, anchor)
        self.everyone.append(member)
        return member

    def _listen(self, member: Member) -> None:
        if member.name in self._heard:
            return
        ended = not member.process.alive  # before its words are read: they are its last then
        text = member.process.output.read_text(errors="replace")
        if any(word in text for word in TROUBLE):
            self.crashes.append(f"{member.name} printed a traceback: {next(_causes(text))}")
        elif not ended:
            return
        self._heard.add(member.name)


def _causes(text: str) -> Iterator[str]:
    """Yield the last line of each traceback, then the last line there is."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if any(word in line for word in TROUBLE):
            yield line.strip()[:400] if len(line) > 100 else " ".join([line.strip(), *_after(lines, number)])[:400]
    yield _last(text)


def _after(lines: list[str], number: int) -> list[str]:
    """Return the line that names the error of the traceback that begins at `number`."""
    for line in lines[number + 1 :]:
        if line and not line.startswith((" ", "\t")):
            return [line]
    return []


def _last(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "it said nothing"
