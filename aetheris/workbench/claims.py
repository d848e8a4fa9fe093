"""Claims: what was asked, what was measured, and whether it holds, as one table.

    claims = wb.Claims("Acceptance")
    limit = claims.about("Ten refunds a second over three workers")
    limit.within("starts a second", 10, 0.2, run.achieved_per_second)
    assert limit.hold, limit.broken

What is asked, what is shown and what decides are one bound and one figure, so a
row can't say one thing and mean another. Nothing is rounded before it is
compared. A table without rows does not hold: it has shown nothing.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aetheris.domain.rows import Rows, text

#: Okabe and Ito's palette: told apart by colour-blind people, on light and on dark. The word stands beside.
HOLDS, BROKEN = ("● holds", "#009E73"), ("✕ does not hold", "#D55E00")
_CELL = "text-align:left;vertical-align:top;padding:3px 14px 3px 0;background:transparent"
_RULE = "border-top:1px solid rgba(128,128,128,0.5)"


@dataclass(frozen=True, slots=True)
class Claim:
    """One row. `asked` and `measured` are as they are shown; `holds` was decided on the figures themselves."""

    what: str
    asked: str
    measured: str
    holds: bool

    def __repr__(self) -> str:
        return f"{text(self.what)}: asked {text(self.asked)}, measured {text(self.measured)}"


class Claims:
    """Rows of claims, and parts that have rows of their own. Iterating gives every claim, in order."""

    def __init__(self, title: str = "") -> None:
        self.title = title
        self._rows: list[Claim] = []
        self._parts: list[Claims] = []

    def about(self, title: str) -> Claims:
        """Return a new part under a title of its own; what is claimed there is claimed here."""
        part = Claims(title)
        self._parts.append(part)
        return part

    def exactly(self, what: str, asked: Any, measured: Any, unit: str = "") -> Claim:
        """Claim that `measured` equals `asked`."""
        return self._add(what, _shown(asked, unit), measured, unit, bool(measured == asked))

    def at_least(self, what: str, asked: float, measured: float, unit: str = "") -> Claim:
        """Claim `measured >= asked`."""
        return self._add(what, f"at least {_shown(asked, unit)}", measured, unit, measured >= asked)

    def at_most(self, what: str, asked: float, measured: float, unit: str = "") -> Claim:
        """Claim `measured <= asked`."""
        return self._add(what, f"at most {_shown(asked, unit)}", measured, unit, measured <= asked)

    def less_than(self, what: str, asked: float, measured: float, unit: str = "") -> Claim:
        """Claim `measured < asked`."""
        return self._add(what, f"less than {_shown(asked, unit)}", measured, unit, measured < asked)

    def within(self, what: str, asked: float, off_by: float, measured: float, unit: str = "") -> Claim:
        """Claim that `measured` is at most `off_by` away from `asked`."""
        asked_for = f"{_shown(asked)} ± {_shown(off_by, unit)}"
        return self._add(what, asked_for, measured, unit, abs(measured - asked) <= off_by)

    @property
    def hold(self) -> bool:
        """True when there are claims and each of them holds, in every part too."""
        return any(True for _ in self) and not self.broken and all(part.hold for part in self._parts)

    @property
    def broken(self) -> list[Claim]:
        """The claims that do not hold; each says what was asked and what was measured."""
        return [claim for claim in self if not claim.holds]

    @property
    def verdict(self) -> Rows:
        """What was asked and whether it holds, without the figures: the same in every run of a system that keeps it."""
        return Rows(["claim", "asked", "holds"], [[c.what, c.asked, _mark(c)[0]] for c in self])

    @property
    def sentence(self) -> str:
        """The sum in one line."""
        count = sum(1 for _ in self)
        if not count:
            return "nothing was claimed"
        return f"{count - len(self.broken)} of {count} {'claim holds' if count == 1 else 'claims hold'}"

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[Claim]:
        yield from self._rows
        for part in self._parts:
            yield from part

    def __repr__(self) -> str:
        rows = [("claim", "asked", "measured", "holds")]
        rows += [(text(c.what), text(c.asked), text(c.measured), _mark(c)[0]) for c in self]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*self._headed(lines), self.sentence])

    def _repr_html_(self) -> str:
        head = "".join(f"<th style='{_CELL}'>{name}</th>" for name in ("claim", "asked", "measured", "holds"))
        title = f"<caption style='{_CELL};font-weight:bold'>{html.escape(text(self.title))}</caption>"
        return (
            f"<table style='border-collapse:collapse;color:inherit'>{title if self.title else ''}"
            f"<thead><tr>{head}</tr></thead><tbody>{self._body()}</tbody></table><p>{self.sentence}</p>"
        )

    def _add(self, what: str, asked: str, measured: Any, unit: str, holds: bool) -> Claim:
        claim = Claim(what, asked, _shown(measured, unit), holds)
        self._rows.append(claim)
        return claim

    def _headed(self, lines: list[str]) -> list[str]:
        """Return the printed lines with each part's title above its rows, where there are parts."""
        if not self._parts:
            return lines
        headed, left = [lines[0]], iter(lines[1:])
        for group in self._groups():
            headed += [f"-- {text(group.title)}"] if group is not self else []
            headed += [next(left) for _ in group._rows]
        return headed

    def _groups(self) -> Iterator[Claims]:
        yield self
        for part in self._parts:
            yield from part._groups()

    def _body(self) -> str:
        rows = []
        for group in self._groups():
            if group is not self:
                title = html.escape(text(group.title))
                rows.append(f"<tr><th colspan='4' style='{_CELL};{_RULE};padding-top:8px'>{title}</th></tr>")
            for claim in group._rows:
                word, colour = _mark(claim)
                cells = (html.escape(text(value)) for value in (claim.what, claim.asked, claim.measured))
                shown = "".join(f"<td style='{_CELL}'>{cell}</td>" for cell in cells)
                rows.append(f"<tr>{shown}<td style='{_CELL};white-space:nowrap;color:{colour}'>{word}</td></tr>")
        return "".join(rows)


def _mark(claim: Claim) -> tuple[str, str]:
    return HOLDS if claim.holds else BROKEN


def _shown(value: Any, unit: str = "") -> str:
    """Return a figure with its unit: integers whole, other numbers to four digits; anything else as it says itself."""
    if isinstance(value, bool):
        shown = "yes" if value else "no"
    elif isinstance(value, int):
        shown = f"{value:,}"
    elif isinstance(value, float):
        shown = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    else:
        shown = str(value)
    return f"{shown} {unit}" if unit else shown
