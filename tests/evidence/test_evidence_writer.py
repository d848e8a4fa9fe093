"""The writer: reproducible, checked before it leaves, whole or not at all; and redaction."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from aetheris.domain.cells import Cell
from aetheris.domain.errors import AetherisError, Corrupt, Refused
from aetheris.evidence import CellSelector, Erasure, SealMembers, Source, archive, open_package, redact, verify, write
from aetheris.evidence.statement import PAYLOAD_TYPE
from tests.evidence.evidence_job import EMAIL, SIGNER, Job, Spec, base, edited, genesis


def written(source: Source, **options: bool) -> bytes:
    out = io.BytesIO()
    write(source, out, **options)
    return out.getvalue()


def shown_job() -> Job:
    """The base with nothing redacted: what a store holds."""
    return replace(base(), hidden={(1, "input"): "erased"}).build()


def test_the_same_job_gives_the_same_bytes_in_any_order_of_rows(tmp_path: Path) -> None:
    """Two exports with one digest need no comparing."""
    source = shown_job().source()
    shuffled = replace(source, cells=source.cells[::-1], transitions=source.transitions[::-1])
    summary = write(source, tmp_path / "e.zip")
    assert (tmp_path / "e.zip").read_bytes() == written(shuffled)
    assert (summary.events, summary.shown, summary.erased, summary.sealed, summary.damaged) == (17, 12, 1, True, False)
    assert summary.verdict.exit_code == 3


def test_the_format_does_not_change_by_accident() -> None:
    """These bytes are what stored packages are; a change here is a new format version, not a fix."""
    members = open_package(written(shown_job().source())).manifest.members
    digests = sorted(digest for name, (digest, _) in members.items() if name != "report.html")
    found = hashlib.sha256("".join(digests).encode()).hexdigest()
    assert found == "1ee39bc33118b212e55486fd3534838a9763a7ad0b16d876fcb57250762d073f"


def test_other_programs_can_open_it(tmp_path: Path) -> None:
    """A stranger unpacks it with what they have."""
    path = tmp_path / "e.zip"
    write(shown_job().source(), path)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[:2] == ["mimetype", "manifest.json"]
    if shutil.which("unzip"):
        assert subprocess.run(["unzip", "-tq", path], capture_output=True, check=False).returncode == 0


def test_what_goes_in_comes_out() -> None:
    """Lines and bodies are copied, never written anew."""
    source = shown_job().source()
    package = open_package(written(source))
    assert list(package.lines("events.jsonl")) == list(source.lines)
    assert package.member("artifacts/000001.bin") == b"%PDF-1.7\n\x00\xff"
    assert b'"ada@example.org"\n' in package.member("cells/000001.jsonl")


def test_the_report_tells_deadlines_as_times_and_how_trust_is_given() -> None:
    """A reader knows no microseconds since 1970, and without a key the check that is shown can't exit 0."""

    def page_with(expires_at: object) -> str:
        waiting = shown_job().change(15, data={"wait_type": "timer", "expires_at": expires_at})
        return open_package(written(waiting.source())).member("report.html").decode()

    page = page_with(1_700_000_060_000_000)
    assert "expires_at: 2023-11-14 22:14:20 UTC, wait_type: timer<" in page
    assert "python -m aetheris.evidence FILE.zip --trust KEYS<" in page
    assert "expires_at: never, wait_type: timer<" in page_with("never")


def test_an_unfinished_job_leaves_unsealed() -> None:
    """Nothing may claim that a running job is complete."""
    job = shown_job()
    open_job = job.with_specs(job.specs[:10])
    data = written(open_job.source())
    assert "seal.json" not in open_package(data)
    verdict = verify(data)
    assert (verdict.exit_code, verdict["completeness"].status) == (3, "not shown")


def line_edited(source: Source) -> Source:
    return replace(source, lines=[*source.lines[:5], edited(source.lines[5], by="worker/w9"), *source.lines[6:]])


def cell_without_record(source: Source) -> Source:
    return replace(source, erasures=[])


def cell_still_stored(source: Source) -> Source:
    return replace(source, erasures=[*source.erasures, Erasure(9, "args", 42)])


def body_changed(source: Source) -> Source:
    cells = [Cell(c.seq, c.name, c.salt, b"1") if c.name == "value" else c for c in source.cells]
    return replace(source, cells=cells)


def row_changed(source: Source) -> Source:
    rows = list(source.transitions)
    return replace(source, transitions=[replace(rows[0], result_hash="ab" * 32), *rows[1:]])


