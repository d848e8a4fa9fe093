"""The rows of sections B to E that an exported audit chain can show: its lines, and the signature beside them.

A base chain is signed by a key that the verifier was given. The signature
follows a change of the lines, so that the named layer has to catch it, except
where a row says that the old one was kept.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aetheris.domain import canonical, merkle
from aetheris.domain.audit import FORMAT, Entry, Head, extend
from aetheris.domain.errors import Refused
from aetheris.evidence import audit_file, audit_statement, verify
from aetheris.evidence.__main__ import main
from aetheris.evidence.audit_statement import Export, signature_path
from aetheris.evidence.format import LIMITS
from aetheris.evidence.statement import PAYLOAD_TYPE
from aetheris.evidence.verdict import Verdict
from tests.evidence.evidence_job import SIGNER, STRANGER, TENANT, dumps, edited, held
from tests.evidence.test_hostile_json import SPOILED, Spoil
from tests.evidence.test_hostile_signature import ENVELOPES, envelope, sealed, statement, trust

Lines = list[bytes]
AT = 1_700_000_000_000_000
EXPORTED_AT = AT + 3_600_000_000
ZEROS = "0" * 64


@cache
def chain(tenant: str = TENANT) -> tuple[bytes, ...]:
    """Six entries, each a second after the one before."""
    head, made = Head(0, b"", 0), []
    for number in range(5):
        entry = Entry("view_job", f"user/u{number}", True, "job", f"j{number}", {"request_id": f"r{number}"})
        head, lines = extend(tenant, head, [entry], AT + number * 1_000_000)
        made += [line.line for line in lines]
    return tuple(made)


def joined(lines: Lines) -> bytes:
    """The file of these lines."""
    return b"".join(line + b"\n" for line in lines)


def base() -> bytes:
    """The base chain's file."""
    return joined(list(chain()))


def relaid(change: Callable[[Lines], object], spoil: tuple[int, Spoil] | None = None) -> bytes:
    """The chain with lines changed and every number and link laid anew; then one of them spoiled, before the next."""
    lines = list(chain())
    change(lines)
    made: Lines = []
    prev = ZEROS
    for seq, line in enumerate(lines, 1):
        made.append(edited(line, seq=seq, prev=prev))
        if spoil and spoil[0] == seq:
            made[-1] = spoil[1](made[-1])
        prev = merkle.leaf_hash(made[-1]).hex()
    return joined(made)


def said(data: bytes, **wrong: Any) -> bytes:
    """The statement over a file, with fields otherwise."""
    lines = data.split(b"\n")[:-1]
    fields = {"entries": len(lines), "exported_at": EXPORTED_AT, "tenant": TENANT}
    export = Export(**fields | {"head": merkle.leaf_hash(lines[-1]).hex()} | wrong)
    return audit_statement.dumps(export, hashlib.sha256(data).hexdigest())


def signed(data: bytes, **wrong: Any) -> bytes:
    """The true envelope over a file."""
    return envelope(said(data, **wrong))


def laid(folder: Path, data: bytes, signature: bytes | None) -> Path:
    """Both files as an export leaves them."""
    path = folder / "audit.jsonl"
    path.write_bytes(data)
    if signature is not None:
        signature_path(path).write_bytes(signature)
    return path


def judged(
    folder: Path, data: bytes, signature: bytes | None, layer: str, code: int, given: bytes | None = trust()
) -> Verdict:
    """Verify, and hold the verdict to the layer and exit code that the table names."""
    return held(audit_file.verify(laid(folder, data, signature), trust=given), layer, code)


OTHER_KEY = trust(public_key=base64.b64encode(STRANGER.public.raw).decode())


