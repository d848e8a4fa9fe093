"""A snapshot and what came after it are the same as everything, for any job and any cut."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aetheris.domain import snapshot
from aetheris.domain.cells import Cell
from aetheris.domain.errors import Corrupt, Erased
from aetheris.domain.fold import dumps, fold, loads
from aetheris.domain.snapshot import VERSION, Place
from aetheris.runtime.history import History
from aetheris.runtime.packed import AS_RECORDED, Packing
from tests.property.random_jobs import JOB, SCRIPT, TENANT, Made, make

CUT = st.floats(0, 1)
#: Every kind of event at least once, resolved and not.
FULL = [
    ("start", 1, True), ("retry", 0, False), ("start", 1, True), ("end", 2, False), ("none", 3, True),
    ("start", 0, False), ("unknown", 0, False), ("start", 0, True), ("sleep", 1, False), ("wait", 2, True),
    ("receive", 2, False), ("ask", 1, True), ("child", 0, False), ("random", 5, False), ("patch", 1, False),
    ("pause", 0, False), ("cancel", 0, False), ("lease", 0, False), ("unconfirmed", 0, False), ("resume", 0, False),
    ("fire", 0, False), ("approve", 3, True), ("child_end", 0, False), ("refuse", 1, True), ("complete", 0, False),
]  # fmt: skip


def _at(made: Made, share: float) -> int:
    return round(share * len(made.events))


def _packed(made: Made, first: int, last: int, packing: Packing) -> Packing:
    for event, line in zip(made.events[first:last], made.lines[first:last], strict=True):
        packing.add(event, line, made.cells)
    return packing


def _told(history: History) -> dict[str, Any]:
    """Everything that a replay takes from a history."""
    waiting = {e.step for e in history.next()}
    told: dict[str, Any] = {
        "waits": {step: e.seq for step, e in history.waits.items()},
        "received": {key: (e.seq, history.value(e, "payload")) for key, e in history.received.items()},
        "patches": history.patches,
        "confirmations": (history.unconfirmed, history.excused),
        "paused_by": history.paused_by,
        "cancel": history.cancel and history.cancel.seq,
        "last": (history.last_step, history.last_at, history.last_type, history.recorded_head),
        "randoms": {step: history.value(e, "value") for step, e in history.randoms.items()},
        "checkpoint": history.checkpoint and (history.checkpoint.seq, history.value(history.checkpoint, "state")),
        "leased": history.checkpoint is None and history.first_leased_at,
        "genesis": history.genesis.seq,
        "first": waiting,
    }
    delivered = []
    while history.resolutions:
        event = history.resolutions.popleft()
        asked = history.asked.get(event.step)
        asked = None if asked is event else asked
        unread = {"duration_us", "waited_us", "idempotency_key", "expires_at", "received_seq"}
        delivered.append(
            (
                (event.seq, event.step, event.at, event.type, event.by),
                [{k: v for k, v in e.data.items() if k not in unread} for e in (event, asked) if e is not None],
                [(n, history.value(e, n)) for e in (event, asked) if e is not None for n in sorted(e.cells)],
            )
        )
        history.forget(event)
    told["delivered"] = delivered
    # What is left is what is not over: it must be there to be gone on with.
    told["open_calls"] = {step: e.seq for step, e in history.last_call.items()}
    told["open_asked"] = {step: e.seq for step, e in history.asked.items()}
    told["cells"] = sorted(k for k in history.cells if history.cells[k].salt != AS_RECORDED and k[0] in _open(history))
    return told


def _open(history: History) -> set[int]:
    return {e.seq for part in (history.last_call, history.asked, history.waits) for e in part.values()}


@given(SCRIPT, CUT)
@example(FULL, 1.0)
@example(FULL, 0.6)
@example([*FULL, ("checkpoint", 1, True), *FULL], 0.9)
def test_a_packing_and_the_tail_are_the_history_of_all_events(script: list[tuple[str, int, bool]], cut: float) -> None:
    """A worker that takes over from a snapshot sees what one sees that reads everything."""
    made = make(script)
    at = max(_at(made, cut), 1)
    if at <= made.checkpoint_seq:
        at = len(made.events)  # an older snapshot is never read
    packing = Packing.unpack(_packed(made, 0, at, Packing()).pack())
    assert packing.seq == at
    begun = History(JOB, made.record(at), made.leaves[-1], made.checkpoint_seq, packing)
    whole = History(JOB, made.record(made.checkpoint_seq or 1), made.leaves[-1], made.checkpoint_seq)
    assert _told(begun) == _told(whole)


@given(SCRIPT, CUT, CUT)
@example(FULL, 0.3, 0.8)
def test_a_packing_goes_on_from_an_older_one(script: list[tuple[str, int, bool]], one: float, two: float) -> None:
    """Each snapshot is built on the last; what that adds up to must not depend on where they fell."""
    made = make(script)
    first, second = sorted((_at(made, one), _at(made, two)))
    older = Packing.unpack(_packed(made, 0, first, Packing()).pack())
    assert _packed(made, first, second, older).pack() == _packed(made, 0, second, Packing()).pack()


@given(SCRIPT, CUT)
def test_a_stored_fold_and_the_tail_are_the_fold_of_all(script: list[tuple[str, int, bool]], cut: float) -> None:
    """fold(snapshot, tail) == fold(all), through the bytes that are stored."""
    made = make(script)
    at = _at(made, cut)
    stored = dumps(fold(made.events[:at]))
    assert fold(made.events[at:], loads(stored)) == fold(made.events)
    assert dumps(loads(stored)) == stored


def test_an_erased_result_stays_erased_in_a_packing() -> None:
    """A snapshot made after an erasure must neither break on it nor make something up."""
    made = make([("start", 1, False), ("end", 2, False)])
    made.cells[4, "result"] = Cell(4, "result", None, None)
    packing = Packing.unpack(_packed(made, 0, 4, Packing()).pack())
    history = History(JOB, made.record(4), made.leaves[-1], 0, packing)
    with pytest.raises(Erased, match="result was erased"):
        history.value(history.resolutions.first, "result")


@pytest.mark.parametrize("body", [b"", b"\0" * 40, b"{}", b"[1]", b'{"steps":[[1]]}'], ids=repr)
def test_what_is_no_snapshot_is_said_to_be_none(body: bytes) -> None:
    """Whoever reads one that passed its HMAC but not this code's form gets words, never a stack of KeyErrors."""
    with pytest.raises(Corrupt):
        loads(body)
    with pytest.raises(Corrupt):
        Packing.unpack(body)


