"""H23 to H36: JSON that two parsers read differently, in each member that holds JSON."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from aetheris.domain.errors import Refused
from aetheris.evidence import CellSelector, archive, redact
from aetheris.evidence.source import SealMembers
from aetheris.evidence.statement import PAYLOAD_TYPE
from tests.evidence.evidence_job import LAYER, SIGNER, Job, base, edited, judged, package

Spoil = Callable[[bytes], bytes]
EVENT = 12


@cache
def job() -> Job:
    return base()


def first(old: bytes, new: bytes) -> Spoil:
    """Replace the first `old`, which must be there."""

    def spoil(line: bytes) -> bytes:
        assert old in line
        return line.replace(old, new, 1)

    return spoil


def value(text: bytes) -> Spoil:
    """One more field with this text as its value, sorted last."""
    return lambda line: line[:-1] + b',"zz":' + text + b"}"


def in_string(raw: bytes) -> Spoil:
    """Bytes at the start of the first string value."""
    return first(b'":"', b'":"' + raw)


def last_key_first(line: bytes) -> bytes:
    import json

    fields = list(json.loads(line).items())
    return json.dumps(dict(fields[-1:] + fields[:-1]), separators=(",", ":"), ensure_ascii=False).encode()


#: What may be done to any line or document of JSON. The row's code leads the name.
SPOILED: dict[str, Spoil] = {
    "H23-key-twice-other-value": lambda line: line[:-1] + b',"zz":1,"zz":2}',
    "H23-key-twice-same-value": lambda line: line[:-1] + b',"zz":1,"zz":1}',
    "H23-key-twice-behind-an-escape": lambda line: line[:-1] + b',"a":1,"\\u0061":2}',
    "H24-lone-surrogate-escape": in_string(rb"\ud800"),
    "H24-reversed-surrogates": in_string(rb"\udc00\ud800"),
    "H24-cut-surrogate-escape": in_string(rb"\ud8"),
    "H24-surrogate-bytes": in_string(b"\xed\xa0\x80"),
    "H25-overlong": in_string(b"\xc0\xaf"),
    "H25-truncated": in_string(b"\xe2\x82"),
    "H25-above-10ffff": in_string(b"\xf4\x90\x80\x80"),
    "H25-latin-1": in_string(b"\xe9"),
    "H25-byte-order-mark": lambda line: b"\xef\xbb\xbf" + line,
    "H25-utf-16": lambda line: line.decode().encode("utf-16-le"),
    "H25-utf-32": lambda line: line.decode().encode("utf-32-be"),
    "H26-nan": value(b"NaN"),
    "H26-infinity": value(b"Infinity"),
    "H26-minus-infinity": value(b"-Infinity"),
    "H26-comment": lambda line: line + b"/* fine */",
    "H26-trailing-comma": lambda line: line[:-1] + b",}",
    "H26-single-quotes": lambda line: line.replace(b'"', b"'"),
    "H26-bare-scalar": lambda line: b"17",
    "H26-array": lambda line: b"[" + line + b"]",
    "H27-beyond-2-53": value(b"9007199254740992"),
    "H27-thousands-of-digits": value(b"9" * 60000),
    "H28-fraction": value(b"1.0"),
    "H28-exponent": value(b"1e3"),
    "H28-minus-zero": value(b"-0"),
    "H28-leading-zero": value(b"01"),
    "H28-plus": value(b"+1"),
    "H29-too-deep": value(b"[" * 40 + b"]" * 40),
    "H29-a-hundred-thousand-brackets": value(b"[" * 100_000 + b"]" * 100_000),
    "H31-space": first(b'":', b'": '),
    "H31-keys-out-of-order": last_key_first,
    "H32-needless-escape": first(b'":"', b'":"\\u0041'),
    "H32-escaped-slash": in_string(rb"\/"),
    "H32-upper-case-hex": in_string(rb"\u001F"),
    "H32-raw-control": in_string(b"\x07"),
    "H33-cr-lf": lambda line: line + b"\r",
    "H33-text-after-the-value": lambda line: line + b" ok",
    "H33-two-values": lambda line: line + line,
}  # fmt: skip


def in_events(spoil: Spoil) -> bytes:
    """The line spoiled; leaves, links, root and seal follow."""
    return package(job().change(EVENT, raw=spoil).members())


def in_rows(name: str, spoil: Spoil) -> bytes:
    """The second line of a member spoiled, with the seal over the ledger following."""
    lines = job().members()[name].split(b"\n")[:-1]
    lines[1] = spoil(lines[1])
    if name == "invocations.jsonl":
        return package(job().members(rows=[]) | _resealed(lines))
    return package(job().members() | {name: b"".join(line + b"\n" for line in lines)})


def _resealed(rows: list[bytes]) -> dict[str, bytes]:
    made = replace(job().parts(), rows=rows)
    return {"seal.json": job().statement(made), "invocations.jsonl": b"".join(row + b"\n" for row in rows)}


PLACES: dict[str, tuple[str, Callable[[Spoil], bytes]]] = {
    "events.jsonl": ("INT", in_events),
    "invocations.jsonl": ("INT", lambda spoil: in_rows("invocations.jsonl", spoil)),
    "disclosures.jsonl": ("INT", lambda spoil: in_rows("disclosures.jsonl", spoil)),
    "manifest.json": ("CON", lambda spoil: archive.build(
        job().members() | {"manifest.json": spoil(job().members()["manifest.json"])})),
    "seal.json": ("AUT", lambda spoil: package(
        job().members() | {"seal.json": spoil(job().members()["seal.json"])})),
    "seal.dsse": ("AUT", lambda spoil: package(job().members(seal=SealMembers(
        job().members()["seal.json"], spoil(SIGNER.envelope(PAYLOAD_TYPE, job().members()["seal.json"])))))),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("case", SPOILED)
def test_json_that_two_parsers_read_differently_fails(case: str, place: str) -> None:
    """One parser's 'approved' is another's 'denied'."""
    layer, build = PLACES[place]
    judged(build(SPOILED[case]), LAYER[layer], 1)


def with_tail(name: str, data: bytes) -> bytes:
    return package(job().members() | {name: data})


JSONL = ("events.jsonl", "invocations.jsonl", "disclosures.jsonl")


@pytest.mark.parametrize("name", JSONL)
@pytest.mark.parametrize("how", ["H33-blank-line", "H33-no-final-lf", "H33-two-final-lfs"])
def test_a_file_of_lines_ends_every_line_once(how: str, name: str) -> None:
    """A blank or unfinished line is where something was cut."""
    data = job().members()[name]
    cut = {"H33-blank-line": data.replace(b"\n", b"\n\n", 1), "H33-no-final-lf": data[:-1]}.get(how, data + b"\n")
    judged(with_tail(name, cut), "integrity", 1)


@pytest.mark.parametrize("name", [*JSONL, "manifest.json", "seal.json", "cells/000001.jsonl"])
def test_H30_a_line_above_the_limit_is_not_read(name: str) -> None:
    """A line of a gigabyte must not be parsed to find out that it is too long."""
    long = b'{"zz":"' + b"x" * 5_000_000 + b'"}\n'
    if name == "cells/000001.jsonl":
        long = b'"' + b"x" * 17 * 2**20 + b'"'
        spec = replace(job().specs[-1], cells={"result": long})
        judged(package(job().with_specs([*job().specs[:-1], spec]).members()), "container", 2)
        return
    members = job().members() | {name: long}
    judged(archive.build(members) if name == "manifest.json" else package(members), "container", 2)


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\u0085"])
def test_H34_unicode_line_ends_do_not_split_a_line(mark: str) -> None:
    """They are legal in JSON strings; readers that split at them would see broken lines."""
    made = job().change(6, data={"reason": f"wait{mark}for a person"}, by=f"user/{mark}x")
    judged(package(made.members()), "none", 3)


WRONG_TYPES: dict[str, Spoil] = {
    "H35-true-for-1": lambda line: edited(line, step=True),
    "H35-true-for-attempt": lambda line: edited(
        line, data={"attempt": True, "duration_us": 9, "effect": "none", "outcome": "failure", "tool_name": "t"}),
    "H35-string-for-7": lambda line: edited(line, seq="12"),
    "H35-null": lambda line: edited(line, by=None),
    "H35-missing": lambda line: line.replace(b'"by":"worker/w1",', b""),
    "H35-one-more": lambda line: edited(line, zz=1),
    "H35-version-true": lambda line: edited(line, v=True),
    "H35-non-ascii-key": lambda line: edited(line, data={"naïve": 1}),
    "H35-commitment-not-hex": lambda line: edited(line, cells={"error": "X" * 64}),
    "H35-outcome-unheard-of": lambda line: edited(
        line, data={"attempt": 1, "duration_us": 9, "effect": "idempotent", "outcome": "maybe", "tool_name": "notify"}),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_TYPES)
def test_a_canonical_line_of_the_wrong_shape_fails(case: str) -> None:
    """`true == 1` in some languages, and a null means what each reader likes."""
    judged(in_events(WRONG_TYPES[case]), "integrity", 1)


ROWS = {
    "H35-ledger-true-for-1": ("invocations.jsonl", lambda line: edited(line, attempt=True)),
    "H35-ledger-null": ("invocations.jsonl", lambda line: edited(line, outcome=None)),
    "H35-ledger-one-more": ("invocations.jsonl", lambda line: edited(line, zz=1)),
    "H35-ledger-move-of-wrong-type": ("invocations.jsonl", lambda line: edited(line, transitions=[7])),
    "H35-disclosure-string-for-number": ("disclosures.jsonl", lambda line: edited(line, seq="3")),
    "H35-disclosure-true-for-number": ("disclosures.jsonl", lambda line: edited(line, offset=False)),
    "H35-disclosure-state-unheard-of": ("disclosures.jsonl", lambda line: edited(line, state="secret")),
}


@pytest.mark.parametrize("case", ROWS)
def test_a_canonical_row_of_the_wrong_shape_fails(case: str) -> None:
    """The same for what stands beside the events."""
    judged(in_rows(*ROWS[case]), "integrity", 1)


@pytest.mark.parametrize("case", ["H36-format", "H36-feature", "H36-feature-that-is-a-list"])
def test_a_later_version_is_said_to_be_one(case: str) -> None:
    """'Use a later verifier' is help; 'failed' would be a false accusation."""
    said = {
        "H36-format": {"format": "aetheris/evidence/v2"},
        "H36-feature": {"requires": ["encrypted-cells"]},
        "H36-feature-that-is-a-list": {"requires": [[]]},
    }[case]
    members = job().members()
    later = archive.build(members | {"manifest.json": edited(members["manifest.json"], **said)})
    verdict = judged(later, "container", 2)
    assert "use a later one" in verdict["container"].summary


BODIES = {"key-twice": b'{"a":1,"a":2}', "nan": b"NaN", "not-json": b"hello", "surrogate": rb'"\ud800"', "two": b"1\n2"}


@pytest.mark.parametrize("how", BODIES)
def test_a_cell_body_that_two_parsers_read_differently_fails(how: str) -> None:
    """A true commitment over an ambiguous body proves an ambiguous body."""
    judged(package(job().change(13, cells={"value": BODIES[how]}).members()), "integrity", 1)


@pytest.mark.parametrize("body", [b"1e400", b"-0.0", b"123456789012345678901234567890", b'{"\xc3\xa9":1.5}'])
def test_a_cell_body_may_hold_what_tools_return(body: bytes) -> None:
    """Models and tools return floats, large integers and any keys."""
    judged(package(job().change(13, cells={"value": body}).members()), "none", 3)


def test_a_body_nested_deep_is_redacted_by_a_field_inside_it() -> None:
    """What the verifier passes is redacted, too."""
    deep = package(job().change(13, cells={"value": b"[" * 700 + b'{"a":1}' + b"]" * 700}).members())
    judged(deep, "none", 3)
    out = io.BytesIO()
    redact(deep, out, [CellSelector("value/a", seq=13)])
    assert b'{"a":1}' not in out.getvalue()
    with pytest.raises(Refused):
        redact(deep, out, [CellSelector("value/b", seq=13)])


def test_the_base_of_this_section_passes() -> None:
    """A row proves something only if its base passes."""
    for name, (_, build) in PLACES.items():
        judged(build(lambda line: line), "none", 3), name


def test_every_row_of_the_section_has_a_case() -> None:
    """A row without a case is a promise nobody holds."""
    named = {case[:3] for case in (*SPOILED, *WRONG_TYPES, *ROWS)} | {"H30", "H34", "H36"}
    assert named == {f"H{n}" for n in range(23, 37)}
