"""H37 to H53: edited, dropped, added, moved and replayed events; and the same with every hash laid anew.

The rebuilt twin is what an attacker without the key can do. Where the edit
leaves a story that contradicts itself nowhere, it ends at 3, never at 0:
only a signature tells it apart. Contradictions stay 1.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from aetheris.domain import canonical, merkle
from aetheris.evidence import archive
from aetheris.evidence.disclosures import Disclosure
from tests.evidence.evidence_job import (
    LAYER,
    Job,
    Spec,
    base,
    edited,
    genesis,
    judged,
    package,
)

Lines = list[bytes]
ZEROS = "0" * 64


@cache
def job() -> Job:
    return base()


@cache
def other() -> Job:
    """A second job of the same tenant."""
    name = "other" + job().job[5:]
    return base().with_specs([genesis(job=name), *job().specs[1:]], job=name, seed=8)


def lines_as(change: Callable[[Lines], object]) -> bytes:
    """Only events.jsonl changed; leaves, seal and cells as they were."""
    lines = list(job().lines)
    made = change(lines)
    lines = made if isinstance(made, list) else lines
    return package(job().members() | {"events.jsonl": b"".join(line + b"\n" for line in lines)})


def line_edited(number: int, **fields: object) -> bytes:
    return lines_as(lambda lines: lines.__setitem__(number - 1, edited(lines[number - 1], **fields)))


def leaves_as(change: Callable[[list[bytes]], list[bytes]]) -> bytes:
    leaves = [merkle.leaf_hash(line) for line in job().lines]
    return package(job().members() | {"leaves.bin": b"".join(change(leaves))})


def rebuilt(specs: list[Spec], **fields: object) -> bytes:
    """All hashes, leaves, root, ledger, cells and seal laid anew over other events."""
    return package(job().with_specs(specs, **fields).members())


def specs(change: Callable[[list[Spec]], object]) -> list[Spec]:
    made = list(job().specs)
    change(made)
    return made


def sealed_wrongly(**wrong: object) -> bytes:
    return package(job().members() | {"seal.json": job().statement(job().parts(), **wrong)})


def tail_cut() -> bytes:
    short = job().with_specs(job().specs[:-2], sealed=False)
    return package(short.members() | {"seal.json": job().members()["seal.json"]})


def swapped(lines: Lines) -> None:
    lines[4], lines[5] = lines[5], lines[4]


def flip(data: bytes, at: int = 40) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def node_as_leaf(leaves: list[bytes]) -> list[bytes]:
    return [merkle.node_hash(*leaves[:2]), *leaves[2:]]


def artifact(change: Callable[[dict[str, bytes]], object]) -> bytes:
    members = dict(job().members())
    change(members)
    return package(members)


def uncommitted() -> bytes:
    """An artifact with a row of its own, that no event knows."""
    cells = [*job().shown(), Disclosure(17, "artifact/forged.pdf", "shown", b"\x07" * 32, b"forged")]
    return package(job().members(cells=cells))


def replayed(**changes: str) -> bytes:
    made = replace(job(), **changes)
    return package(made.members(), tenant=made.tenant, job=made.job)


CASES: dict[str, tuple[str, int, Callable[[], bytes]]] = {
    "H37-one-byte-edited": ("INT", 1, lambda: lines_as(lambda x: x.__setitem__(5, x[5].replace(b"doubt", b"doub7")))),
    "H37-a-number-edited": ("INT", 1, lambda: line_edited(10, step=3)),
    "H38-dropped": ("INT", 1, lambda: lines_as(lambda x: x.pop(5))),
    "H39-inserted": ("INT", 1, lambda: lines_as(lambda x: x.insert(5, edited(x[5], by="worker/w9")))),
    "H39-inserted-twice": ("INT", 1, lambda: lines_as(lambda x: x.insert(5, x[5]))),
    "H40-swapped": ("INT", 1, lambda: lines_as(swapped)),
    "H41-tail-cut": ("COM", 1, tail_cut),
    "H42-genesis-gone": ("INT", 1, lambda: lines_as(lambda x: x.pop(0))),
    "H42-second-genesis": ("INT", 1, lambda: lines_as(lambda x: x.insert(4, x[0]))),
    "H43-seq-doubled": ("COM", 1, lambda: rebuilt(specs(lambda s: s.__setitem__(5, replace(s[5], seq=5))))),
    "H43-seq-skipped": ("COM", 1, lambda: rebuilt([*job().specs[:15], *(replace(s, seq=n) for n, s in
                                                   enumerate(job().specs[15:], 17))])),
    "H43-seq-not-from-1": ("COM", 1, lambda: rebuilt([replace(s, seq=n) for n, s in enumerate(job().specs, 2)],
                                                     hidden={})),
    "H43-seq-unlike-the-line": ("COM", 1, lambda: rebuilt(
        specs(lambda s: (s.__setitem__(14, replace(s[14], seq=16)), s.__setitem__(15, replace(s[15], seq=15)))))),
    "H44-prev-wrong": ("INT", 1, lambda: line_edited(9, prev="ab" * 32)),
    "H44-prev-upper-case": ("INT", 1, lambda: line_edited(9, prev=job().told[8].prev.upper())),
    "H44-prev-short": ("INT", 1, lambda: line_edited(9, prev=job().told[8].prev[:40])),
    "H44-prev-zeros-later": ("INT", 1, lambda: line_edited(9, prev=ZEROS)),
    "H44-prev-of-the-first": ("INT", 1, lambda: line_edited(1, prev="ab" * 32)),
    "H45-fork": ("INT", 1, lambda: line_edited(9, prev=job().told[7].prev)),
    "H46-splice": ("INT", 1, lambda: lines_as(lambda x: x.extend(other().lines))),
    "H47-another-tenant": ("INT", 1, lambda: replayed(tenant="globex")),
    "H47-another-job": ("INT", 1, lambda: replayed(job=other().job)),
    "H47-only-the-manifest": ("INT", 1, lambda: package(job().members(), tenant="globex")),
    "H47-seal-of-another-configuration": ("INT", 1, lambda: sealed_wrongly(config_sha256="d1" * 32)),
    "H47-seal-of-another-tenant": ("INT", 1, lambda: sealed_wrongly(tenant="globex")),
    "H47-seal-of-another-job": ("INT", 1, lambda: sealed_wrongly(job=other().job)),
    "H48-wrong-leaf": ("INT", 1, lambda: leaves_as(lambda x: [*x[:3], bytes(32), *x[4:]])),
    "H48-not-a-multiple": ("INT", 1, lambda: leaves_as(lambda x: [*x, b"\0"])),
    "H48-too-few": ("INT", 1, lambda: leaves_as(lambda x: x[:-1])),
    "H48-too-many": ("INT", 1, lambda: leaves_as(lambda x: [*x, bytes(32)])),
    "H48-reordered": ("INT", 1, lambda: leaves_as(lambda x: [x[1], x[0], *x[2:]])),
    "H49-node-hash-as-leaf": ("INT", 1, lambda: leaves_as(node_as_leaf)),
    "H49-node-body-as-leaf": ("INT", 1, lambda: lines_as(
        lambda x: [b"".join(map(merkle.leaf_hash, x[:2])), *x[2:]])),
    "H49-prefix-dropped": ("INT", 1, lambda: leaves_as(
        lambda x: [hashlib.sha256(line).digest() for line in job().lines])),
    "H50-last-leaf-twice": ("INT", 1, lambda: leaves_as(lambda x: [*x, x[-1]])),
    "H50-last-subtree-twice": ("INT", 1, lambda: leaves_as(lambda x: [*x, *x[-2:]])),
    "H50-last-event-twice": ("INT", 1, lambda: lines_as(lambda x: x.append(x[-1]))),
    "H51-head": ("INT", 1, lambda: sealed_wrongly(head_leaf="ab" * 32)),
    "H51-root": ("INT", 1, lambda: sealed_wrongly(merkle_root="ab" * 32)),
    "H51-count": ("COM", 1, lambda: sealed_wrongly(event_count=18)),
    "H52-empty-job": ("COM", 1, lambda: rebuilt([], hidden={})),
    "H52-no-end": ("COM", 1, lambda: rebuilt(job().specs[:-1])),
    "H52-events-after-the-end": ("COM", 1, lambda: rebuilt(
        [*job().specs, Spec("job_parked", {"reason": "x"}, epoch=2)])),
    "H52-two-ends": ("COM", 1, lambda: rebuilt([*job().specs, job().specs[-1]])),
    "H53-artifact-edited": ("INT", 1, lambda: artifact(
        lambda m: m.update({"artifacts/000001.bin": flip(m["artifacts/000001.bin"], 3)}))),
    "H53-artifact-missing": ("INT", 1, lambda: artifact(lambda m: m.pop("artifacts/000002.bin"))),
    "H53-artifact-no-event-commits-to": ("INT", 1, lambda: artifact(
        lambda m: m.update({"artifacts/000003.bin": b"x"}))),
    "H53-artifact-with-a-row-and-no-event": ("INT", 1, uncommitted),
}  # fmt: skip


def lead(number: int, **fields: object) -> list[Spec]:
    return specs(lambda s: s.__setitem__(number - 1, replace(s[number - 1], **fields)))  # type: ignore[arg-type]


def unknown_leaf(line: bytes) -> bytes:
    return hashlib.sha256(line).digest()


#: The same edits with everything recomputed that an attacker without the key can recompute.
TWINS: dict[str, tuple[str, int, Callable[[], bytes]]] = {
    "H37-edited": ("AUT", 3, lambda: rebuilt(lead(6, data={"reason": "all is well"}))),
    "H38-dropped-and-renumbered": ("AUT", 3, lambda: rebuilt(specs(lambda s: s.pop(5)))),
    "H38-dropped-and-a-gap-left": ("COM", 1, lambda: rebuilt(
        [*job().specs[:5], *(replace(s, seq=n) for n, s in enumerate(job().specs[6:], 7))])),
    "H38-an-end-dropped": ("LED", 1, lambda: rebuilt(specs(lambda s: s.pop(9)))),
    "H39-inserted": ("AUT", 3, lambda: rebuilt(specs(lambda s: s.insert(12, s[12])))),
    "H39-a-second-end-inserted": ("LED", 1, lambda: rebuilt(specs(lambda s: s.insert(10, s[9])))),
    "H40-swapped-with-their-times": ("TIM", 1, lambda: rebuilt(specs(lambda s: s.__setitem__(
        slice(14, 16), [replace(s[15], at=job().told[15].at), replace(s[14], at=job().told[14].at)])))),
    "H40-swapped-a-start-and-its-end": ("LED", 1, lambda: rebuilt(specs(lambda s: s.insert(9, s.pop(8))))),
    "H41-tail-cut": ("COM", 1, lambda: rebuilt(job().specs[:-2])),
    "H41-tail-cut-and-unsealed": ("AUT", 3, lambda: rebuilt(job().specs[:-2], sealed=False)),
    "H42-genesis-gone": ("INT", 1, lambda: rebuilt(job().specs[1:], hidden={})),
    "H42-second-genesis": ("INT", 1, lambda: rebuilt(specs(lambda s: s.insert(5, genesis())))),
    "H44-prev-wrong": ("INT", 1, lambda: rebuilt(lead(9, prev="ab" * 32))),
    "H44-prev-upper-case": ("INT", 1, lambda: rebuilt(lead(9, prev="AB" * 32))),
    "H44-prev-zeros-later": ("INT", 1, lambda: rebuilt(lead(9, prev=ZEROS))),
    "H44-prev-of-the-first": ("INT", 1, lambda: rebuilt(lead(1, prev="ab" * 32))),
    "H45-fork": ("INT", 1, lambda: rebuilt(lead(9, prev=job().told[7].prev))),
    "H46-splice": ("INT", 1, lambda: rebuilt([*job().specs, *other().specs])),
    "H46-splice-without-the-second-genesis": ("COM", 1, lambda: rebuilt([*job().specs, *other().specs[1:]])),
    "H47-all-recommitted": ("AUT", 3, lambda: package(other().members(), job=other().job)),
    "H47-cells-of-the-first-job": ("INT", 1, lambda: package(other().members(cells=job().shown()), job=other().job)),
    "H48-leaves": ("AUT", 3, lambda: rebuilt(job().specs)),
    "H49-prefix-dropped-everywhere": ("INT", 1, lambda: rebuilt(job().specs, leaf=unknown_leaf)),
    "H50-last-event-twice": ("COM", 1, lambda: rebuilt([*job().specs, job().specs[-1]])),
    "H51-seal": ("AUT", 3, lambda: rebuilt(job().specs)),
    "H52-no-end-and-unsealed": ("AUT", 3, lambda: rebuilt(job().specs[:-1], sealed=False)),
    "H53-artifact-recommitted": ("AUT", 3, lambda: rebuilt(lead(14, cells={"artifact/a.bin": b"forged"}))),
    "H59-epoch-falls": ("LED", 1, lambda: rebuilt(lead(13, epoch=1))),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_chain_that_was_touched_fails_where_it_was_touched(case: str) -> None:
    """An auditor is told which event, not only that something is wrong."""
    layer, code, made = CASES[case]
    judged(made(), LAYER[layer], code)


@pytest.mark.parametrize("case", TWINS)
def test_a_rebuilt_twin_is_never_verified(case: str) -> None:
    """Recomputed hashes make a story consistent, never authentic."""
    layer, code, made = TWINS[case]
    judged(made(), LAYER[layer], code)


def test_one_edited_byte_names_its_event() -> None:
    """The number is what the auditor looks up."""
    verdict = judged(CASES["H37-one-byte-edited"][2](), "integrity", 1)
    assert verdict["integrity"].findings[0].where == "event 6"


def test_a_tail_cut_without_its_seal_is_not_said_to_be_complete() -> None:
    """'Passed' for completeness would be a lie where nothing counts the events."""
    verdict = judged(TWINS["H41-tail-cut-and-unsealed"][2](), "authenticity", 3)
    assert verdict["completeness"].status == "not shown"


@pytest.mark.parametrize("how", ["subject-missing", "subject-empty", "other-digest", "one-of-several", "other-seal"])
def test_a_seal_over_something_else_fails_as_a_statement(how: str) -> None:
    """H68 and H75, as far as they go without keys."""
    members = job().members()
    value = json.loads(members["seal.json"])
    wrong = {"digest": {"sha256": "ab" * 32}, "name": "events.jsonl"}
    match how:
        case "subject-missing":
            del value["subject"]
        case "subject-empty":
            value["subject"] = []
        case "other-digest":
            value["subject"] = [wrong]
        case "one-of-several":
            value["subject"].append(wrong)
    made = members | {"seal.json": canonical.dumps(value)}
    data = package(made)
    if how == "other-seal":
        digest = hashlib.sha256(members["seal.json"]).hexdigest().encode()
        manifest = members["manifest.json"].replace(b'"seal":"' + digest, b'"seal":"' + b"ab" * 32)
        data = archive.build(members | {"manifest.json": manifest})
    judged(data, "authenticity", 1)


def test_every_row_of_the_section_has_a_case() -> None:
    """A row without a case is a promise nobody holds."""
    assert {case[:3] for case in CASES} == {f"H{n}" for n in range(37, 54)}
