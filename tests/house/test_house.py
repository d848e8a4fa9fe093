"""The house rules that no linter knows."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from aetheris.domain.jobs import MOVES, JobStatus
from aetheris.domain.ledger import MOVES as LEDGER_MOVES
from aetheris.forensics import library

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("aetheris/**/*.py"), *ROOT.glob("ingest/**/*.py")])
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SQL = re.compile(r"\b(SELECT\s.+\sFROM|INSERT\s+INTO|UPDATE\s+\w+.*\sSET|DELETE\s+FROM)\b", re.DOTALL | re.IGNORECASE)


def names(requirements: list[str]) -> set[str]:
    """Return the packages' names in PyPI's normal form."""
    return {re.split(r"[\[<>=!~ ]", r)[0].lower().replace("_", "-") for r in requirements}


def test_imports_run_down_the_house() -> None:
    """The rooms' order is what lets the verifier stand alone and the lake be read without us."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize("path", [p for p in SOURCES if "store" not in p.parts], ids=lambda p: str(p.relative_to(ROOT)))
def test_no_sql_outside_its_rooms(path: Path) -> None:
    """A statement has one home: store/ for PostgreSQL, queries/ for DuckDB."""
    tree = ast.parse(path.read_text())
    docs = {
        ast.get_docstring(n, clean=False)
        for n in ast.walk(tree)
        if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    }
    found = [
        f"line {n.lineno}: {n.value[:60]!r}"
        for n in ast.walk(tree)
        if isinstance(n, ast.Constant) and isinstance(n.value, str) and n.value not in docs and SQL.search(n.value)
    ]
    # The session itself turns files into views; that is its one statement.
    assert not found or path.name == "session.py", found


@pytest.mark.parametrize("text", ["SELECT a FROM b", "select a\nfrom b", "insert into t", "Update t set a = 1"])
def test_sql_is_known_whatever_its_case(text: str) -> None:
    """Lower case is how ours is written: a rule that sees capitals alone sees nothing."""
    assert SQL.search(text)


def test_files_fit_in_the_head() -> None:
    """300 lines is where a reader begins to scroll back."""
    long = {str(p.relative_to(ROOT)): n for p in SOURCES if (n := len(p.read_text().splitlines())) > 340}
    assert not long


def test_every_public_thing_has_a_docstring() -> None:
    """The promise first: what isn't promised can't be relied on."""
    bare = []
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        if path.name != "__init__.py" or path.read_text().strip():
            bare += [str(path)] * (ast.get_docstring(tree) is None)
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith(
                "_"
            ):
                overloaded = any("overload" in ast.unparse(d) for d in node.decorator_list)
                bare += [f"{path}: {node.name}"] * (ast.get_docstring(node) is None and not overloaded)
    assert not bare


def test_constraints_pin_by_name_and_version_only() -> None:
    """No address of an index may steer where packages come from; every dependency is pinned."""
    lines = [x for x in (ROOT / "constraints.txt").read_text().splitlines() if x and not x.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line) for line in lines)
    pinned = names(lines)
    wanted = names(PROJECT["dependencies"])
    for extra in PROJECT["optional-dependencies"].values():
        wanted |= names(extra)
    assert wanted <= pinned


def test_environment_and_pyproject_say_the_same() -> None:
    """Conda users get what pip users get: environment.yml takes the extras but the bench's peer."""
    text = (ROOT / "environment.yml").read_text()
    extras = ",".join(extra for extra in PROJECT["optional-dependencies"] if extra != "bench")
    assert f"-e .[{extras}]" in text
    assert "-c constraints.txt" in text
    assert f"python{PROJECT['requires-python']}" in text


def test_every_dependency_has_its_reason() -> None:
    """docs/dependencies.md says why for each, a line each."""
    text = (ROOT / "docs" / "dependencies.md").read_text()
    wanted = names(PROJECT["dependencies"])
    for extra in PROJECT["optional-dependencies"].values():
        wanted |= names(extra)
    assert not [n for n in sorted(wanted) if f"`{n}`" not in text]


@pytest.mark.parametrize("query", library.library().values(), ids=lambda q: q.name)
def test_every_query_keeps_its_contract(query: library.Query) -> None:
    """Front matter is what auditors read: title, what it is blind to, and the columns it truly returns."""
    import duckdb

    from aetheris.lake import TABLES

    connection = duckdb.connect()
    for name, shape in TABLES.items():
        connection.register(f"given_{name}", shape.arrow.empty_table())
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM given_{name}")
    binds = dict.fromkeys(query.binds)
    found = connection.execute(f"DESCRIBE {query.sql}", binds or None).fetchall()
    assert query.title
    assert query.notes["blind to"]
    assert tuple((row[0], row[1]) for row in found) == query.columns


def test_the_checks_know_the_same_moves_as_the_code() -> None:
    """The tables of states stand twice, in Python and in SQL: they may not part."""
    pair = re.compile(r"\('(\w*)', '(\w+)'\)")
    told = set(pair.findall(library.get("integrity/moves").sql))
    assert told == {(a.word, b.word) for a, after in MOVES.items() for b in after} | {
        # Events that don't move the job stand between these.
        (JobStatus.PENDING.word, JobStatus.PENDING.word),
        (JobStatus.WAITING.word, JobStatus.WAITING.word),
    }
    triple = re.compile(r"\('(\w+)', '(\w*)', '(\w+)'\)")
    assert set(triple.findall(library.get("integrity/calls").sql)) == {
        (effect, before, after)
        for effect, moves in LEDGER_MOVES.items()
        for before, afters in moves.items()
        for after in afters
    }


def test_every_command_has_help_with_an_example() -> None:
    """Help that shows nothing to paste is not help."""
    import click

    from aetheris.cli.main import COMMANDS, cli

    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        assert command.help
        assert "Example:" in command.help, name


def test_help_fits_eighty_columns_and_nothing_of_it_is_cut() -> None:
    """click ends a list's long sentences with three dots, and leaves an example as wide as it was written."""
    import click

    from aetheris.cli.main import cli

    def look(command: click.Command, words: str, above: click.Context | None) -> None:
        # With its own settings: click keeps the help option that the first context makes, for whoever asks next.
        context = click.Context(command, parent=above, info_name=words, terminal_width=80, **command.context_settings)
        told = command.get_help(context).partition("\n")[2]  # under the usage, where dots mean "several"
        assert [line for line in told.splitlines() if len(line) > 80 or line.endswith("...")] == [], words
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                below = command.get_command(context, name)
                assert below is not None
                look(below, name, context)

    look(cli, "aetheris", None)