@pytest.mark.parametrize("given", [None, trust(), OTHER_KEY], ids=["no-key", "the-key", "another-key"])
@pytest.mark.parametrize("is_signed", [True, False], ids=["signed", "unsigned"])
def test_a_chain_is_told_as_a_package_is(tmp_path: Path, is_signed: bool, given: bytes | None) -> None:
    """One promise, one set of words: status, summary, sentence and exit code are those of a job's zip."""
    chain = audit_file.verify(laid(tmp_path, base(), signed(base()) if is_signed else None), trust=given)
    job = verify(sealed(envelope(statement()) if is_signed else None), trust=given)
    summary = job["authenticity"].summary.replace("sealed by", "signed by")
    summary = summary.replace("signature over a seal", "signature beside this file")
    assert (chain["authenticity"].status, chain["authenticity"].summary) == (job["authenticity"].status, summary)
    assert (chain.exit_code, chain.sentence) == (job.exit_code, job.sentence)
    assert chain.exit_code == (0 if is_signed and given == trust() else 3)
    counted = "6 of 6 counted by the signature" if is_signed else "give a head noted elsewhere to see"
    assert (chain["completeness"].status, chain["completeness"].summary) == (
        "passed" if is_signed else "not shown", counted)  # fmt: skip


@pytest.mark.parametrize("case", ENVELOPES)
def test_no_signature_passes_that_should_not(tmp_path: Path, case: str) -> None:
    """H63 to H74: what a package's envelope may not be, a chain's may not be."""
    code, make = ENVELOPES[case]
    layer = "container" if code == 2 else "authenticity"
    verdict = judged(tmp_path, base(), make(said(base())), layer, code)
    assert verdict["authenticity"].status != "passed"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"revoked": True}, "signed by acme-2026, which is revoked"),
        ({"not_after": EXPORTED_AT - 1}, "the chain was exported outside the time that acme-2026 is valid for"),
        ({"not_before": EXPORTED_AT + 1}, "the chain was exported outside the time that acme-2026 is valid for"),
        ({"not_before": EXPORTED_AT, "not_after": EXPORTED_AT, "revoked": False}, ""),
    ],
    ids=["revoked", "expired", "not-yet-valid", "valid"],
)
def test_H69_a_key_vouches_only_for_its_time(tmp_path: Path, more: dict[str, Any], says: str) -> None:
    """The export's own time is held against it, as the job's end is: both are what the signer says."""
    layer, code = ("authenticity", 1) if says else ("none", 0)
    assert says in judged(tmp_path, base(), signed(base()), layer, code, trust(**more))["authenticity"].summary


def with_subject(subject: Any) -> bytes:
    """A validly signed statement about something else."""
    return envelope(canonical.dumps(json.loads(said(base())) | {"subject": subject}))


WRONG = {"digest": {"sha256": "ab" * 32}, "name": "audit.jsonl"}
TRUE = {"digest": {"sha256": hashlib.sha256(base()).hexdigest()}, "name": "audit.jsonl"}
#: Validly signed, by the key that was given.
STATEMENTS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "H36-later-predicate": ("authenticity", lambda: envelope(edited(said(base()), predicateType="urn:x:v2"))),
    "H47-another-tenant": ("integrity", lambda: signed(base(), tenant="globex")),
    "H51-head": ("integrity", lambda: signed(base(), head="ab" * 32)),
    "H51-count": ("completeness", lambda: signed(base(), entries=7)),
    "H65-a-jobs-seal": ("authenticity", lambda: envelope(statement())),
    "H75-subject-missing": ("authenticity", lambda: envelope(
        canonical.dumps({k: v for k, v in json.loads(said(base())).items() if k != "subject"}))),
    "H75-subject-empty": ("authenticity", lambda: with_subject([])),
    "H75-other-digest": ("authenticity", lambda: with_subject([WRONG])),
    "H75-one-of-several": ("authenticity", lambda: with_subject([TRUE, WRONG])),
    "H75-a-second-digest": ("authenticity", lambda: with_subject(
        [TRUE | {"digest": TRUE["digest"] | {"sha512": "00"}}])),  # type: ignore[operator]
    "H85-before-its-last-entry": ("time", lambda: signed(base(), exported_at=AT)),
    "H35-true-for-1": ("authenticity", lambda: signed(base(), entries=True)),
    "H35-a-text-for-a-number": ("authenticity", lambda: signed(base(), exported_at="now")),
    "H35-one-more": ("authenticity", lambda: envelope(
        edited(said(base()), predicate=json.loads(said(base()))["predicate"] | {"more": 1}))),
}  # fmt: skip


