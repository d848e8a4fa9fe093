"""What a job has under way, where its log is over already."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from aetheris.domain.errors import Lost
from aetheris.runtime.underway import UnderWay


def test_a_deadline_after_the_lease_was_lost_ends_the_hold() -> None:
    """The alarm set itself anew at once, a thousand times over, and nobody was told."""
    woken: list[int] = []

    def emit(*given: Any, **named: Any) -> None:
        raise Lost("the lease is gone")

    engine = SimpleNamespace(
        history=SimpleNamespace(cancel=None, genesis=SimpleNamespace(data={"expires_at": 1})),
        log=SimpleNamespace(emit=emit),
        arrived=None,
        now_of_log=lambda: 2,
        look_again=lambda: woken.append(1),
    )
    underway = UnderWay(cast(Any, engine), None)
    underway.watch_clock()
    assert isinstance(underway.failure, Lost)
    assert woken