PLACE = Place(TENANT, JOB, 7, b"l" * 32)
OTHERS = {
    "another tenant": Place("acm", JOB, 7, b"l" * 32),
    "another job": Place(TENANT, "k" * 40, 7, b"l" * 32),
    "another event": Place(TENANT, JOB, 8, b"l" * 32),
    "another leaf": Place(TENANT, JOB, 7, b"m" * 32),
    "a moved boundary": Place("acmej", JOB[1:], 7, b"l" * 32),
}
KEY = {1: b"k" * 32}


@pytest.mark.parametrize("place", OTHERS.values(), ids=OTHERS)
def test_a_snapshot_counts_in_its_own_place_alone(place: Place) -> None:
    """A true snapshot moved elsewhere is a forgery."""
    mac = snapshot.mac(KEY[1], PLACE, VERSION, "fold", b"body")
    assert snapshot.fault(KEY, PLACE, VERSION, 1, "fold", b"body", mac) == ""
    assert "HMAC" in snapshot.fault(KEY, place, VERSION, 1, "fold", b"body", mac)


def test_a_snapshot_counts_whole_by_its_own_key_and_version_alone() -> None:
    """Edited, cut, as the other part, under another key, of a newer version: passed over, and why is said."""
    mac = snapshot.mac(KEY[1], PLACE, VERSION, "replay", b"body")
    for body in (b"bodY", b"bod", b"body ", b""):
        assert "HMAC" in snapshot.fault(KEY, PLACE, VERSION, 1, "replay", body, mac)
    assert "HMAC" in snapshot.fault(KEY, PLACE, VERSION, 1, "fold", b"body", mac)
    assert "HMAC" in snapshot.fault({1: b"x" * 32}, PLACE, VERSION, 1, "replay", b"body", mac)
    assert "key 2" in snapshot.fault(KEY, PLACE, VERSION, 2, "replay", b"body", mac)
    assert "version is 2" in snapshot.fault(KEY, PLACE, VERSION + 1, 1, "replay", b"body", mac)
