"""Every symptom of the troubleshooting guide is provoked: here, or by a test that this file names and reads.

A heading that a reader can't come to see is worth nothing, and one whose
message was reworded leaves them without an answer. So each is made to appear:
`@provokes(HEADING, …)` says which a test brings about, and its `hear` holds
that they really came; ELSEWHERE names a test that does, whose own assertions
must hold the heading's words.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

import aetheris as ae
from aetheris.cli import main
from aetheris.domain.errors import AetherisError
from aetheris.runtime import archive, limiter
from aetheris.runtime.erasure import erase
from aetheris.runtime.trampoline import Waitable
from aetheris.store import embedded_cluster, embedded_place
from aetheris.store.database import Database
from tests.api.support import bearer, serving
from tests.store.job_support import run
from tests.store.retention_support import House, house

ROOT = Path(__file__).parents[2]
SYMPTOMS: list[str] = re.findall(r"^### `(.+)`$", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)

#: Symptom -> the test that brings it about, and whose assertions hold its words.
ELSEWHERE = {
    "the walls are not up:": "store/test_walls.py::test_nothing_starts_while_a_wall_is_down",
    "won't start: …": "store/test_embedded.py::test_a_server_that_will_not_start_is_refused_with_its_last_word",
    "is of PostgreSQL …": "store/test_embedded.py::test_data_of_another_major_version_is_refused",
    "metrics: can't listen on …": (
        "store/test_metrics.py::test_a_scrape_shows_what_was_counted_and_a_taken_port_is_said"
    ),
    "has begun under version …": (
        "store/test_doubt.py::test_a_job_that_began_under_another_version_is_left_alone_unless_accepted"
    ),
    "is configured here; name it under models: in aetheris.yaml": (
        "store/test_llm_endpoints.py::test_a_worker_without_the_model_parks_the_job_and_says_what_it_lacks"
    ),
    "the world does not confirm its recorded result": (
        "store/test_doubt.py::test_a_result_that_the_world_no_longer_confirms_parks_the_job"
    ),
    "can't be stored as JSON": "store/test_graphs.py::test_an_input_that_is_no_json_is_no_job",
    "it takes no … any more": "store/test_waiting.py::test_a_wait_that_expires_raises_in_the_job",
    "overtaken … times in a row": "store/test_mirror.py::test_a_mirror_that_is_always_overtaken_says_so",
    "the last round stands, mirror again when that is mended": (
        "store/test_mirror.py::test_a_folder_that_cannot_be_written_is_one_line"
    ),
    "the store counts from before its watermark; rows are told by key": (
        "store/test_mirror_restored.py::test_a_store_that_counts_backwards_is_told_by_key"
    ),
    "the snapshot at event … is passed over": (
        "store/test_snapshots_unsound.py::test_an_unsound_snapshot_is_passed_over_reported_and_replay_is_right"
    ),
    "another collection is under way: let it end": "store/test_collection.py::test_one_collection_at_a_time",
}

HERE: dict[str, str] = {}
Hear = Callable[[str, str], None]
Typed = Callable[..., str]


def provokes(*symptoms: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Say which symptoms a test brings about; its `hear` holds that it did."""

    def named(test: Callable[..., None]) -> Callable[..., None]:
        test.__dict__["symptoms"] = symptoms
        HERE.update(dict.fromkeys(symptoms, test.__name__))
        return test

    return named


def words(symptom: str) -> list[str]:
    """What of a heading must be said, in order."""
    return [part.strip() for part in symptom.split("…") if part.strip()]


def is_said(symptom: str, text: str) -> bool:
    """Whether the text says it, wherever its lines are broken and commands are marked."""
    flat = " ".join(text.replace("`", "").split())
    return re.search(".*".join(re.escape(part) for part in words(symptom)), flat) is not None


