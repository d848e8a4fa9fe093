"""Logs: each line says what it is about, in the form that fits who reads it; secrets and cells are never in one."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from aetheris.runtime import logs
from aetheris.runtime.config import Config
from aetheris.runtime.resource import resource
from aetheris.store.database import Database

PASSWORD = "pa55-w0rd-of-the-store"
KEY = "sk-key-of-the-model"
ARGUMENT, MESSAGE, RESULT, INPUT = "ARGUMENT-7c1", "MESSAGE-7c2", "RESULT-7c3", "INPUT-7c4"

AGENTS = f"""
import logging
import aetheris as ae

log = logging.getLogger("desk")

@ae.tool(effect="none", retries=1)
async def breaks(what: str) -> str:
    log.warning("about to break")
    raise ValueError("{MESSAGE}" + what)

@ae.tool
def pays(what: str) -> str:
    log.info("paying")
    return "{RESULT}"

@ae.agent
async def fails(ctx: ae.Context, what: str) -> str:
    await ctx.call(pays, what="{ARGUMENT}")
    return await ctx.call(breaks, what="{ARGUMENT}")

@ae.agent
def plain(ctx: ae.SyncContext, what: str) -> str:
    log.info("in its thread")
    return ctx.call(pays, what="{ARGUMENT}")

@ae.agent
async def strange(ctx: ae.Context, what: str) -> object:
    return {{1: object(), what: float("nan")}}
"""


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


class Terminal(io.StringIO):
    """A stream that a person reads."""

    def isatty(self) -> bool:
        """It is one."""
        return True


def test_a_worker_logs_json_lines_that_name_the_job_and_never_what_it_holds(database: Database, tmp_path: Path) -> None:
    """Grepped: no argument, result, input, error's text, password or key is anywhere in what a worker writes."""
    (tmp_path / "agents.py").write_text(AGENTS)
    # A server that asks for no password doesn't mind one.
    env = {**os.environ, "AETHERIS_DSN": f"{database.admin_dsn} password={PASSWORD}", "TEST_MODEL_KEY": KEY}
    (tmp_path / "aetheris.yaml").write_text(
        "models:\n  desk: {provider: p, base_url: 'http://127.0.0.1:1', model: m, api_key_env: TEST_MODEL_KEY}\n"
    )
    words = [sys.executable, "-m", "aetheris"]
    jobs = []
    for agent in ("fails", "plain", "strange"):
        done = subprocess.run(
            [*words, "submit", f"agents:{agent}", "-i", "-", "--json"], input=json.dumps(INPUT), cwd=tmp_path, env=env,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        jobs.append(json.loads(done.stdout)["job"])
    worker = subprocess.Popen(
        [*words, "worker", "agents:fails", "agents:plain", "agents:strange", "--metrics-port", "0"],
        cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
            ended = "SELECT FROM aetheris.jobs WHERE status IN (2, 3)"
            while connection.execute(ended).rowcount < len(jobs):
                time.sleep(0.05)
    finally:
        worker.terminate()
        out, err = worker.communicate(timeout=30)
    for secret in (PASSWORD, KEY, ARGUMENT, MESSAGE, RESULT, INPUT):
        assert secret not in out + err
    lines = [json.loads(line) for line in err.splitlines()]
    told = {line["event"]: line for line in lines}
    about = told["about to break"]
    assert (about["job"], about["tenant"], about["epoch"], about["step"]) == (jobs[0], "default", 1, 2)
    assert (about["tool"], about["level"], about["agent"]) == ("breaks", "warning", "fails")
    assert about["service.name"] == "aetheris"
    assert about["service.instance.id"]
    assert [line["step"] for line in lines if line["event"] == "paying"] == [1, 1]  # from a thread, too
    assert told["in its thread"]["job"] == jobs[1]


def test_a_person_reads_words_and_a_machine_json() -> None:
    """The same line twice."""
    for stream in (Terminal(), io.StringIO()):
        logs.configure(resource("desk", "w1"), ["topsecret"], stream=stream)
        with_context = logging.getLogger("x")
        logs.bound(job="7kq2" + "x" * 36, step=4)
        with_context.error("half a \udc80 and topsecret", extra={"topsecret": 1})
        said = stream.getvalue()
        assert "topsecret" not in said
        assert said.count("\n") == 1
        if stream.isatty():
            assert "ERROR   half a \\udc80 and ***  [job=7kq2xxxx step=4]" in said
        else:
            line = json.loads(said)
            assert (line["job"][:4], line["step"], line["level"], line["logger"]) == ("7kq2", 4, "error", "x")
            assert line["service.instance.id"] == "w1"


def test_a_traceback_is_kept_and_masked() -> None:
    """Whoever looks for our own fault needs it; a connection string in it is nobody's."""
    stream = io.StringIO()
    logs.configure(resource("desk", "w1"), ["topsecret"], stream=stream)
    try:
        raise RuntimeError("no way to postgresql://me:topsecret@db/x")
    except RuntimeError:
        logging.getLogger("x").exception("lost")
    line = json.loads(stream.getvalue())
    assert "RuntimeError: no way to postgresql://me:***@db/x" in line["exception"]


@pytest.mark.parametrize(
    "dsn",
    ["postgresql://me:hush-1@db:5432/x", "host=db password=hush-1 user=me", "postgresql://db/x?password=hush-1&a=b"],
)
def test_the_password_of_a_connection_string_is_a_secret(dsn: str) -> None:
    """However it is spelt; the whole string is one too, and so are the keys that tokens and seals are signed with."""
    signing = {"evidence_signing": {"private_key_base64": "seal-3"}}
    given = {"jobstore": {"dsn": dsn}, "api": {"middleware": {"jwt_key": "jwt-2"}}, "security": signing}
    assert {"hush-1", dsn, "jwt-2", "seal-3"} <= set(Config.model_validate(given).secrets({}))
