"""`export` and `verify`: a job as a zip that a stranger checks offline."""

from __future__ import annotations

import os
from pathlib import Path

import click

from aetheris.cli.main import json_option
from aetheris.cli.screen import Screen, size
from aetheris.domain.errors import Refused
from aetheris.evidence import Verdict, audit_file
from aetheris.evidence import verify as judge

STYLES = {"passed": "green", "failed": "bold red", "not shown": "yellow"}


@click.command()
@click.argument("job")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Where to.  [default: evidence-JOB.zip]"
)
@click.option("--damaged", is_flag=True, help="Export a job whose record is broken, and say so in the package.")
@json_option
def export(job: str, output: Path | None, damaged: bool, screen: Screen) -> None:
    """Write a job's evidence: a zip that anyone verifies with `aetheris verify`.

    The same job gives the same bytes. A broken chain is not exported, unless as --damaged.

    \b
    Example:  aetheris export 7kq2 -o e.zip
    """
    from aetheris.cli.connect import with_system
    from aetheris.cli.remote import export as fetch
    from aetheris.cli.remote import remote
    from aetheris.evidence import write
    from aetheris.runtime.export import evidence_source

    if (api := remote()) is not None:
        if damaged:
            raise Refused("--damaged needs the database itself: through the API no broken record is exported")
        fetch(api, screen, job, output)
        return
    record = with_system(lambda system: system.record(job))
    out = output or Path(f"evidence-{record.row.job[:8]}.zip")
    summary = write(evidence_source(record), out, damaged=damaged)
    sealed = "" if summary.sealed else ", unsealed: the job has not ended"
    signed = "" if record.seal is not None and record.seal.dsse is not None else " (unsigned)"
    screen.fact("evidence", f"{out}, {size(summary.size)}: {summary.verdict.word}{signed}{sealed}")
    screen.json(
        {
            "file": str(out),
            "bytes": summary.size,
            "sha256": summary.sha256,
            "events": summary.events,
            "sealed": summary.sealed,
            "damaged": summary.damaged,
            "verdict": summary.verdict.to_dict(),
        }
    )


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--trust", type=click.Path(path_type=Path), help="Public keys that you were given, not by the package.")
@click.option("--head", metavar="HEX", help="Of an audit chain: a head noted elsewhere that it must hold.")
@json_option
def verify(file: Path, trust: Path | None, head: str | None, screen: Screen) -> int:
    """Verify an evidence zip, or an exported audit chain (.jsonl), offline.

    Exit 0 by a key you gave, 3 self-consistent, 1 failed, 2 unusable. A chain's signature is the file beside it,
    FILE.dsse.

    \b
    Example:  aetheris verify e.zip --trust acme.pub
    """
    is_chain = audit_file.is_chain(file)
    if head is not None and not is_chain:
        raise click.UsageError("--head goes with an exported audit chain (.jsonl)")
    if file.is_dir() or not os.access(file, os.R_OK):
        file.open("rb").close()  # raises what is wrong with it, for one line
    verdict = audit_file.verify(file, head=head, trust=trust) if is_chain else judge(file, trust=trust)
    show_verdict(verdict, screen)
    screen.json(verdict.to_dict())
    return verdict.exit_code


def show_verdict(verdict: Verdict, screen: Screen) -> None:
    """Print the layers and the sentence, as people read them."""
    from rich.text import Text

    screen.table(
        ["", "", ""], [[x.name, Text(x.status, style=STYLES.get(x.status, "")), x.summary] for x in verdict.layers]
    )
    for layer in verdict.failed:
        for finding in layer.findings[1:6]:
            screen.line(f"    {layer.name}: {finding.sentence}", style="red")
    screen.line(f"{verdict.sentence}    exit {verdict.exit_code}", style="bold")