@pytest.mark.parametrize("case", STATEMENTS)
def test_a_valid_signature_over_something_else_fails(tmp_path: Path, case: str) -> None:
    """What the key's holder signed was not this."""
    layer, make = STATEMENTS[case]
    judged(tmp_path, base(), make(), layer, 1)


def swapped(lines: Lines) -> None:
    lines[3], lines[4] = lines[4], lines[3]


def as_lines(change: Callable[[Lines], object]) -> bytes:
    """Lines changed, nothing laid anew."""
    lines = list(chain())
    change(lines)
    return joined(lines)


def field(number: int, **fields: object) -> bytes:
    return as_lines(lambda x: x.__setitem__(number - 1, edited(x[number - 1], **fields)))


#: The file changed, the old signature kept: the layer that fails first.
TOUCHED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "H37-one-byte": ("integrity", lambda: as_lines(lambda x: x.__setitem__(3, x[3].replace(b"r2", b"r7")))),
    "H37-the-last": ("integrity", lambda: as_lines(lambda x: x.__setitem__(5, x[5].replace(b"r4", b"r7")))),
    "H38-dropped": ("integrity", lambda: as_lines(lambda x: x.pop(2))),
    "H39-inserted": ("integrity", lambda: as_lines(lambda x: x.insert(3, x[3]))),
    "H40-swapped": ("integrity", lambda: as_lines(swapped)),
    "H41-tail-cut": ("completeness", lambda: as_lines(lambda x: x.pop())),
    "H42-genesis-gone": ("container", lambda: as_lines(lambda x: x.pop(0))),
    "H42-second-genesis": ("integrity", lambda: as_lines(lambda x: x.insert(3, x[0]))),
    "H44-prev-upper-case": ("integrity", lambda: field(4, prev=merkle.leaf_hash(chain()[2]).hex().upper())),
    "H44-prev-zeros-later": ("integrity", lambda: field(4, prev=ZEROS)),
    "H45-fork": ("integrity", lambda: field(4, prev=merkle.leaf_hash(chain()[1]).hex())),
    "H46-splice": ("integrity", lambda: as_lines(lambda x: x.extend(chain("globex")))),
    "H47-another-tenants": ("integrity", lambda: joined(list(chain("globex")))),
    "H67-grown-since": ("completeness", lambda: relaid(lambda x: x.append(x[-1]))),
    "rebuilt-edited": ("integrity", lambda: relaid(lambda x: x.__setitem__(3, x[3].replace(b"r2", b"r7")))),
    "rebuilt-dropped": ("completeness", lambda: relaid(lambda x: x.pop(3))),
}


@pytest.mark.parametrize("case", TOUCHED)
def test_a_signed_chain_that_was_touched_fails(tmp_path: Path, case: str) -> None:
    """Rebuilt or not: under the signature of before nothing else passes, and the digest alone would not pass either."""
    layer, make = TOUCHED[case]
    verdict = judged(tmp_path, make(), signed(base()), layer, 1)
    if layer != "container":
        assert verdict["authenticity"].status == "failed"
        assert verdict["authenticity"].summary == "audit.jsonl.dsse: the statement's subject is not this file"


@pytest.mark.parametrize("case", [name for name in TOUCHED if name[0] == "r" or name[:3] in ("H41", "H67")])
def test_a_rebuilt_twin_is_never_verified(tmp_path: Path, case: str) -> None:
    """With a statement over it by a stranger, or none: consistent, and nobody knows whose."""
    data = TOUCHED[case][1]()
    judged(tmp_path, data, STRANGER.envelope(PAYLOAD_TYPE, said(data)), "authenticity", 3)
    signature_path(tmp_path / "audit.jsonl").unlink()
    judged(tmp_path, data, None, "authenticity", 3)


