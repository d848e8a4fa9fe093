"""Bad input at the command line: one clear line, the right exit code, nothing lost, never a traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

import aetheris as ae
from aetheris.cli.main import cli
from aetheris.domain.errors import Refused
from aetheris.store.database import Database

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "data" / "fixtures" / "evidence" / "clean.zip"
FULL = Path("/dev/full")
DESK = """
import aetheris as ae
from pydantic import BaseModel

class Ticket(BaseModel):
    booking: str
    cents: int

@ae.tool
def pay(cents: int) -> str:
    return f"paid {cents}"

@ae.agent(version="1")
async def desk(ctx: ae.Context, ticket: Ticket) -> str:
    return await ctx.call(pay, cents=ticket.cents)

@ae.agent(version="1")
async def clerk(ctx: ae.Context) -> str:
    return await ctx.call("refund", cents=1)

@ae.agent(version="1")
async def sloppy(ctx: ae.Context) -> str:
    return await ctx.call(pay, cents="many")
"""


@ae.tool(effect="none")
def say(what: str) -> str:
    """Say it again."""
    return what


@ae.agent(version="1")
async def echo(ctx: ae.Context, what: str) -> str:
    """Say it, on record."""
    return str(await ctx.call(say, what=what))


Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a command in a folder with three agents; hold its exit code and that it said one line."""
    (tmp_path / "agents.py").write_text(DESK)
    home = {"AETHERIS_HOME": str(tmp_path / "home")}
    clean = {k: v for k, v in os.environ.items() if not k.startswith("AETHERIS_")}

    def run(*words: str, code: int, **env: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "aetheris", *words], env={**clean, **home, **env}, cwd=tmp_path,
            capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        said = done.stderr.strip()
        assert done.returncode == code, (words, done.stdout, said)
        assert "Traceback" not in done.stdout + said
        assert "a bug in Aetheris" not in said
        if code == 2 and (words[0] != "verify" or said):
            assert len(said.splitlines()) == 1, said
            assert said.startswith("aetheris: ")
        return said + done.stdout

    return run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["submit", "agents:nobody"], "agents has no agent 'nobody'; it has desk, clerk, sloppy"),
        (["submit", "nowhere:desk"], "no module 'nowhere' here or installed"),
        (["worker", "broken"], "broken: NameError: name 'nope' is not defined (broken.py, line 2)"),
        (["worker", "lacks"], "lacks: no module 'nonesuch' here or installed; lacks imports it: install it"),
        (["worker", "agents:pay"], "agents has no agent 'pay'"),
        (["submit", "agents:desk", "-i", "cut.json"], "cut.json: "),
        (["submit", "agents:desk", "-i", "none.json"], "none.json: no such file or directory"),
        (["submit", "agents:desk", "-i", "."], ".: is a directory"),
        (["submit", "agents:desk"], "agent desk: no input was given: name it with -i FILE"),
        (["--config", "none.yaml", "jobs"], "none.yaml: no such file or directory; name a file with --config"),
        (["query", "trace/nothing", "--source", str(ROOT / "data/fixtures/clean")], "no query is named"),
        (["query", "trace/jobs", "-p", "x", "--source", str(ROOT / "data/fixtures/clean")], "'x' is not NAME=VALUE"),
        (["query", "--sql", "delete from events", "--source", str(ROOT / "data/fixtures/clean")], "only reads"),
        (["check", "nowhere"], "no lake and no evidence zip there"),
        (["check", "agents.py"], "agents.py: "),
        (["verify", "nope.zip"], "nope.zip: no such file or directory"),
        (["verify", "."], ".: is a directory"),
        (["check", "--check", "nope", str(ROOT / "data/fixtures/clean")], "limits/kept"),
        (["query", "trace/steps", "--source", str(ROOT / "data/fixtures/clean")], "trace/steps needs job_id"),
        (["query", "limits/ahead", "--source", str(ROOT / "data/fixtures/clean")], "needs kind and limit"),
        (["fly"], "No such command 'fly'"),
        (["trace"], "Missing argument"),
        (["hold", "7kq2"], "say why with --why"),
        (["mirror", "--lake"], "requires an argument"),
    ],
    ids=lambda v: " ".join(str(w) for w in v)[:30] if isinstance(v, list) else "",
)
def test_a_mistyped_command_says_what_is_wrong(run: Run, tmp_path: Path, words: list[str], said: str) -> None:
    """Before any database is touched, where none is needed."""
    (tmp_path / "cut.json").write_text('{"booking": "4WQ150", "cents": ')
    (tmp_path / "broken.py").write_text("import aetheris\nprint(nope)\n")
    (tmp_path / "lacks.py").write_text("import nonesuch\n")
    # The port is nobody's: were it asked, the line would be another.
    dsn = {} if words[0] != "submit" else {"AETHERIS_DSN": "postgresql://nobody@127.0.0.1:1/none"}
    assert said in run(*words, code=2, **dsn)


