"""What the evidence verifier asks of the domain's rules, one rule at a time."""

from __future__ import annotations

import pytest

from aetheris.domain import canonical, events, ledger
from aetheris.domain.errors import Corrupt

KEY = "a" * 64


def event(seq: int, kind: str, prev: str, **data: object) -> events.Event:
    return events.Event(seq, "worker/w1", {}, data, 1, prev, seq, 0, kind)


def move(seq: int, status: str, **fields: object) -> ledger.Transition:
    base = {"step": 1, "attempt": 1, "tool_name": "pay", "effect": "once", "epoch": 1, "idempotency_key": KEY}
    return ledger.Transition(seq=seq, status=status, **{**base, **fields})  # type: ignore[arg-type]


def test_a_negative_integer_reads_back_as_itself() -> None:
    """A refund of -5 cents once read as +5, and its line was refused."""
    assert canonical.loads(b'{"a":-5}') == {"a": -5}


@pytest.mark.parametrize("escape", [r"\ud800", r"\udc00\ud800", r"\uDBFF"])
def test_half_a_surrogate_pair_is_refused_wherever_it_hides(escape: str) -> None:
    """Two readers would see two strings."""
    for text in ('{"a":"%s"}', '{"%s":1}', '{"a":["%s"]}'):
        with pytest.raises(Corrupt):
            canonical.strict_json((text % escape).encode())


def test_a_chain_names_every_rule_that_an_event_breaks_and_goes_on() -> None:
    """An auditor wants all that is wrong, not one thing per attempt."""
    chain = events.Chain()
    leaf = b"\1" * 32
    assert chain.breaks(event(1, "job_created", events.GENESIS_PREV, format=events.FORMAT), leaf) == []
    assert [b.rule for b in chain.breaks(event(3, "job_parked", "0" * 64), leaf)] == ["seq", "prev"]
    # Counting goes on from what was found, so one gap is one finding.
    assert chain.breaks(event(4, "job_parked", leaf.hex()), leaf) == []


def test_a_genesis_of_another_format_is_refused() -> None:
    """Lines of a later format may mean something else."""
    with pytest.raises(Corrupt, match="another format"):
        events.Chain().add(event(1, "job_created", events.GENESIS_PREV, format="aetheris/job/v2"), b"")


def test_after_an_unreadable_line_the_next_must_still_name_it() -> None:
    """Breaking a line's JSON must not hide a splice behind it."""
    chain = events.Chain()
    chain.add(event(1, "job_created", events.GENESIS_PREV, format=events.FORMAT), b"\1" * 32)
    chain.skip(b"\2" * 32)
    assert chain.breaks(event(3, "job_parked", "02" * 32), b"\3" * 32) == []


def test_a_finished_call_has_a_known_outcome() -> None:
    """An outcome nobody knows must not quietly count as a failure."""
    data = {"attempt": 1, "duration_us": 1, "effect": "none", "outcome": "maybe", "tool_name": "t"}
    value = events.build(
        at=1, by="w", cells={}, data=data, epoch=1, prev="0" * 64, seq=1, step=1, type="tool_invocation_finished"
    )
    with pytest.raises(Corrupt, match="maybe"):
        events.from_value(value)


@pytest.mark.parametrize("status", ["started", "unknown", "committed", "confirmed", "resolved"])
def test_a_once_call_is_not_begun_again_while_it_may_have_happened(status: str) -> None:
    """The customer would pay twice."""
    path = {"started": [], "unknown": ["unknown"], "committed": ["committed"]}.get(status, ["unknown", status])
    done = [move(2, "started")] + [move(3 + i, s, outcome="done" if s == status else "") for i, s in enumerate(path)]
    with pytest.raises(Corrupt, match="began though attempt 1"):
        ledger.fold([*done, move(9, "started", attempt=2)])


@pytest.mark.parametrize(("status", "outcome"), [("failed", ""), ("confirmed", "not_done"), ("resolved", "failed")])
def test_a_once_call_that_took_no_effect_may_be_tried_again(status: str, outcome: str) -> None:
    """A promise that nothing happened is what makes a second attempt safe."""
    doubt = [] if status == "failed" else [move(3, "unknown")]
    calls = ledger.fold([move(2, "started"), *doubt, move(4, status, outcome=outcome), move(5, "started", attempt=2)])
    assert list(calls) == [(1, 1), (1, 2)]


def test_an_idempotent_call_may_be_begun_again_after_a_crash() -> None:
    """Its key makes the second start harmless."""
    ledger.fold([move(2, "started", effect="idempotent"), move(3, "started", effect="idempotent", attempt=2)])


def test_two_steps_never_share_an_idempotency_key() -> None:
    """The tool would take the second call for the first, or the ledger for one."""
    with pytest.raises(Corrupt, match="idempotency key of step 1"):
        ledger.fold([move(2, "started"), move(3, "started", step=2)])


def test_a_damaged_ledger_can_still_be_shown() -> None:
    """What is illegal must be visible, not dropped."""
    calls = ledger.collect([move(2, "committed"), move(3, "committed")])
    assert [t[1] for t in calls[1, 1].transitions] == ["committed", "committed"]