@pytest.mark.parametrize("place", ["line", "envelope", "statement"])
@pytest.mark.parametrize("case", SPOILED)
def test_json_that_two_parsers_read_differently_fails(tmp_path: Path, case: str, place: str) -> None:
    """H23 to H33 in a line (links and signature follow), in the envelope, and in what is validly signed."""
    spoil = SPOILED[case]
    if place == "line":
        data = relaid(lambda x: None, (4, spoil))
        judged(tmp_path, data, signed(data), "integrity", 1)
    elif place == "envelope":
        judged(tmp_path, base(), spoil(signed(base())), "authenticity", 1)
    else:
        judged(tmp_path, base(), envelope(spoil(said(base()))), "authenticity", 1)


def test_lines_are_ended_bounded_and_not_split_elsewhere(tmp_path: Path) -> None:
    """H30, H33, H34 and H36: cut is 1, too long and too new are 2, U+2028 is text."""
    marked = relaid(lambda x: x.__setitem__(2, edited(x[2], by="user/\u2028\u2029\u0085")))
    judged(tmp_path, marked, signed(marked), "none", 0)
    for data, layer, code in (
        (base()[:-1], "container", 1),
        (base().replace(b"\n", b"\n\n", 1), "integrity", 1),
        (base() + b"\n", "integrity", 1),
        (b"", "container", 1),
        (b"PK\x03\x04\n", "container", 1),
        (base() + b'{"zz":"' + b"x" * canonical.LINE_BYTES_LIMIT + b'"}\n', "container", 2),
    ):
        verdict = judged(tmp_path, data, signed(base()), layer, code)
    assert "line 7 is beyond a limit" in verdict["container"].summary
    later = edited(chain()[0], data={"format": "aetheris/audit/v2", "tenant": TENANT})
    verdict = judged(tmp_path, joined([later]), None, "container", 2)
    assert (
        verdict["container"].summary
        == f"format aetheris/audit/v2 is not one this verifier reads ({FORMAT}); use a later one"
    )


def test_an_envelope_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    """H14, H30: a claimed signature of gigabytes costs two megabytes. At the limit it is judged."""
    many = dumps({"payload": "", "payloadType": "", "signatures": ["x" * LIMITS.document_bytes]})
    verdict = judged(tmp_path, base(), many, "container", 2)
    assert verdict["container"].summary == f"audit.jsonl.dsse is beyond a limit ({LIMITS.document_bytes} bytes)"
    judged(tmp_path, base(), many[: LIMITS.document_bytes], "authenticity", 1)
    path = laid(tmp_path, base(), b"")
    os.truncate(signature_path(path), 2**40)  # sparse
    held(audit_file.verify(path), "container", 2)


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop"])
def test_what_is_no_file_beside_a_chain_is_said_and_hangs_nobody(tmp_path: Path, kind: str) -> None:
    """A pipe would be read for ever, and a signature that can't be read is not a missing one."""
    path = laid(tmp_path, base(), None)
    beside = signature_path(path)
    {"folder": beside.mkdir, "pipe": lambda: os.mkfifo(beside), "loop": lambda: beside.symlink_to(beside)}[kind]()
    verdict = held(audit_file.verify(path, trust=trust()), "container", 2)
    assert verdict["container"].summary.startswith("audit.jsonl.dsse")
    with pytest.raises(Refused, match=r"audit\.jsonl\.dsse"):
        audit_file.deliver(base(), None, path)


def test_a_head_that_lies_behind_a_break_is_not_said_to_be_there(tmp_path: Path) -> None:
    """It was told as passed; and nothing is counted as far as the break."""
    head = merkle.leaf_hash(chain()[4]).hex()
    for signature in (None, signed(base())):
        broken = laid(tmp_path, TOUCHED["H38-dropped"][1](), signature)
        assert audit_file.verify(broken, head=head)["completeness"].status == "not shown"
        assert audit_file.verify(broken)["completeness"].summary == "the chain is broken before its end"
    whole = laid(tmp_path, base(), signed(base()))
    told = audit_file.verify(whole, head=head)["completeness"]
    assert (told.status, told.summary) == (
        "passed", "6 of 6 counted by the signature, the head that you gave is in it")  # fmt: skip
    assert audit_file.verify(whole, head=ZEROS, trust=trust()).exit_code == 1