NAMED = {
    "worker ./paths.py:desk": "./paths.py:desk: name the module as Python imports it from here: paths:desk",
    "worker paths.py": "paths.py: name the module as Python imports it from here: paths",
    "worker :desk": ":desk: name the module as Python imports it from here: MODULE:desk",
    "submit leaves": "leaves: it ends the program (exit 0) when it is imported (leaves.py, line 2); put that under",
    "worker doubles": "doubles: a second agent of the name desk; give one of them name=...",
    "worker paths:desk doubles:other": "doubles:other: a second agent of the name desk; give one of them name=...",
    "worker paths:desk --lease nan": "nan is no number of seconds",
    "submit paths:desk -i endless.json": "endless.json: more than 16,777,216 bytes",
    "--tenant Acme submit paths:clerk": "'Acme' can't name a tenant: up to 63 of a-z, 0-9, dot",
}


@pytest.mark.parametrize("words", NAMED)
def test_what_is_named_is_what_was_meant(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path for a module, a script for a module, one of two agents of a name: never another than was meant."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("AETHERIS_DSN", "postgresql://nobody@127.0.0.1:1/none")
    (tmp_path / "paths.py").write_text(DESK)
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(0)\n")
    (tmp_path / "doubles.py").write_text(DESK + "\n@ae.agent(version='1', name='desk')\ndef other(ctx): ...\n")
    with (tmp_path / "endless.json").open("wb") as file:
        file.truncate(1 << 40)
    done = CliRunner().invoke(cli, words.split())
    for name in ("paths", "leaves", "doubles"):
        sys.modules.pop(name, None)
    assert NAMED[words] in str(done.exception) + done.output


@pytest.mark.parametrize(
    ("code", "options", "said"),
    [
        (lambda ctx, *, what: what, {}, "takes (ctx) or (ctx, input) by place, not by keyword"),
        (lambda ctx, **what: what, {}, "by place, not by keyword"),
        (lambda ctx: 1, {"version": 1}, "its version is a text that isn't empty, not 1"),
        (lambda ctx: 1, {"accepts": "1.0"}, "accepts is a list of versions: accepts=['1.0']"),
    ],
    ids=["by keyword", "any keyword", "a number for a version", "a text for a list"],
)
def test_an_agent_is_refused_where_it_is_declared(code: Any, options: dict[str, Any], said: str) -> None:
    """Not in its jobs, which would fail, or wait for a worker that never comes."""
    with pytest.raises(Refused) as refused:
        ae.agent(**{"name": "desk", **options})(code)
    assert said in str(refused.value)


def test_a_query_takes_the_start_of_a_jobs_id(run: Run) -> None:
    """As every other command does; no job, or several, are refused. What null means all for stays optional."""
    where = ("--source", str(ROOT / "data" / "fixtures" / "clean"), "--json")

    def asked(name: str, job: str, code: int = 0) -> str:
        return run("query", name, "-p", f"job_id={job}", *where, code=code)

    short, whole = asked("trace/steps", "DCC05"), asked("trace/steps", "dcc05v7hxg6vbeaa05yj9t2d2rssvsegmnhd1ydj")
    assert json.loads(short) == json.loads(whole)
    assert json.loads(short)["rows"]
    assert "no job in " in asked("trace/steps", "zz", code=2)
    assert "2 jobs start with '0'" in asked("trace/steps", "0", code=2)
    assert json.loads(run("query", "trace/fold", *where, code=0))["rows"]


def test_down_says_when_nothing_ran(run: Run, tmp_path: Path) -> None:
    """Not that something was stopped; and it leaves no folder."""
    assert "was not running in " in run("down", code=0)
    assert not (tmp_path / "home").exists()


def test_a_database_that_cannot_be_reached_or_is_newer_is_named(run: Run, database: Database) -> None:
    """Where it was looked for, and what to do."""
    told = run("jobs", code=2, AETHERIS_DSN="postgresql://nobody@127.0.0.1:1/none")
    assert "can't reach PostgreSQL at 127.0.0.1:1" in told
    assert "AETHERIS_DSN" in told
    assert "secret" not in run("jobs", code=2, AETHERIS_DSN="postgresql://nobody:secret@127.0.0.1:1/none")
    run("jobs", code=2, AETHERIS_DSN="postgresql://[")
    with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
        connection.execute("INSERT INTO aetheris.schema_migrations (number, name) VALUES (9999, 'later')")
    assert "newer" in run("jobs", code=2, AETHERIS_DSN=database.admin_dsn)


def test_bad_arguments_leave_no_job_and_a_bad_call_fails_its_job_in_words(
    run: Run, tmp_path: Path, database: Database
) -> None:
    """The agent's input is refused before the job exists; a bad call inside it is on the record."""
    dsn = {"AETHERIS_DSN": database.admin_dsn}
    (tmp_path / "bad.json").write_text('{"booking": "4WQ150", "cents": "many"}')
    told = run("submit", "agents:desk", "-i", "bad.json", code=2, **dsn)
    assert "agent desk: " in told
    assert "cents" in told
    assert json.loads(run("jobs", "--json", code=0, **dsn)) == []
    assert f"no jobs yet in {database.where}: " in run("jobs", code=0, **dsn)
    assert "zzzz" in run("trace", "zzzz", code=2, **dsn)
    assert r"'\udcff' is not UTF-8 text" in run("trace", "\udcff", code=2, **dsn)
    for agent, why in (("clerk", "'refund' is no tool"), ("sloppy", "cents")):
        told = run("submit", f"agents:{agent}", "--wait", code=1, **dsn)
        assert "failed because " in told
        assert why in told
        job = json.loads(run("jobs", "--json", code=0, **dsn))[0]["job"]
        assert why in run("trace", job, code=0, **dsn)
    assert "the newest 1; --limit N shows more" in run("jobs", "--limit", "1", code=0, **dsn)
    assert "newest" not in run("jobs", "--limit", "2", code=0, **dsn)


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_a_full_or_read_only_disk_is_said_in_one_line(run: Run, tmp_path: Path) -> None:
    """Output, lake and evidence: what could not be written is named, and what was there stays."""
    words = [sys.executable, "-m", "aetheris", "query", "trace/jobs", "--source", str(ROOT / "data/fixtures/clean")]
    with FULL.open("w") as full:
        done = subprocess.run(words, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "no space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    (tmp_path / "file").write_text("mine")
    assert "file" in run("jobs", code=2, AETHERIS_HOME=str(tmp_path / "file" / "home"))
    assert "file" in run("jobs", code=2, AETHERIS_HOME=str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"


def test_evidence_goes_nowhere_it_cannot_be_written(run: Run, tmp_path: Path, database: Database) -> None:
    """A path that isn't there, a folder, somebody's file: one line, no part of a file left, none lost."""
    dsn = {"AETHERIS_DSN": database.admin_dsn}
    (tmp_path / "in.json").write_text('{"booking": "4WQ150", "cents": 1}')
    assert run("submit", "agents:desk", "-i", "in.json", "--wait", code=0, **dsn).endswith(
        'completed\nresult     "paid 1"\n'
    )
    job = json.loads(run("jobs", "--json", code=0, **dsn))[0]["job"]
    before = sorted(tmp_path.iterdir())
    assert "nothing was written" in run("export", job, "-o", "no/where/e.zip", code=2, **dsn)
    assert "directory" in run("export", job, "-o", ".", code=2, **dsn)
    (tmp_path / "keep.txt").write_text("mine")
    (tmp_path / "keep.jsonl").write_text('{"mine": 1}\n')
    (tmp_path / "keep.zip").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "keep.zip", "w") as archive:
        archive.writestr("thesis.txt", "mine")
    before = sorted(tmp_path.iterdir())
    theirs = {path: path.read_bytes() for path in tmp_path.glob("keep.*")}
    for name in ("keep.txt", "keep.zip", "agents.py"):
        assert f"{name} is there and is no evidence zip" in run("export", job, "-o", name, code=2, **dsn)
    assert "keep.jsonl is there and is no exported audit chain" in run("audit", "-o", "keep.jsonl", code=2, **dsn)
    assert {path: path.read_bytes() for path in theirs} == theirs
    assert (tmp_path / "agents.py").read_text() == DESK
    (tmp_path / "file").write_text("")
    assert "file" in run("mirror", "--lake", "file", code=2, **dsn)
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "file"])
    (tmp_path / "e.zip").touch()
    # Nobody acted here yet, and a chain without an entry would be a file that verifies as nobody's.
    assert "has no entry yet: there is nothing to export" in run("audit", "-o", "a.jsonl", code=2, **dsn)
    assert not (tmp_path / "a.jsonl").exists()
    run("hold", job, "--why", "to have an entry", code=0, **dsn)
    for _ in range(2):  # an empty file, then the one that was written
        run("export", job, "-o", "e.zip", code=0, **dsn)
        run("audit", "-o", "a.jsonl", code=0, **dsn)