@pytest.fixture
def hear(request: pytest.FixtureRequest) -> Iterator[Hear]:
    """Take what was said, and hold at the end that every symptom named was heard."""
    named: set[str] = set(request.function.symptoms)
    heard: set[str] = set()

    def listen(symptom: str, text: str) -> None:
        assert symptom in named
        assert is_said(symptom, text), f"{symptom!r} is not in {text!r}"
        heard.add(symptom)

    yield listen
    assert heard == named, f"never heard: {sorted(named - heard)}"


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Type a command in a folder of its own: the real front door, in this process."""
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("AETHERIS_") or n == "CONFIG_PATH"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AETHERIS_HOME", str(tmp_path / "home"))

    def type_(*command: str, code: int | None = None, **env: str) -> str:
        with monkeypatch.context() as now:
            for name, value in env.items():
                now.setenv(name, value)
            now.setattr("sys.argv", ["aetheris", *command])
            with pytest.raises(SystemExit) as left:
                main()
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        assert code is None or left.value.code == code
        return said.out + said.err

    return type_


def admin(database: Database, *statements: str) -> None:
    """Do something that no trigger stops, as the server's superuser."""
    with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        for statement in statements:
            connection.execute(statement.encode())


def said_by(work: Callable[[], Any]) -> str:
    """What an error says, in words."""
    with pytest.raises(AetherisError) as error:
        work()
    return str(error.value)


@provokes(
    "can't reach PostgreSQL at …",
    "is not a PostgreSQL connection string",
    "names a server of your own: start and stop it yourself",
    "is too old: Aetheris needs",
)
def test_an_address_that_leads_to_no_store(typed: Typed, hear: Hear, tmp_path: Path) -> None:
    """Nobody there, no address at all, not ours to start, and a server of an earlier day."""
    nobody = "postgresql://nobody@127.0.0.1:1/none"
    hear("can't reach PostgreSQL at …", typed("jobs", AETHERIS_DSN=nobody))
    hear("is not a PostgreSQL connection string", typed("jobs", AETHERIS_DSN="postgresql://["))
    (tmp_path / "own.yaml").write_text(f"jobstore: {{dsn: '{nobody}'}}\n")
    not_ours = "names a server of your own: start and stop it yourself"
    for command in ("up", "down"):
        hear(not_ours, typed(command, code=2, AETHERIS_DSN=nobody))
        hear(not_ours, said := typed(command, code=2, CONFIG_PATH="own.yaml"))
        assert said.startswith("aetheris: jobstore.dsn in own.yaml ")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_old_server, args=(listening,), daemon=True).start()
        port = listening.getsockname()[1]
        hear(
            "is too old: Aetheris needs",
            typed("doctor", AETHERIS_DSN=f"postgresql://a@127.0.0.1:{port}/b?sslmode=disable&gssencmode=disable"),
        )


def _old_server(listening: socket.socket) -> None:
    """Speak as much of the protocol as a server of version 14 says before the first query."""
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return  # the test is over
        with connection:
            connection.recv(1000)
            parameters = {"server_version": "14.9", "client_encoding": "UTF8", "standard_conforming_strings": "on"}
            messages = [(b"R", struct.pack("!i", 0))]
            messages += [(b"S", b"\0".join((k.encode(), v.encode(), b""))) for k, v in parameters.items()]
            messages += [(b"K", struct.pack("!ii", 1, 1)), (b"Z", b"I")]
            connection.sendall(b"".join(kind + struct.pack("!i", len(body) + 4) + body for kind, body in messages))
            connection.recv(1000)


