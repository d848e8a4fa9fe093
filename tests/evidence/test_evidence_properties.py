"""Laws of the evidence package: any flipped byte is seen, any job's history survives the trip."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aetheris.evidence import CellSelector, open_package, redact, verify, write
from tests.evidence.evidence_job import Job, Spec, base, doubt, finished, genesis, package, started

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@cache
def sound() -> bytes:
    return package(base().members())


@QUICK
@given(st.data())
def test_one_flipped_byte_is_always_seen(data: st.DataObject) -> None:
    """Wherever the disk or the attacker touched it."""
    at = data.draw(st.integers(0, len(sound()) - 1))
    bits = data.draw(st.integers(1, 255))
    spoiled = sound()[:at] + bytes([sound()[at] ^ bits]) + sound()[at + 1 :]
    assert verify(spoiled).exit_code in (1, 2)


@QUICK
@given(st.data())
def test_a_flipped_byte_that_the_manifest_follows_is_still_seen(data: st.DataObject) -> None:
    """Truth hangs on the seal and the commitments, not on the manifest."""
    members = base().members()
    name = data.draw(st.sampled_from([n for n in members if n not in ("report.html", "manifest.json")]))
    at = data.draw(st.integers(0, len(members[name]) - 1))
    raw = members[name]
    spoiled = raw[:at] + bytes([raw[at] ^ data.draw(st.integers(1, 255))]) + raw[at + 1 :]
    verdict = verify(package(members | {name: spoiled}))
    # A redacted or erased cell's row may be told otherwise (redacted, erased under another audit
    # entry): rows are this package's word, bound by no seal.
    assert verdict.exit_code in (1, 2) or name == "disclosures.jsonl"


@QUICK
@given(st.binary(max_size=200), st.integers(0, 2**16), st.booleans())
def test_any_bytes_are_judged_without_a_crash(noise: bytes, at: int, keep: bool) -> None:
    """No input raises, whatever was cut out or put in."""
    at %= len(sound())
    rest = sound()[at:] if keep else sound()[at + len(noise) :]
    assert verify(sound()[:at] + noise + rest).exit_code in (1, 2, 3)
    assert verify(noise).exit_code == 2


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def histories(draw: st.DrawFn) -> list[Spec]:
    """A job of random calls, doubts, waits and takeovers, ended or not."""
    from aetheris.domain.encode import body_bytes

    specs, epoch = [genesis()], 1

    def cells(*names: str) -> dict[str, bytes]:
        return {name: body_bytes(draw(JSON)) for name in names}

    for step in range(1, draw(st.integers(0, 6)) + 1):
        epoch += draw(st.integers(0, 1))
        kind = draw(st.sampled_from(["none", "once", "idempotent", "doubt", "wait", "random", "file"]))
        more: dict[str, Any] = {"epoch": epoch, "by": "worker/" + (draw(TEXT) or "w")}
        match kind:
            case "none":
                specs.append(finished(step, "none", cells=cells("args", "result"), **more))
            case "once" | "idempotent":
                outcome = draw(st.sampled_from(["success", "failure", "timeout"]))
                specs.append(started(step, kind, cells=cells("args", "args/a"), **more))
                specs.append(finished(step, kind, outcome, **more))
            case "doubt":
                said = draw(st.sampled_from(["done", "not_done"]))
                specs.append(started(step, "once", cells=cells("args"), **more))
                specs.append(doubt("unknown", step, data={"reason": draw(TEXT)}, **more))
                specs.append(doubt("confirmed", step, data={"outcome": said}, **more))
            case "wait":
                specs.append(Spec("job_waiting", {"wait_type": "timer"}, step=step, **more))
            case "random":
                specs.append(Spec("random_recorded", {}, cells("value"), step=step, **more))
            case "file":
                specs.append(Spec("state_changed", {}, {"artifact/x": draw(st.binary(max_size=40))}, **more))
    if draw(st.booleans()):
        specs.append(Spec("job_completed", {}, cells("result"), epoch=epoch))
    return specs


@settings(QUICK, max_examples=120)
@given(histories(), st.integers(0, 2**32), st.data())
def test_any_history_survives_the_trip_and_redaction(specs: list[Spec], seed: int, data: st.DataObject) -> None:
    """What an agent did is what the auditor reads, less what was hidden."""
    job = Job(specs, seed=seed).build()
    hidden = data.draw(st.sets(st.sampled_from(job.stored), max_size=2)) if job.stored else set()
    job.hidden = {(cell.seq, cell.name): "erased" for cell in hidden}
    out, again, less = io.BytesIO(), io.BytesIO(), io.BytesIO()
    summary = write(job.source(), out)
    write(job.source(), again)
    assert out.getvalue() == again.getvalue()
    assert summary.verdict.exit_code == 3
    opened = open_package(out.getvalue())
    assert list(opened.lines("events.jsonl")) == job.lines
    assert ("seal.json" in opened) == (specs[-1].type == "job_completed")
    redacted = redact(out.getvalue(), less, [CellSelector("args"), CellSelector("artifact")], missing_ok=True)
    assert redacted.verdict.exit_code == 3
    assert open_package(less.getvalue()).member("events.jsonl") == opened.member("events.jsonl")
