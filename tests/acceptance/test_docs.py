"""The manuals: every command in them is one that there is, the tutorial runs as it stands, and the site builds."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
import psycopg
import pytest

from aetheris.cli.demo import _next as what_next
from aetheris.cli.lake import told_of
from aetheris.cli.main import cli
from aetheris.domain.events import TYPES
from aetheris.runtime.mirror_batch import Discrepancy
from aetheris.store.database import Database
from aetheris.store.embedded import ADMIN, Embedded
from tools import reference
from tools.words import EVENTS, KEYS

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
MANUALS = sorted([ROOT / "README.md", *(p for p in ROOT.glob("docs/*.md") if p.name != "decisions.md")])
#: A fenced block, the HTML comment before it, and the fence's language.
BLOCK = re.compile(r"(?:<!-- (?P<mark>[^>]*) -->\n)?```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
JOB_ID = re.compile(r"\b[0-9a-z]{40}\b")
#: Stands in the manuals for the start of the reader's own job's id.
STAND_IN = "7kq2"
AT_REST = "SELECT count(*) FROM aetheris.jobs WHERE status IN (0, 1, 7) OR inbox > 0"


def blocks(path: Path) -> Iterator[re.Match[str]]:
    """Every fenced block of a manual."""
    return BLOCK.finditer(path.read_text())


def shown(text: str) -> list[tuple[str, list[str]]]:
    """The commands of a block, each with the lines of output shown under it; without `$` every line is a command."""
    lines = text.splitlines()
    if not any(line.startswith("$ ") for line in lines):
        return [(line, []) for line in lines if line.strip()]
    found: list[tuple[str, list[str]]] = []
    for line in lines:
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line.strip() and found:
            found[-1][1].append(line)
    return found


@dataclass
class Reader:
    """Somebody who types what a manual says, in one terminal."""

    cwd: Path
    env: dict[str, str]
    dsn: str
    job: str = ""
    said_first: str = ""
    jobs: set[str] = field(default_factory=set)

    def follow(self, path: Path) -> int:
        """Do what the marked blocks say, in order; return how many commands were run."""
        count = 0
        for block in blocks(path):
            mark = block["mark"] or ""
            if mark.startswith("file "):
                (self.cwd / mark.removeprefix("file ")).write_text(block["text"])
            if not mark.startswith("run"):
                continue
            last = int(mark.rpartition(" ")[2]) if "exit" in mark else 0
            commands = shown(block["text"])
            for number, (command, lines) in enumerate(commands, 1):
                said, code = self.type(command)
                assert code == (last if number == len(commands) else 0), (command, said)
                self.compare(command, lines, said)
            count += len(commands)
        return count

    def type(self, command: str) -> tuple[str, int]:
        """Run one command in the terminal's folder and environment; return what it says, and its exit code."""
        words = command.replace(STAND_IN, self.job[:12] or STAND_IN).replace("make demo", "aetheris demo")
        after = self.cwd.parent / "after"
        script = f"{words}\nrc=$?; env -0 > {after}.env; pwd > {after}.cwd; exit $rc\n"
        started = subprocess.Popen(
            ["bash", "-c", script], cwd=self.cwd, env=self.env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        if command.endswith("# Ctrl-C"):
            self.interrupt(started)
        said = started.communicate(timeout=60)[0]
        self.said_first = self.said_first or said
        self.cwd = Path(Path(f"{after}.cwd").read_text().strip())
        pairs = Path(f"{after}.env").read_text().split("\0")
        self.env = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        self.jobs |= (found := set(JOB_ID.findall(said)))
        self.job = found.pop() if len(found) == 1 else self.job
        if command == "make demo":  # the reader picks one that `aetheris jobs` lists
            self.type("aetheris jobs --json --limit 1")
        assert "Traceback" not in said, said
        return said, started.returncode

    def interrupt(self, started: subprocess.Popen[str]) -> None:
        """Press Ctrl-C once every job is at rest."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for _ in range(400):
                row = connection.execute(AT_REST).fetchone()
                if row == (0,):
                    break
                time.sleep(0.1)
        time.sleep(0.5)  # a worker that finds nothing to do may not listen for signals yet
        for child in Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGINT)

    def compare(self, command: str, lines: list[str], said: str) -> None:
        """Hold each line shown to the output: the same words in the same order, whatever the figures and names."""
        left = iter([self.shape(line) for line in said.splitlines()])
        for line in lines:
            if line != "...":
                assert self.shape(line) in left, (command, line, said)

    def shape(self, line: str) -> str:
        """What of a line is the same for every reader."""
        line = re.sub(r"serves (\w+) at .*", r"serves \1", line)
        line = re.sub(r"(?<=, )(embedded in|at) \S+", "PLACE", line)
        line = re.sub(r"(?<=aetheris trace )\w+", "N", line)
        line = re.sub(r"[\d.,:]+ (µs|ms|s|min|h|d)\b", "TIME", line)
        words = [self.word(w) for w in line.split()]
        return " ".join(words)

    def word(self, word: str) -> str:
        """A figure, a name of the machine or of a job stands for any other."""
        bare = word.rstrip("…,.")
        of_a_job = len(bare) >= 4 and any(job.startswith(bare) for job in self.jobs)
        figure = bool(re.search(r"\d", bare)) and "acme-2026" not in bare
        if word.endswith("…") or figure or of_a_job or bare.startswith("user/") or bare.endswith("/lake"):
            return "N"
        return word


@pytest.fixture
def reader(tmp_path: Path, database: Database) -> Reader:
    """A newcomer in an empty folder with an empty home."""
    work, home = tmp_path / "work", tmp_path / "home"
    work.mkdir()
    home.mkdir()
    env = {
        "PATH": f"{BIN}:/usr/bin:/bin",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "AETHERIS_DSN": database.admin_dsn,
        "AETHERIS_HOME": str(home / ".aetheris"),
        "USER": os.environ.get("USER", ""),
    }
    return Reader(work, env, database.admin_dsn)


def test_the_tutorial_runs_as_it_stands(reader: Reader) -> None:
    """Somebody's first ten minutes: each command, its exit code, and the lines that are shown under it."""
    assert reader.follow(ROOT / "docs" / "tutorial.md") >= 20


def test_the_readmes_five_minutes_run_as_they_stand(reader: Reader) -> None:
    """The first thing that anybody types, in a clone."""
    (reader.cwd / ".venv" / "bin").mkdir(parents=True)
    (reader.cwd / ".venv" / "bin" / "aetheris").symlink_to(BIN / "aetheris")
    (reader.cwd / "Makefile").touch()
    assert reader.follow(ROOT / "README.md") >= 8
    assert "Next:  .venv/bin/aetheris jobs" in reader.said_first


def test_where_no_clone_is_the_demo_names_no_venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed from the wheel there is no .venv here, and no `make lab`."""
    monkeypatch.chdir(tmp_path)
    assert what_next("7kq2dg") == "Next:  aetheris jobs      aetheris trace 7kq2dg"


def test_a_tutorial_that_shows_what_is_not_said_fails(reader: Reader) -> None:
    """A check of shown output that lets anything pass would be none."""
    reader.compare("x", ["sealed     3 jobs"], "sealed     1 jobs\n")
    with pytest.raises(AssertionError):
        reader.compare("x", ["sealed     1 job", "closed     1 job"], "sealed     1 job\n")
    with pytest.raises(AssertionError):
        reader.compare("x", ["drained    1 completed"], "drained    1 parked\n")


def test_the_logins_of_a_managed_server_may_what_the_manual_says_and_no_more(tmp_path: Path) -> None:
    """An administrator who is no superuser prepares it; a worker's login can take nothing away, and is told why."""
    manual = (ROOT / "docs" / "deployment.md").read_text()
    as_admin, as_migrator = (
        re.search(rf"<!-- sql {who} -->\n```sql\n(.*?)```", manual, re.DOTALL)[1]  # type: ignore[index]
        for who in ("administrator", "aetheris_migrator")
    )
    folder = Path(tempfile.mkdtemp(prefix="aetheris-managed-", dir="/tmp"))
    folder.chmod(0o755)
    running = Embedded(folder / "home").start()

    def dsn(user: str, name: str = "agents") -> str:
        return psycopg.conninfo.make_conninfo(running.dsn(ADMIN), user=user, dbname=name)

    def execute(where: str, statements: str) -> None:
        with psycopg.connect(where, autocommit=True) as connection:
            for statement in re.sub("--.*", "", statements).split(";"):
                if statement.strip():
                    connection.execute(statement.encode())

    def run(user: str, *words: str) -> tuple[str, int]:
        env = {**os.environ, "AETHERIS_DSN": dsn(user), "AETHERIS_HOME": str(tmp_path / "home")}
        done = subprocess.run(
            [BIN / "aetheris", *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr, done.returncode

    try:
        execute(running.dsn(ADMIN), "CREATE ROLE administrator LOGIN CREATEDB CREATEROLE")
        execute(dsn("administrator", "postgres"), as_admin)
        assert run("aetheris_migrator", "init")[1] == 0
        execute(dsn("aetheris_migrator"), as_migrator)
        assert run("desk_worker", "init", "desk")[1] == 0
        (tmp_path / "ticket.json").write_text('{"booking": "4WQ150", "cents": 4200}')
        said, code = run("desk_worker", "submit", "desk.agents:desk", "-i", "ticket.json", "--wait")
        assert (code, "completed" in said) == (0, True), said
        assert run("desk_mirror", "mirror")[1] == 0
        assert "sealed     1 job" in run("desk_mirror", "seal")[0]
        said, code = run("desk_worker", "gc", "--dry-run")
        assert (code, "may not act as aetheris_keeper" in said) == (1, True), said
        assert "completed" in run("desk_api", "jobs")[0]
    finally:
        running.release()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_dead_link_fails_the_build(tmp_path: Path) -> None:
    """mkdocs with --quiet counts no warning, and would pass anything."""
    (tmp_path / "mkdocs.yml").write_text((ROOT / "mkdocs.yml").read_text().partition("nav:\n")[0])
    shutil.copytree(ROOT / "tools" / "site", tmp_path / "tools" / "site")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# A\n\n[b](#b)\n")
    done = subprocess.run(
        [BIN / "mkdocs", "build", "--strict"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "no such anchor" in done.stderr


def test_what_the_mirror_says_after_a_restore_is_what_the_manual_shows() -> None:
    """It was `the store is differs 5 rows`."""
    assert (
        told_of(Discrepancy("events", "lacking", 214, ("acme 7kq2dg06… 9",)))
        in (ROOT / "docs" / "operations.md").read_text()
    )
    assert told_of(Discrepancy("cells", "differs", 1, ("a",))) == (
        "cells: the store has 1 row otherwise than the lake, such as a"
    )


def test_a_command_that_needs_no_lake_does_not_wait_for_it_to_load() -> None:
    """The lake's libraries take longer to import than `aetheris jobs` takes in all."""
    program = "import sys, aetheris.cli.jobs, aetheris.cli.submit; sys.exit('pyiceberg' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def commands(path: Path) -> Iterator[list[str]]:
    """The words of each `aetheris ...` that a manual's blocks show."""
    for block in re.finditer(r"^(?:```\w*\n(.*?)^```$|((?:^    .+\n)+))", path.read_text(), re.MULTILINE | re.DOTALL):
        for line in re.sub(r"\\\n\s*", " ", block[1] or block[2]).splitlines():
            for part in re.split(r"&&|;|\$\(", line.strip().removeprefix("$ ")):
                found = re.match(r"\s*(?:[A-Z_]+=\S+ )*(?:export \w+=)?(?:\S*/bin/)?aetheris (?P<words>[^)#|]*)", part)
                if found and (words := shlex.split(found["words"])):
                    yield words


def test_a_workbench_without_its_packages_says_which_to_install() -> None:
    """The wheel alone does without the auditor's desk; whoever opens it there is told what is lacking."""
    program = "import sys; sys.modules['plotly'] = None; import aetheris.workbench"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    said = "the workbench needs plotly: pip install '.[workbench]' in a clone, or the wheel with [workbench]"
    assert said in done.stderr.splitlines()[-1]


def test_nobody_is_told_to_install_this_by_name_from_an_index() -> None:
    """On the public index the name is a stranger's package."""
    told = re.compile(r"pip install[^\n`]*?(?<![/\w.-])aetheris(?![/\w.-])")
    assert told.search("/opt/aetheris/bin/pip install -c constraints.txt 'aetheris[tracing]'")
    kinds = ("*.md", "docs/**/*.md", "aetheris/**/*.py", "deploy/**/*", "notebooks/*.ipynb")
    files = [path for kind in kinds for path in ROOT.glob(kind) if path.is_file()]
    assert len(files) > 100
    assert not [str(path) for path in files if told.search(path.read_text(errors="replace"))]


def command_of(words: list[str]) -> tuple[click.Context, list[str]]:
    """The command that these words name, in its context, and the words left for it. Errors: KeyError."""
    context = click.Context(cli, info_name="aetheris", **cli.context_settings)
    left = list(words)
    while isinstance(context.command, click.Group):
        name = left.pop(0) if left else ""
        found = context.command.get_command(context, name)
        if found is None:
            raise KeyError(name)
        context = click.Context(found, info_name=name, parent=context)
    return context, left


@pytest.mark.parametrize("path", MANUALS, ids=lambda p: p.name)
def test_every_command_in_a_manual_is_one_that_there_is(path: Path) -> None:
    """An option that was renamed is found here, not by an operator at night."""
    for words in commands(path):
        while words[0].startswith("--"):  # the group's own: each takes a value
            words = words[2:]
        context, left = command_of(words)
        try:
            context.command.make_context(words[0], left, parent=context.parent)
        except click.ClickException as error:
            pytest.fail(f"{path.name}: aetheris {' '.join(words)}: {error.format_message()}")


@pytest.mark.parametrize("path", MANUALS, ids=lambda p: p.name)
def test_every_command_in_prose_is_one_that_there_is_with_these_options(path: Path) -> None:
    """In a sentence stand-ins are allowed (JOB, STEP, a|b); names of commands and options are not made up."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for said in re.findall(r"`aetheris ([a-z][^`]*)`", text):
        words = re.sub(r"\.\.\.|…", "", said).split()
        context, left = command_of(words) if words[0] not in ("keys", "config") or len(words) > 1 else (None, [])
        if context is None:
            continue
        options = {option for p in context.command.params for option in (*p.opts, *p.secondary_opts)}
        asked = {re.match(r"-+[a-z-]*", word)[0] for word in left if word.startswith("-")}  # type: ignore[index]
        assert asked <= options | {"-", "--help"}, (path.name, said)


def test_the_manuals_commands_are_found() -> None:
    """A search that finds none would pass every manual."""
    assert sum(len(list(commands(path))) for path in MANUALS) > 60


def test_the_reference_is_what_the_code_makes() -> None:
    """Committed pages that are older than the code would be believed."""
    for path, text in reference.made().items():
        assert path.read_text() == text, f"{path.name}: run `make reference`"


def test_every_key_and_event_type_has_its_words() -> None:
    """And no word stands for what is gone."""
    assert set(KEYS) == {key for key, _ in reference.every_key()}
    assert set(EVENTS) == set(TYPES)


def test_the_site_builds_with_every_link_checked_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    """A dead link fails the build; a page that asks another host would tell it who reads."""
    site = tmp_path / "site"
    done = subprocess.run(
        [BIN / "mkdocs", "build", "--strict", "--site-dir", site],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    asked = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*(?:src|href)=["'](?:https?:)?//[^"']*""")
    assert not {found for page in pages for found in asked.findall(page.read_text())}
    styles = [p for p in site.rglob("*.css") if re.search(r"(?:@import|url\()\s*['\"]?(?:https?:)?//", p.read_text())]
    assert not styles

    # Markdown that GitHub reads as a list and the site's reader does not: indented by less than four spaces.
    listed = re.compile(r"^\d\. ", re.MULTILINE)
    texts = {page.name: re.sub(r"<pre>.*?</pre>", "", page.read_text(), flags=re.DOTALL) for page in pages}
    torn = [name for name, text in texts.items() if listed.search(text)]
    assert not torn
    # The theme's colour menu throws without these, and with it the page's other scripts.
    for page in pages:
        assert page.read_text().count('id="hljs-light"') == page.read_text().count('id="hljs-dark"') == 1, page.name


SYMPTOM = re.compile(r"^### `(.+)`$", re.MULTILINE)


def test_every_symptom_is_one_that_the_code_prints() -> None:
    """A message that was reworded must not leave its reader without an answer."""
    sources = [re.sub(r'"\n\s+f?"', "", p.read_text()) for p in ROOT.glob("aetheris/**/*.py")]
    said = "\n".join(sources)
    symptoms = SYMPTOM.findall((ROOT / "docs" / "troubleshooting.md").read_text())
    assert len(symptoms) > 20
    for symptom in symptoms:
        for part in symptom.split("…"):
            words = part.strip(" :;,")
            assert words in said, f"{words!r} of {symptom!r} is printed nowhere"