def test_H97_what_a_signature_says_is_printed_escaped(tmp_path: Path) -> None:
    """A type, a tenant and a key's name can hold terminal escapes and line breaks."""
    evil = "\x1b]52;c;aGk=\x07\n\u202e"
    judged(tmp_path, base(), SIGNER.envelope(evil, said(base())), "authenticity", 1)
    judged(tmp_path, base(), signed(base(), tenant=evil, head=evil, entries=6), "integrity", 1)
    judged(tmp_path, base(), signed(base()), "none", 0, trust(name=evil))
    judged(tmp_path, base(), signed(base()), "authenticity", 1, trust(name=evil, revoked=True))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.booleans(), st.integers(0, 10**6), st.integers(1, 255))
@example(False, 17307, 1)
def test_no_changed_byte_of_either_file_is_verified(tmp_path: Path, lines: bool, at: int, by: int) -> None:
    """Anywhere: one, and it is not verified. But in the hint, which says whose key to try first and proves nothing."""
    files = [base(), signed(base())]
    changed = bytearray(files[not lines])
    changed[at % len(changed)] ^= by
    files[not lines] = bytes(changed)
    hint = files[1].index(b'"keyid":"') + 9 if b'"keyid":"' in files[1] else 0
    wanted = (0, 1) if not lines and hint <= at % len(changed) < hint + 64 else (1, 2)
    assert audit_file.verify(laid(tmp_path, *files), trust=trust()).exit_code in wanted


def test_the_verifier_on_its_own_takes_a_chain_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m aetheris.evidence`: the same verdict, and one line for a misplaced option."""
    path = laid(tmp_path, base(), signed(base()))
    keys = tmp_path / "acme.json"
    keys.write_bytes(trust())
    assert main([str(path), "--trust", str(keys), "--head", merkle.leaf_hash(chain()[-1]).hex()]) == 0
    assert "authenticity   passed      signed by acme-2026 (given by you)" in capsys.readouterr().out
    assert main([str(path), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["tenant"] == TENANT
    assert main([str(path), "--trust", str(tmp_path / "none.pub")]) == 2
    with pytest.raises(SystemExit):
        main(["e.zip", "--head", ZEROS])


def test_both_files_of_an_export_appear_or_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that isn't an earlier export is overwritten; what can't be written leaves the pair of before."""
    path = tmp_path / "audit.jsonl"
    beside = signature_path(path)
    beside.write_bytes(envelope(statement()))  # a signature, and over something else
    with pytest.raises(Refused, match=r"audit\.jsonl\.dsse is there and is no signature over an audit chain"):
        audit_file.deliver(base(), signed(base()), path)
    assert sorted(tmp_path.iterdir()) == [beside]
    beside.write_bytes(b"")
    shorter = as_lines(lambda x: x.pop())
    for data in (shorter, base()):  # an empty file, then the earlier pair
        audit_file.deliver(data, signed(data), path)
        assert audit_file.verify(path, trust=trust()).exit_code == 0
    before = (path.read_bytes(), beside.read_bytes())
    replace = Path.replace

    def full(self: Path, target: Path) -> Path:
        if target == path:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full)
    for signature in (signed(shorter), None):
        with pytest.raises(Refused, match="No space left on device; nothing was written"):
            audit_file.deliver(shorter, signature, path)
        assert (path.read_bytes(), beside.read_bytes()) == before
    monkeypatch.undo()
    assert sorted(tmp_path.iterdir()) == [path, beside]
    # Without a key: the old signature would be of another file.
    audit_file.deliver(shorter, None, path)
    assert sorted(tmp_path.iterdir()) == [path]