def test_a_folder_that_is_no_data_directory_is_left_alone(run: Run, tmp_path: Path) -> None:
    """Somebody else's files are never made into a database."""
    data = tmp_path / "home" / "pg" / "data"
    data.mkdir(parents=True)
    (data / "thesis.txt").write_text("mine")
    told = run("up", code=2)
    assert "data" in told
    assert (data / "thesis.txt").read_text() == "mine"


def test_a_jobs_trace_shows_itself_in_a_script(database: Database) -> None:
    """As people type it: `job.trace()` is a table in a terminal and in a notebook."""
    with ae.open(database.admin_dsn) as system:
        job = system.submit(echo, "hello").wait()
        assert job.result == "hello"
        assert [row["what"] for row in job.trace()] == ["created", "started", "call 1", "completed"]
        assert "say" in repr(job.trace())
        assert "<table>" in job.trace()._repr_html_()


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _edited(data: bytes) -> bytes:
    place = data.index(b'"tool_name"') + 20
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize(
    ("damage", "code", "said"),
    [
        (lambda data: data, 3, "self-consistent"),
        (_cut, 2, "unusable"),
        (lambda data: b"", 2, "not a zip archive"),
        (lambda data: b"no zip at all" * 99, 2, "unusable"),
        (_edited, 1, "is not the line that was hashed"),
    ],
    ids=["as it was", "cut", "empty", "not a zip", "edited"],
)
def test_a_zip_that_is_not_what_it_was(
    run: Run, tmp_path: Path, damage: Callable[[bytes], bytes], code: int, said: str
) -> None:
    """2 says it can't be used, 1 that it lies; the same from `check`, which never calls it sound."""
    (tmp_path / "e.zip").write_bytes(damage(PACKAGE.read_bytes()))
    assert said in run("verify", "e.zip", code=code)
    assert json.loads(run("verify", "e.zip", "--json", code=code))["exit"] == code
    run("check", "e.zip", code={3: 0}.get(code, code))


