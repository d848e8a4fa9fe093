"""Makes `data/fixtures`: one clean store, one per named defect, and an evidence zip. Seeded; no clock, no chance.

    python -m aetheris.demo.fixtures data/fixtures

The same release of pyarrow gives the same bytes: it writes the Parquet files,
and its version stands in their footers. With another release the rows are the
same and some bytes are not; then make the folder anew and commit it whole.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sys
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa

from aetheris.demo import (
    fixtures_defects,
    fixtures_defects_calls,
    fixtures_defects_limits,
    fixtures_defects_runs,
    fixtures_jobs,
)
from aetheris.demo.fixtures_defect import DEFECTS, GROUND, Defect
from aetheris.demo.fixtures_scripts import Row, Rows, Script, lay
from aetheris.domain.cells import Cell
from aetheris.domain.errors import AetherisError, Refused
from aetheris.domain.events import read
from aetheris.domain.ledger import transition_of
from aetheris.evidence import Erasure, SealMembers, Source, seal_statement
from aetheris.evidence import write as write_evidence
from aetheris.evidence.dsse import Signer
from aetheris.evidence.statement import PAYLOAD_TYPE
from aetheris.lake import write_lake
from aetheris.lake.index import Index, LakeFile, TableEntry
from aetheris.lake.parquet import TableWriter
from aetheris.lake.schema import TABLES, TableShape

SUMS = "SHA256SUMS"
#: Where the defects stand; loading these puts them into DEFECTS.
FAMILIES = (fixtures_defects, fixtures_defects_calls, fixtures_defects_limits, fixtures_defects_runs)
#: The job that the evidence zip tells of: one with an erased cell.
SHOWN = "erased"


def write(folder: Path) -> dict[str, Defect]:
    """Write all fixtures into `folder`, in place of those that are there, and return the defects.

    Errors: Refused when the folder holds something else.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / SUMS).is_file():
        raise Refused(f"{folder}: holds other things than fixtures; give an empty or new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fixtures-") as made:
        place = Path(made) / "fixtures"
        defects = _write_all(place)
        if folder.exists():
            shutil.rmtree(folder)
        place.rename(folder)
    return defects


def defects() -> dict[str, Defect]:
    """Return every defect by name: its rows, and what must be found in them."""
    return {name: make(_ground()) for name, make in DEFECTS.items()}


