"""Cells bind what they say; ids say whose they are; a fold can be cut anywhere."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aetheris.domain import cells, ids
from aetheris.domain.encode import body_value
from aetheris.domain.errors import Corrupt
from aetheris.domain.events import Event
from aetheris.domain.fold import fold
from aetheris.runtime.sensitive import Each, Fields, Whole, split
from tests.property.test_canonical import JSON

KEY = b"k" * 32
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(st.binary(max_size=40), NAMES, st.integers(1, 2**40), NAMES)
def test_a_commitment_binds_body_name_seq_and_job(body: bytes, name: str, seq: int, job: str) -> None:
    """A true cell under another name, number or job is a forgery; so is a boundary moved between them."""
    salt = b"s" * 32
    own = cells.commitment(job, seq, name, salt, body)
    others = [
        cells.commitment(job + "x", seq, name, salt, body),
        cells.commitment(job, seq + 1, name, salt, body),
        cells.commitment(job, seq, name + "x", salt, body),
        cells.commitment(job, seq, name, b"t" * 32, body),
        cells.commitment(job, seq, name, salt, body + b"x"),
        cells.commitment(job, seq, name + body[:1].decode("latin-1"), salt, body[1:]) if body else b"",
    ]
    assert own not in others


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_salt_of_another_length_is_refused(length: int) -> None:
    """A short salt can be searched."""
    with pytest.raises(Corrupt):
        cells.commitment("j", 1, "args", b"s" * length, b"{}")


@given(st.dictionaries(NAMES, JSON, max_size=4), st.sets(NAMES, max_size=3))
def test_sensitive_parts_come_back_to_their_place(value: dict[str, object], hidden: set[str]) -> None:
    """Taking fields out into cells of their own must lose nothing, whatever the names."""
    plan = Fields({name: Whole() for name in hidden})
    parts = split("args", value, plan)
    bodies = {name: body_value(body) for name, body in parts}
    assert all(name.isascii() for name in bodies)
    assert cells.assemble("args", bodies) == value
    assert len(parts) == 1 + len(hidden & value.keys())


def test_a_users_value_that_looks_like_a_reference_stays_a_value() -> None:
    """Or a tool's result could point into another cell."""
    value = {"a": {"$cell": "args/secret"}, "b": {"$$cell": 1}, "c": [{"$cell": {"$cell": 2}}]}
    for plan in (None, Fields({"z": Whole()}), Each(Fields({"q": Whole()}))):
        parts = split("args", value, plan)
        assert cells.assemble("args", {n: body_value(b) for n, b in parts}) == value


def test_a_forged_reference_out_of_its_cell_is_corrupt() -> None:
    """A ring of references must not hang the reader."""
    with pytest.raises(Corrupt):
        cells.assemble("args", {"args": {"$cell": "args"}})


@given(st.text(min_size=1, max_size=10), st.text(min_size=1, max_size=10))
def test_an_id_says_whose_it_is_without_a_database(mine: str, other: str) -> None:
    """403 and 404 are told apart before anything is looked up."""
    job = ids.mint(mine, 1, KEY)
    assert len(job) == ids.LENGTH
    assert ids.owner(job, mine, {1: KEY}) == "mine"
    assert ids.owner(job, other, {1: KEY}) == ("mine" if other == mine else "another")
    assert ids.owner(job, mine, {2: KEY}) == "nobody"
    flipped = ("0" if job[5] != "0" else "1").join((job[:5], job[6:]))
    assert ids.owner(flipped, mine, {1: KEY}) == "nobody"


def test_old_keys_verify_for_ever() -> None:
    """A key rotated away still knows the ids that it made."""
    old = ids.mint("acme", 1, KEY)
    assert ids.owner(old, "acme", {1: KEY, 2: b"n" * 32}) == "mine"


TYPES = st.sampled_from(
    ["job_leased", "job_waiting", "timer_fired", "tool_invocation_started", "tool_invocation_finished",
     "random_recorded", "state_checkpointed", "job_parked", "job_completed"]
)  # fmt: skip
DATA = {
    "attempt": 1, "effect": "once", "tool_name": "t", "outcome": "success", "wait_type": "timer", "idempotency_key": "",
    "duration_us": 1, "reason": "r", "worker_id": "w",
}  # fmt: skip


@given(st.lists(st.tuples(TYPES, st.integers(0, 5)), max_size=30), st.data())
def test_a_fold_can_be_cut_anywhere(shape: list[tuple[str, int]], data: st.DataObject) -> None:
    """fold(snapshot, tail) == fold(all): what makes snapshots safe to use and to throw away."""
    made = [
        Event(at=n, by="w", cells={"result": "a" * 64}, data=DATA, epoch=1, prev="0" * 64, seq=n, step=step, type=kind)
        for n, (kind, step) in enumerate(shape, 1)
    ]
    cut = data.draw(st.integers(0, len(made)))
    whole = fold(made)
    assert fold(made[cut:], copy.deepcopy(fold(made[:cut]))) == whole
