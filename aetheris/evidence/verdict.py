"""What a verifier says: eight layers, each passed, failed or not shown, and one exit code.

    0  every layer that was judged passed, and the seal's signer is one the verifier was given
    1  read, and a layer failed
    2  not readable within the limits, or of a later version
    3  consistent in itself; nothing shows who made it

2 goes before 1, 1 before 3, 3 before 0. A verdict never says what no single
package can show: a withheld job, a second seal, a tool that lied.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aetheris.domain.plain import printable

LAYERS = ("container", "integrity", "completeness", "ledger", "authenticity", "log", "time", "disclosure")
PASSED, FAILED, NOT_SHOWN = "passed", "failed", "not shown"
FINDINGS_PER_LAYER = 20

VERIFIED, BROKEN, UNUSABLE, CONSISTENT = 0, 1, 2, 3
_WORDS = {VERIFIED: "verified", BROKEN: "failed", UNUSABLE: "unusable", CONSISTENT: "self-consistent"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: what, where ("event 17"), and the two sides of it."""

    what: str
    where: str = ""
    expected: str = ""
    found: str = ""

    @property
    def sentence(self) -> str:
        """The finding on one line, safe to print."""
        text = f"{self.where}: {self.what}" if self.where else self.what
        sides = [f"{word} {side}" for word, side in (("expected", self.expected), ("found", self.found)) if side]
        return printable(text, 400) + (f" ({printable(', '.join(sides), 400)})" if sides else "")


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's judgement; `summary` says in a few words what was seen."""

    name: str
    status: str
    summary: str
    findings: tuple[Finding, ...] = ()
    more: int = 0  # findings beyond FINDINGS_PER_LAYER


@dataclass(slots=True)
class Findings:
    """Gathers what is wrong, layer by layer, while the layers are judged."""

    by_layer: dict[str, list[Finding]] = field(default_factory=lambda: {name: [] for name in LAYERS})
    beyond: dict[str, int] = field(default_factory=dict)

    def add(self, layer: str, what: str, where: str = "", expected: object = "", found: object = "") -> None:
        """Note that `layer` fails, and why."""
        if len(self.by_layer[layer]) < FINDINGS_PER_LAYER:
            self.by_layer[layer].append(Finding(what, where, str(expected)[:400], str(found)[:400]))
        else:
            self.beyond[layer] = self.beyond.get(layer, 0) + 1

    def layer(self, name: str, passed: str, *, not_shown: str = "") -> Layer:
        """Return the layer: failed when anything was noted, else not shown or passed, in these words."""
        found = self.by_layer[name]
        if found:
            more = self.beyond.get(name, 0)
            return Layer(name, FAILED, found[0].sentence, tuple(found), more)
        return Layer(name, NOT_SHOWN, not_shown) if not_shown else Layer(name, PASSED, passed)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The eight layers in order, the exit code, and which job the package speaks of."""

    layers: tuple[Layer, ...]
    exit_code: int
    tenant: str = ""
    job: str = ""
    damaged: bool = False

    def __getitem__(self, name: str) -> Layer:
        """Return the layer of that name."""
        return self.layers[LAYERS.index(name)]

    @property
    def word(self) -> str:
        """The verdict in one word: verified, failed, unusable or self-consistent."""
        return _WORDS[self.exit_code]

    @property
    def failed(self) -> tuple[Layer, ...]:
        """The layers that failed, first first."""
        return tuple(layer for layer in self.layers if layer.status == FAILED)

    @property
    def sentence(self) -> str:
        """The verdict in one line."""
        if self.exit_code == VERIFIED:
            return "verified by a key you gave"
        if self.exit_code == CONSISTENT:
            return "self-consistent: it contradicts itself nowhere; nothing here shows who made it"
        return f"{self.word}: {', '.join(layer.name for layer in self.failed)}"

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as plain JSON values."""
        return {
            "exit": self.exit_code,
            "verdict": self.word,
            "tenant": self.tenant,
            "job": self.job,
            "damaged": self.damaged,
            "layers": [
                {
                    "layer": layer.name,
                    "status": layer.status,
                    "summary": layer.summary,
                    "findings": [
                        {"what": f.what, "where": f.where, "expected": f.expected, "found": f.found}
                        for f in layer.findings
                    ],
                    "more_findings": layer.more,
                }
                for layer in self.layers
            ],
        }

    def __str__(self) -> str:
        """Return the verdict as people read it: a line per layer, then the sum; no stranger's control characters."""
        lines = []
        for layer in self.layers:
            lines.append(f"{layer.name:<15}{layer.status:<12}{printable(layer.summary, 800)}")
            lines += [f"{'':<27}{finding.sentence}" for finding in layer.findings[1:]]
            if layer.more:
                lines.append(f"{'':<27}and {layer.more} more")
        lines.append(f"{self.sentence:<80}  exit {self.exit_code}")
        return "\n".join(lines)


def exit_code(layers: tuple[Layer, ...]) -> int:
    """Return the exit code of a package that could be read."""
    if any(layer.status == FAILED for layer in layers):
        return BROKEN
    return VERIFIED if layers[LAYERS.index("authenticity")].status == PASSED else CONSISTENT
