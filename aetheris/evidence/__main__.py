"""`python -m aetheris.evidence FILE [--json] [--trust KEYS]`: the verifier on its own, in standard Python."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from aetheris.domain.errors import Refused
from aetheris.evidence import audit_file
from aetheris.evidence.verify import verify


def main(arguments: list[str] | None = None) -> int:
    """Verify one package or audit chain, print the verdict, and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m aetheris.evidence",
        description="Verify an evidence package or an exported audit chain."
        " Exit 0 verified, 1 failed, 2 unusable, 3 consistent only.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the evidence zip, or the chain (.jsonl)")
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")
    parser.add_argument("--trust", type=Path, metavar="KEYS", help="public keys that you were given, from elsewhere")
    parser.add_argument("--head", metavar="HEX", help="of an audit chain: a head noted elsewhere that it must hold")
    given = parser.parse_args(arguments)
    chain = audit_file.is_chain(given.file)
    if given.head is not None and not chain:
        parser.error("--head goes with an exported audit chain (.jsonl)")
    try:
        verdict = (
            audit_file.verify(given.file, head=given.head, trust=given.trust)
            if chain
            else verify(given.file, trust=given.trust)
        )
    except Refused as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    # ASCII in both forms, so that no terminal's encoding can fail on a stranger's text.
    text = json.dumps(verdict.to_dict(), indent=2) if given.json else str(verdict)
    sys.stdout.write(
        text.encode("ascii" if given.json else (sys.stdout.encoding or "ascii"), "backslashreplace").decode()
    )
    sys.stdout.write("\n")
    return verdict.exit_code


if __name__ == "__main__":
    sys.exit(main())
