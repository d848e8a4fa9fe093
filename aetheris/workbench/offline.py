"""Verification as a stranger does it: in a process of its own that has no database and no network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import aetheris
from aetheris.domain.errors import Refused, Unusable
from aetheris.domain.rows import Rows

SECONDS = 120.0
#: Isolated, and told to fail where anything reaches for a socket or for what speaks to a database.
_ALONE = """
import sys
sys.path.append(sys.argv.pop(1))
def refuse(event, args):
    if event.startswith("socket.") or (event == "import" and args[0].partition(".")[0] in %r):
        raise RuntimeError(f"the verifier reached for {args[0] if event == 'import' else event}")
sys.addaudithook(refuse)
from aetheris.evidence.__main__ import main
sys.exit(main())
""" % (("psycopg", "psycopg_pool", "duckdb", "pyiceberg", "sqlalchemy"),)  # noqa: UP031  braces are the child's


class Offline:
    """A verdict that another process came to: its exit code and what it said of each layer."""

    def __init__(self, exit_code: int, word: str, layers: Rows) -> None:
        self.exit_code, self.word, self.layers = exit_code, word, layers

    def __repr__(self) -> str:
        return f"{self.layers!r}\n{self.word} (exit {self.exit_code}), by a process without network and database"

    def _repr_html_(self) -> str:
        words = f"{self.word} (exit {self.exit_code}), by a process without network and database"
        return f"{self.layers._repr_html_()}<p>{words}</p>"


def verify_offline(path: str | Path, trust: str | Path | None = None) -> Offline:
    """Return the verdict over an evidence zip by `python -m aetheris.evidence` in a process of its own.

    Its environment is empty, and opening a socket or importing a database's
    driver fails there, so a verdict that comes needed neither. `trust` is a
    file of public keys that you were given. Errors: Refused, when that is
    none; Unusable, when no verdict came.
    """
    words = [str(Path(path).absolute()), "--json"]
    words += [] if trust is None else ["--trust", str(Path(trust).absolute())]
    root = str(Path(aetheris.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-I", "-c", _ALONE, root, *words],
        env={},
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    try:
        told = json.loads(done.stdout)
    except ValueError:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise (Refused if done.returncode == Refused.exit_code else Unusable)(said) from None
    rows = [[layer["layer"], layer["status"], layer["summary"]] for layer in told["layers"]]
    return Offline(done.returncode, told["verdict"], Rows(["layer", "verdict", "seen"], rows))