#: What is broken in the store, and the layer at which its damaged export fails.
DAMAGE: dict[str, tuple[str, Callable[[Source], Source]]] = {
    "a line edited": ("integrity", line_edited),
    "a line dropped": ("integrity", lambda s: replace(s, lines=[*s.lines[:5], *s.lines[6:]])),
    "the tail cut": ("integrity", lambda s: replace(s, lines=s.lines[:-1], cells=s.cells[:-1])),
    "a line unreadable": ("integrity", lambda s: replace(s, lines=[*s.lines[:5], b"{", *s.lines[6:]])),
    "a cell missing without a record": ("disclosure", cell_without_record),
    "a cell's row gone": ("disclosure", lambda s: replace(s, cells=s.cells[:-1])),
    "a body changed": ("disclosure", body_changed),
    "a cell no event commits to": ("integrity", lambda s: replace(s, cells=[*s.cells, Cell(5, "x", b"\1" * 32, b"1")])),
    "an erased cell still stored": ("integrity", cell_still_stored),
    "a ledger row forged": ("ledger", row_changed),
    "a ledger row missing": ("ledger", lambda s: replace(s, transitions=s.transitions[1:])),
    "the head moved": ("integrity", lambda s: replace(s, head=(18, "ab" * 32))),
    "the stored seal is another": ("authenticity", lambda s: replace(s, seal=SealMembers(b"{}"))),
}  # fmt: skip


@pytest.mark.parametrize("how", DAMAGE)
def test_a_broken_record_leaves_only_as_damaged_and_still_fails(how: str, tmp_path: Path) -> None:
    """Evidence that hides its own damage would be worse than none."""
    layer, spoil = DAMAGE[how]
    source = spoil(shown_job().source())
    path = tmp_path / "e.zip"
    with pytest.raises(Corrupt, match="nothing was written"):
        write(source, path)
    assert not list(tmp_path.iterdir())
    summary = write(source, path, damaged=True)
    verdict = verify(path)
    assert summary.damaged
    assert verdict.damaged
    assert verdict.exit_code == 1
    assert verdict[layer].status == "failed", verdict
    assert open_package(path).manifest.damaged


def test_asking_for_damaged_evidence_of_a_sound_job_gives_the_sound_package() -> None:
    """The mark follows the record, not the option."""
    source = shown_job().source()
    assert written(source, damaged=True) == written(source)


def test_stored_seal_members_are_carried_byte_for_byte() -> None:
    """A signature is made once; every later export holds the same."""
    source = shown_job().source()
    statement = open_package(written(source)).member("seal.json")
    seal = SealMembers(statement, SIGNER.envelope(PAYLOAD_TYPE, statement), b"proof", b"token")
    package = open_package(written(replace(source, seal=seal, trust={"acme.pub": b"key"})))
    assert package.member("seal.json") == statement
    assert [package.member(n) for n in ("log/seal.tlog-proof", "time/seal.tsr", "trust/acme.pub")] == [
        b"proof", b"token", b"key",
    ]  # fmt: skip
    assert verify(package.data).exit_code == 3


def test_nothing_half_done_stays_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old package must survive a failed export, and no fragment may lie about."""
    path = tmp_path / "e.zip"
    old = archive.build({"manifest.json": b"the old one"})
    path.write_bytes(old)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Refused, match="No space left on device; nothing was written"):
        write(shown_job().source(), path)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [old]


@pytest.mark.parametrize("theirs", [b"import os\n", b"PK\x03\x04 cut", archive.build({"thesis.txt": b"mine"})])
def test_a_file_of_somebody_elses_is_not_overwritten(tmp_path: Path, theirs: bytes) -> None:
    """`-o agents.py` is a slip that must cost nobody a file; an empty file holds nothing to lose."""
    path = tmp_path / "e.zip"
    path.write_bytes(theirs)
    with pytest.raises(Refused, match="no evidence zip: it is not overwritten"):
        write(shown_job().source(), path)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [theirs]
    path.write_bytes(b"")
    write(shown_job().source(), path)
    assert write(shown_job().source(), path).verdict.exit_code == 3


def test_nothing_half_done_stays_after_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person who stops an export has no package, not half of one."""

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(shown_job().source(), tmp_path / "e.zip")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    """A misspelled path is not a bug of ours."""
    with pytest.raises(AetherisError) as caught:
        write(shown_job().source(), tmp_path / "nowhere" / "e.zip")
    assert "\n" not in str(caught.value)