def sums(folder: Path) -> str:
    """Return the SHA-256 of every file below `folder`, as `sha256sum` prints them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    lines = (f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder).as_posix()}\n" for p in files)
    return "".join(lines)


def _write_all(folder: Path) -> dict[str, Defect]:
    jobs = fixtures_jobs.scripts()
    rows = lay(jobs.values())
    fixtures_jobs.clean(jobs, rows)
    _write_store(folder / "clean", rows)
    _write_package(folder / "evidence" / "clean.zip", rows, jobs[SHOWN])
    made = defects()
    for defect in made.values():
        _write_store(folder / defect.name, defect.rows)
    (folder / "expected.json").write_text(json.dumps(_expected(made), indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_readme(made), encoding="utf-8")
    (folder / SUMS).write_text(sums(folder), encoding="utf-8")
    return made


def _ground() -> dict[str, Script]:
    return {name: getattr(fixtures_jobs, name)() for name in GROUND}


def _write_store(folder: Path, rows: Rows) -> None:
    tables = {}
    for name, told in rows.tables.items():
        shape = TABLES[name]
        columns = [[row[column] for row in told] for column in shape.source]
        tables[name] = pa.Table.from_batches([shape.batch(columns)])
    at = max(row["recorded_at"] for told in rows.tables.values() for row in told)
    index = write_lake(folder, tables, at=at)
    if rows.forged:
        _forge(folder, index, TABLES["events"], tables["events"], rows)


def _forge(folder: Path, index: Index, shape: TableShape, events: pa.Table, rows: Rows) -> None:
    # The lake's writer derives these columns from the line; a forger writes the file once more.
    told = events.to_pylist()
    for job, seq, column, value in rows.forged:
        next(row for row in told if (row["job_id"], row["seq"]) == (job, seq))[column] = value
    for file in index.tables["events"].files:
        (folder / file.path).unlink()
    writer = TableWriter(shape, folder, numbered=True)
    writer.add(pa.RecordBatch.from_pylist(told, schema=shape.arrow))
    files = tuple(LakeFile(f.path, f.sha256, f.bytes, f.rows) for f in writer.finish())
    replace(index, tables=index.tables | {"events": TableEntry(files)}).write(folder)


def _write_package(path: Path, rows: Rows, script: Script) -> None:
    def mine(table: str) -> list[Row]:
        return [row for row in rows.table(table) if row["job_id"] == script.job]

    lines = [row["line"].encode() for row in mine("events")]
    told = [transition_of(read(line)) for line in lines]
    source = Source(
        script.tenant,
        script.job,
        lines,
        [
            Cell(row["seq"], row["name"], row["salt"], None if row["body"] is None else row["body"].encode())
            for row in mine("cells")
        ],
        [t for t in told if t is not None],
        [Erasure(row["seq"], row["name"], row["audit_seq"]) for row in mine("erasures")],
    )
    path.parent.mkdir(parents=True)
    write_evidence(source, path)
    # The same, sealed under a key that protects nothing: its private half stands here.
    signer = Signer("fixture", hashlib.sha256(b"aetheris fixtures").digest())
    statement = seal_statement(source)
    signed = SealMembers(statement, signer.envelope(PAYLOAD_TYPE, statement))
    write_evidence(replace(source, seal=signed), path.with_name("signed.zip"))
    path.with_name("fixture.pub").write_bytes(base64.b64encode(signer.public.raw) + b"\n")


def _expected(made: dict[str, Defect]) -> dict[str, dict[str, object]]:
    sound: dict[str, dict[str, object]] = {"clean": {"done": "Nothing is wrong.", "violations": {}}}
    return sound | {name: {"done": defect.done, "violations": _by_check(defect)} for name, defect in made.items()}


def _by_check(defect: Defect) -> dict[str, list[dict[str, object]]]:
    told: dict[str, list[dict[str, object]]] = {}
    for found in sorted(defect.violations):
        told.setdefault(found.check, []).append({"job": found.job, "seq": found.seq, "rule": found.rule})
    return told


def _readme(made: dict[str, Defect]) -> str:
    lines = [
        "# Fixtures",
        "",
        "Made by `make fixtures` from one seed; nothing here is edited by hand. `clean/` is a lake of 20 jobs by two",
        "tenants in which every check passes. Each other folder is a small lake in which one thing was done, and",
        "`expected.json` names every violation that the checks must find there, and no other.",
        "`evidence/clean.zip` is one job's evidence, `signed.zip` the same signed; `fixture.pub` verifies it.",
        "`SHA256SUMS` lists every file (`sha256sum -c SHA256SUMS`).",
        "",
        "How each was made, in a function of its own: `aetheris/demo/fixtures_defects*.py`. Salts and ids are derived",
        "from the seed, so they protect nothing here. People and accounts are invented.",
        f"The Parquet files were written by pyarrow {version('pyarrow')}, whose version stands in their footers.",
        "",
        "| folder | what was done | found by |",
        "|---|---|---|",
    ]
    for name, defect in made.items():
        found = ", ".join(_by_check(defect))
        lines.append(f"| `{name}` | {defect.done} | {found} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Write the fixtures into the folder that is named."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m aetheris.demo.fixtures FOLDER\n")
        return 2
    folder = Path(arguments[0])
    try:
        made = write(folder)
    except AetherisError as error:
        sys.stderr.write(f"aetheris: {error}\n")
        return error.exit_code
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    sys.stdout.write(f"{folder}: a clean store, {len(made)} damaged ones, two evidence zips; {size / 1e6:.1f} MB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