def test_a_changed_byte_in_a_lake_is_refused(run: Run, tmp_path: Path) -> None:
    """Every file's SHA-256 is held against the index first."""
    shutil.copytree(ROOT / "data" / "fixtures" / "clean", tmp_path / "lake")
    victim = next((tmp_path / "lake" / "events").rglob("*.parquet"))
    victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    assert victim.name in run("check", "lake", code=1)
    (tmp_path / "lake" / "lake.json").write_text("{")
    assert "lake.json" in run("check", "lake", code=2)


def test_a_starter_folder_runs_as_it_says_and_overwrites_nothing(run: Run, tmp_path: Path, database: Database) -> None:
    """The first minute with it: written, run, paid once; a second time touches no file."""
    assert "submit agents:desk" in run("init", "mine", code=0)
    (tmp_path / "mine" / "README.md").write_text("changed")
    assert "is there already" in run("init", "mine", code=2)
    assert (tmp_path / "mine" / "README.md").read_text() == "changed"
    (tmp_path / "file").write_text("")
    assert "can't write" in run("init", "file/below", code=2)
    done = subprocess.run(
        [sys.executable, "-m", "aetheris", "submit", "agents:desk", "-i", "ticket.json", "--wait", "--json"],
        cwd=tmp_path / "mine", env={**os.environ, "AETHERIS_DSN": database.admin_dsn},
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"] == "refunded 3780"
    assert len((tmp_path / "mine" / "bank.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["seal"], ["gc", "--dry-run"], ["hold"], ["erase", "7kq2", "--all", "--why", "x"], ["mirror"], ["compact"],
        ["snapshot", "7kq2"], ["replay", "7kq2", "agents:desk"], ["worker", "agents:desk"], ["init"],
        ["keys", "rotate", "job_id"],
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_what_the_api_does_not_offer_is_done_to_no_other_database(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Whoever set AETHERIS_URL means what stands behind it: the embedded database is not even started."""
    (tmp_path / "agents.py").write_text(DESK)
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("AETHERIS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AETHERIS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AETHERIS_URL", "http://127.0.0.1:1")
    monkeypatch.syspath_prepend(tmp_path)
    request.addfinalizer(lambda: sys.modules.pop("agents", None))
    told = CliRunner().invoke(cli, words).exception
    assert isinstance(told, Refused)
    assert f"doesn't offer `{' '.join(words[:2] if words[0] == 'keys' else words[:1])}`" in str(told)
    assert "unset AETHERIS_URL" in str(told)
    assert not (tmp_path / "home").exists()
    monkeypatch.setenv("AETHERIS_DSN", "postgresql://nobody@127.0.0.1:1/none")
    assert "can't reach PostgreSQL" in str(CliRunner().invoke(cli, words).exception)