@provokes(
    "the database has no Aetheris schema: run",
    "the database's schema is version …",
    "the database's migration … is not this release's",
    "the database lacks migration …",
    "the database's encoding is not UTF8",
    "can't write: …",
    "could lose what was promised; turn it on",
)
def test_a_database_that_is_not_fit(typed: Typed, hear: Hear, database: Database) -> None:
    """Bare, another's, newer, of another encoding, read-only, and one that may forget."""
    dsn = {"AETHERIS_DSN": database.admin_dsn}
    with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE bare")
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        bare, latin = (psycopg.conninfo.make_conninfo(database.admin_dsn, dbname=n) for n in ("bare", "latin"))
        looked = typed("doctor", AETHERIS_DSN=bare)
        hear("the database has no Aetheris schema: run", looked)
        assert looked.count("has no Aetheris schema") == 1, looked
        assert "; not looked at: settings, walls, clock, work, retention, snapshots" in looked
        hear("the database's encoding is not UTF8", typed("init", AETHERIS_DSN=latin))
    finally:
        with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
            connection.execute("DROP DATABASE bare WITH (FORCE)")
            connection.execute("DROP DATABASE latin WITH (FORCE)")
    name = psycopg.conninfo.conninfo_to_dict(database.admin_dsn)["dbname"]
    admin(database, f"ALTER DATABASE {name} SET synchronous_commit = off")
    hear("could lose what was promised; turn it on", typed("doctor", **dsn))
    admin(database, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    hear("can't write: …", said_by(lambda: _submit(database)))
    with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute("UPDATE aetheris.schema_migrations SET sha256 = repeat('0', 64) WHERE number = 3")
        hear("the database's migration … is not this release's", typed("init", **dsn))
        connection.execute("DELETE FROM aetheris.schema_migrations WHERE number = 3")
        hear("the database lacks migration …", typed("init", **dsn))
        connection.execute("INSERT INTO aetheris.schema_migrations (number, name) VALUES (9999, 'later')")
        connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only".encode())
    hear("the database's schema is version …", typed("init", **dsn))


def _submit(database: Database) -> None:
    with ae.open(database.admin_dsn) as system:
        system.submit(teller, "asks")


@provokes("has no Aetheris roles: run")
def test_a_server_that_was_never_prepared(typed: Typed, hear: Hear, database: Database) -> None:
    """A dump that was restored without its roles."""
    admin(database, "ALTER ROLE aetheris_app RENAME TO aetheris_gone")
    try:
        hear("has no Aetheris roles: run", typed("jobs", AETHERIS_DSN=database.admin_dsn))
    finally:
        admin(database, "ALTER ROLE aetheris_gone RENAME TO aetheris_app")


@provokes("is not up after …", "can no longer reach …", "is not a private folder of user")
def test_an_embedded_server_that_can_not_be_reached(
    typed: Typed, hear: Hear, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the minute were over; a folder that was closed above it; a socket's folder that somebody else made."""
    monkeypatch.setattr(embedded_cluster, "WAIT_SECONDS", -1)
    hear("is not up after …", typed("up"))
    data = tmp_path / "closed" / "pg" / "data"
    data.mkdir(parents=True)
    if os.geteuid() != 0:  # whoever is not root runs the server as themselves
        monkeypatch.setattr(embedded_place.Account, "can_enter", lambda *_: False)
    hear("can no longer reach …", typed("up", AETHERIS_HOME=str(tmp_path / "closed")))
    monkeypatch.undo()
    place = embedded_place.locate(tmp_path / ("long" * 30))
    place.socket_dir.mkdir()
    try:
        place.socket_dir.chmod(0o777)
        hear("is not a private folder of user", said_by(lambda: embedded_place.make_socket_dir(place)))
    finally:
        place.socket_dir.rmdir()


@provokes(
    "stands twice, first on line",
    "aliases are not used here; write it out",
    "security.evidence_signing is enabled and there is no key",
    "so … is not listened on",
    "keys come from one place, not from",
)
def test_a_configuration_that_can_not_be_used(typed: Typed, hear: Hear, database: Database, tmp_path: Path) -> None:
    """Each with the command that meets it."""

    def configured(text: str, *command: str) -> str:
        (tmp_path / "aetheris.yaml").write_text(text)
        return typed(*command, AETHERIS_DSN=database.admin_dsn)

    twice = configured("worker:\n  concurrency: 4\n  concurrency: 5\n", "config", "check")
    hear("stands twice, first on line", twice)
    hear("aliases are not used here; write it out", configured("worker: &a\napi: *a\n", "config", "check"))
    unsigned = configured("security:\n  evidence_signing:\n    enabled: true\n", "seal")
    hear("security.evidence_signing is enabled and there is no key", unsigned)
    (tmp_path / "desk.py").write_text(
        "import aetheris as ae\n\n@ae.agent\nasync def desk(ctx: ae.Context) -> None: ...\n"
    )
    hear("so … is not listened on", configured("", "serve", "desk:desk", "--host", "0.0.0.0"))
    keys = (
        "api:\n  middleware:\n    jwt_key: "
        + "k" * 40
        + "\n    jwt_keys_file: keys.json\n    jwt_issuer: https://i.example\n"
    )
    hear("keys come from one place, not from", configured(keys, "serve", "desk:desk"))


@provokes("the limits that were in force stay")
def test_limits_that_are_changed_under_a_worker_and_can_not_be_used(
    hear: Hear, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The file is spoilt while a worker runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(limiter, "RELOAD_SECONDS", 0.05)
    file = tmp_path / "aetheris.yaml"
    file.write_text("rate_limits:\n  tools:\n    pay: {qps: 10}\n")
    with ae.open(database.admin_dsn) as system:
        system.serve(teller)
        file.write_text("rate_limits:\n  tools:\n    pay: {qps: many}\n")
        _until(lambda: "limits that were in force" in caplog.text)
    hear("the limits that were in force stay", caplog.text)


def _until(holds: Callable[[], bool]) -> None:
    for _ in range(200):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it never came to that")


HELD = threading.Event()


@ae.tool
def pay(how: str) -> str:
    """Break as a line breaks, or take until somebody lets it end."""
    if how == "breaks":
        raise ConnectionResetError("the line broke")
    HELD.wait(20)
    return "paid"


@ae.agent(version="1")
async def teller(ctx: ae.Context, how: str) -> str:
    """Ask, call, wait for a signal, or for what nothing will bring."""
    if how == "asks":
        return str(await ctx.approval("Refund 42.00?", role="operator"))
    if how == "waits":
        return str(await ctx.wait_signal("go"))
    if how == "hangs":
        return await Waitable[str]("of its own")
    return await ctx.call(pay, how=how)


@ae.agent(version="1", name="teller")
async def changed(ctx: ae.Context, how: str) -> str:
    """The same agent, whose code was changed without a new version."""
    return str(await ctx.wait_signal("another"))


@ae.agent(version="1")
async def clerk(ctx: ae.Context, how: str) -> str:
    """Another agent."""
    return how


@provokes(
    "aetheris jobs --parked",
    "jobs have a call in doubt",
    "leases ran out and nobody took over: start a worker",
    "the worker that began step …",
    "is under way, or its job is not yet taken over: not in doubt",
    "is for the role …",
    "is still … after …",
    "is already job …",
    "the job waits for something that nothing will bring",
    "diverged: …",
    "no job starts with …",
    "no module …",
)
def test_jobs_that_do_not_move(typed: Typed, hear: Hear, database: Database) -> None:
    """One worker, and what can befall its jobs."""
    dsn = {"AETHERIS_DSN": database.admin_dsn}
    HELD.clear()
    with ae.open(database.admin_dsn) as system, contextlib.ExitStack() as left:
        left.callback(HELD.set)  # else a failure waits for it
        system.serve(teller)
        asks, breaks, hangs = (system.submit(teller, how, key=how) for how in ("asks", "breaks", "hangs"))
        waits, holds = system.submit(teller, "waits"), system.submit(teller, "holds")
        system.wait(asks, breaks, hangs, waits)
        failed = json.dumps([hangs.record.value(hangs.record.events[-1], "error")])
        hear("the job waits for something that nothing will bring", failed)
        hear("is already job …", said_by(lambda: system.submit(clerk, "asks", key="asks")))
        listed = typed("jobs", "--parked", code=0, **dsn)
        assert "asks: Refund 42.00?" in listed
        assert "ConnectionResetError" in listed
        hear("aetheris jobs --parked", f"aetheris jobs --parked {listed}")
        hear("is for the role …", typed("approve", asks.id, "1", "--role", "user", **dsn))
        gone = said_by(lambda: breaks.resolve(1, "not_done", why="looked"))
        hear("the worker that began step …", gone)
        hear("jobs have a call in doubt", typed("doctor", **dsn))
        _until(lambda: "tool_invocation_started" in [e.type for e in holds.record.events])
        hear("is still … after …", said_by(lambda: holds.wait(seconds=0.1)))
        resolved = typed("resolve", holds.id, "1", "--as", "done", "--why", "x", **dsn)
        hear("is under way, or its job is not yet taken over: not in doubt", resolved)
        hear("no job starts with …", typed("trace", "zzzz", **dsn))
        hear("no module …", typed("submit", "nowhere:desk"))
        assert "./a.yaml: a file, not a module; task graphs are run by" in typed("worker", "./a.yaml", code=2)
        HELD.set()
        system.wait(holds)
    with ae.open(database.admin_dsn) as system:
        system.serve(changed)
        again = system.job(waits.id)
        again.signal("go")
        _until(lambda: again.record.events[-1].type == "job_parked")
        hear("diverged: …", typed("jobs", "--parked", **dsn))
    over = "status = 1, lease_owner = 'gone', lease_until = now() - interval '1 hour'"
    admin(database, f"UPDATE aetheris.jobs SET {over} WHERE job_id = '{asks.id}'")
    overdue = typed("doctor", **dsn)
    hear("leases ran out and nobody took over: start a worker", overdue)


@provokes(
    "is the lake of another store",
    "run … aetheris check",
    "can't be sealed",
    "is under legal hold",
    "and may need its values: erase when it has ended",
    "came back while it was erased; the erasure stays on the list, try again",
)
def test_a_record_or_a_lake_that_is_not_as_it_should_be(
    typed: Typed, hear: Hear, new_database: Callable[[], Database], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Another's lake, an edited line, a hold, a job under way, and old files that somebody put back."""
    database = new_database()
    dsn = {"AETHERIS_DSN": database.admin_dsn}

    async def erasing(here: House, job: str) -> str:
        cells = [key for key, c in (await here.system.record(job)).stored.cells.items() if b"Ada" in (c.body or b"")]
        await erase(database, here.folder, "default", job, cells, by="ann", reason="asked")
        with monkeypatch.context() as now:
            now.setattr(archive, "_erase", lambda *_: 0)  # as if what was rewritten had been copied back
            with pytest.raises(AetherisError) as error:
                await archive.erase_in_lake(database, here.source, here.lake)
        return str(error.value)

    async def body() -> tuple[str, list[str], str]:
        async with house(database, tmp_path) as here:
            jobs = await here.travelled(2)
            waits = await here.system.submit(teller, "waits")
            await here.kept()
            jobs += await here.travelled()  # not sealed yet
            return await erasing(here, jobs[0]), jobs, waits

    came_back, jobs, waits = asyncio.run(body())
    hear("came back while it was erased; the erasure stays on the list, try again", came_back)
    lake = ("--lake", str(tmp_path / "lake"))
    another = new_database()
    admin(another, "UPDATE aetheris.store_identity SET incarnation = gen_random_uuid()")  # both are of one template
    other = {"AETHERIS_DSN": another.admin_dsn}
    hear("is the lake of another store", typed("mirror", *lake, **other))
    typed("hold", jobs[1], "--why", "case 7", code=0, **dsn)
    hear("is under legal hold", typed("erase", jobs[1], "--all", "--why", "asked", *lake, **dsn))
    hear(
        "and may need its values: erase when it has ended",
        typed("erase", waits, "--all", "--why", "asked", *lake, **dsn),
    )
    admin(
        database,
        f"UPDATE aetheris.job_events SET line = replace(line, 'book', 'cook') WHERE job_id = '{jobs[2]}' AND seq = 3",
    )
    hear("run … aetheris check", typed("replay", jobs[2], "tests.store.retention_support:trip", **dsn))
    typed("seal", code=1, **dsn)
    hear("can't be sealed", caplog.text)


@provokes(
    "no bearer token",
    "this job is not yours",
    "which your role doesn't have",
    "the audit log can't be written, so nothing is answered",
    "collected: it is in the lake, and …",
)
def test_answers_of_the_api_that_are_refusals(
    hear: Hear, database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No token, another's job, a role without the right, a collected job, and a log that can't be written."""
    caplog.set_level("INFO")

    async def body() -> None:
        async with house(database, tmp_path) as here, serving(database, lake=here.folder) as (_, client):
            (job,) = await here.travelled()
            await here.kept()
            here.aged()
            mine = f"/api/jobs/{job}"
            assert (await client.get(mine)).status_code == 401
            hear("no bearer token", caplog.text)
            hear("this job is not yours", (await client.get(mine, headers=bearer("b"))).text)
            stopped = await client.post(f"{mine}/stop", headers=bearer("default", "auditor"))
            hear("which your role doesn't have", stopped.text)
            assert (await here.collect()).jobs == 1
            (here.folder / "lake.json").rename(here.folder / "away.json")
            gone = await client.get(f"{mine}/trace", headers=bearer("default"))
            hear("collected: it is in the lake, and …", gone.text)
            admin(database, "REVOKE INSERT ON aetheris.audit_log FROM aetheris_app")
            unwritten = await client.get("/api/jobs", headers=bearer("default"))
            hear("the audit log can't be written, so nothing is answered", unwritten.text)

    run(body)


def assertions_of(place: str) -> str:
    """Every text in the assertions of a test, and in what it expects to be raised. Errors: AssertionError."""
    file, _, name = place.partition("::")
    path = ROOT / "tests" / file
    assert path.is_file(), place
    found = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef) and n.name == name]
    assert len(found) == 1, f"there is no test {place}"
    texts = []
    for node in ast.walk(found[0]):
        expects = isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.raises"
        if isinstance(node, ast.Assert) or expects:
            texts += [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return "\n".join(texts)


@pytest.mark.parametrize("symptom", SYMPTOMS)
def test_every_symptom_is_provoked(symptom: str) -> None:
    """Here, or by a test that there is, and that would fail if the message were reworded."""
    assert (symptom in HERE) != (symptom in ELSEWHERE), "by exactly one"
    if symptom in ELSEWHERE:
        held = assertions_of(ELSEWHERE[symptom])
        assert [word for word in words(symptom) if word not in held] == []


def test_no_provocation_is_of_a_symptom_that_the_guide_does_not_have() -> None:
    """A heading that was taken out takes its provocation with it, and the guide stays one."""
    assert len(SYMPTOMS) > 50
    assert {*HERE, *ELSEWHERE} == set(SYMPTOMS)


def test_a_symptom_that_is_said_otherwise_is_not_heard() -> None:
    """A comparison that lets anything pass would hold nothing."""
    assert is_said("is for the role …", "the approval at step 2 is for the\n  role operator, not user")
    assert is_said("run … aetheris check", "run `aetheris check`")
    assert not is_said("is for the role …", "the approval is for operators")
    assert not is_said("overtaken … times in a row", "3 times in a row overtaken")
    with pytest.raises(AssertionError, match="there is no test"):
        assertions_of("store/test_doubt.py::test_nothing")
    assert "is not in" not in assertions_of("acceptance/test_troubleshooting.py::test_every_symptom_is_provoked")