def test_a_job_too_large_for_one_package_is_refused() -> None:
    """Better said at export than found out by the auditor."""
    body = b'"' + b"x" * 17 * 2**20 + b'"'
    job = Job([genesis(), Spec("job_completed", {}, {"result": body})]).build()
    with pytest.raises(Refused, match="too large for one package"):
        write(job.source(), io.BytesIO())


def test_many_bodies_share_members_that_end_at_a_limit() -> None:
    """A file per cell would make a package of thousands; one file for all could not be held."""
    body = b'"' + b"x" * 1_500_000 + b'"'
    specs = [genesis(), *(Spec("random_recorded", {}, {"value": body}, step=n) for n in range(1, 13))]
    package = open_package(written(Job(specs).build().source()))
    packs = [name for name in package.spans if name.startswith("cells/")]
    assert len(packs) == 3
    assert all(package.size(name) <= 8 * 2**20 for name in packs)
    assert verify(package.data).exit_code == 3


def test_redaction_drops_whole_cells_under_the_same_seal(tmp_path: Path) -> None:
    """The redactor can hide, not change: the seal still stands."""
    path, out = tmp_path / "e.zip", tmp_path / "r.zip"
    write(shown_job().source(), path)
    summary = redact(path, out, [CellSelector(EMAIL[1]), CellSelector("result", event_type="job_completed")])
    assert (summary.shown, summary.redacted, summary.erased) == (10, 2, 1)
    assert summary.verdict.exit_code == 3
    before, after = open_package(path), open_package(out)
    for name in ("seal.json", "events.jsonl", "leaves.bin", "invocations.jsonl", "artifacts/000001.bin"):
        assert before.member(name) == after.member(name)
    salt = next(c.salt for c in shown_job().stored if (c.seq, c.name) == EMAIL)
    assert salt is not None
    for secret in (b"ada@example.org", salt, salt.hex().encode(), b"refunded"):
        assert secret in before.data or secret == salt
        assert secret not in after.data


def test_redaction_in_two_steps_equals_redaction_in_one(tmp_path: Path) -> None:
    """Same seal and same disclosures, same bytes."""
    path = tmp_path / "e.zip"
    write(shown_job().source(), path)
    one, two, three = io.BytesIO(), io.BytesIO(), io.BytesIO()
    first, second = CellSelector("args", seq=9), CellSelector("artifact/trace.bin")
    redact(path, one, [first, second])
    redact(path, two, [second])
    redact(two.getvalue(), three, [first])
    assert one.getvalue() == three.getvalue()


@pytest.mark.parametrize(
    ("path", "gone"),
    [
        ("args/passenger", {(4, "args/passenger/email")}),
        ("args/from", {(3, "args")}),
        ("result/price", {(3, "result")}),
        ("artifact", {(14, "artifact/ticket.pdf"), (14, "artifact/trace.bin")}),
        ("value", {(13, "value")}),
    ],
)
def test_a_path_inside_a_cell_drops_that_cell_and_no_other(
    path: str, gone: set[tuple[int, str]], tmp_path: Path
) -> None:
    """A policy names fields; what falls is what holds them."""
    source = shown_job().source()
    out = io.BytesIO()
    redact(written(source), out, [CellSelector(path)])
    rows = [json.loads(line) for line in open_package(out.getvalue()).lines("disclosures.jsonl")]
    assert {(r["seq"], r["name"]) for r in rows if r["state"] == "redacted"} == gone


def test_a_selector_that_fits_nothing_is_refused() -> None:
    """A misspelled path must not hand out the secret."""
    data = written(shown_job().source())
    with pytest.raises(Refused, match="no cell fits args/pasenger"):
        redact(data, io.BytesIO(), [CellSelector("args/pasenger")])
    redact(data, io.BytesIO(), [CellSelector("args/pasenger")], missing_ok=True)


def test_a_broken_package_is_not_redacted() -> None:
    """A new manifest over broken evidence would make it look whole."""
    data = written(line_edited(shown_job().source()), damaged=True)
    with pytest.raises(Corrupt, match="redact a sound one"):
        redact(data, io.BytesIO(), [CellSelector("args")])


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """As a device is: a rename would put a file where /dev/null was."""
    pipe, got = tmp_path / "e.zip", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write(shown_job().source(), pipe)
    reader.join(10)
    assert pipe.is_fifo()
    assert got == [written(shown_job().source())]
    assert list(tmp_path.iterdir()) == [pipe]
