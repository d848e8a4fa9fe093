"""The command line and the workbench against an API by its URL, with a token; as a user would."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import aetheris.workbench as wb
from aetheris.domain.errors import Denied, Refused
from aetheris.evidence.dsse import new_signer
from aetheris.forensics.remote import Api

AGENT = """
import aetheris as ae

@ae.tool(effect="none")
async def look_up(booking: str) -> str:
    return f"booking {booking}"

@ae.agent(version="1")
async def desk(ctx: ae.Context, booking: str) -> dict:
    await ctx.call(look_up, booking=booking)
    paid = await ctx.wait_signal("paid")
    yes = await ctx.approval("Refund?", role="operator")
    return {"paid": paid, "yes": bool(yes)}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A folder with an agent, its API with development tokens, and a way to run commands there."""
    folder = tmp_path_factory.mktemp("api")
    folder.chmod(0o755)
    (folder / "desk_agent.py").write_text(AGENT)
    home = f"/tmp/aetheris-api-{os.getpid()}"
    environ = {k: v for k, v in os.environ.items() if not k.startswith("AETHERIS")} | {"AETHERIS_HOME": home}

    def run(*words: str, code: int = 0, **more: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "aetheris", *words],
            cwd=folder, env={**environ, **more}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stdout + done.stderr

    (folder / "api.yaml").write_text("security: {evidence_signing: {enabled: true, key_id: acme}}")
    signer, secret = new_signer("acme")
    (folder / "acme.pub").write_bytes(base64.b64encode(signer.public.raw))
    keys = {"CONFIG_PATH": str(folder / "api.yaml"), "AETHERIS_EVIDENCE_SIGNING_PRIVATE_KEY": secret}
    server = subprocess.Popen(
        [sys.executable, "-m", "aetheris", "serve", "desk_agent:desk", "--dev-tokens", "--port", "0"],
        cwd=folder, env=environ | keys, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    url = ""
    for line in server.stdout:
        if line.startswith("api "):
            url = line.split()[1].removesuffix("/api")
        if line.startswith("worker "):
            break
    assert url
    tokens = {
        (tenant, role): run("--tenant", tenant, "token", "--role", role).strip()
        for tenant, role in (("acme", "admin"), ("acme", "auditor"), ("other", "admin"))
    }
    yield {"run": run, "url": url, "tokens": tokens, "folder": folder}
    server.send_signal(signal.SIGTERM)
    assert server.wait(30) == 0
    run("down")
    subprocess.run(["rm", "-rf", home], check=True)


def test_a_job_from_submit_to_evidence_over_the_api(place: dict[str, Any]) -> None:
    """submit, jobs, trace, pause, resume, signal, approve, export, verify; and cancel of another.

    What trace shows is what it shows beside the database: a result, beyond 64 bits too, and its erasure.
    """
    run, folder = place["run"], place["folder"]
    there = {"AETHERIS_URL": place["url"], "AETHERIS_TOKEN": place["tokens"]["acme", "admin"]}
    (folder / "in.json").write_text('"4WQ150"')
    (folder / "paid.json").write_text(str(2**70))
    job = run("submit", "desk_agent:desk", "-i", "in.json", "--key", "t1", **there).strip()
    assert run("submit", "desk", "-i", "in.json", "--key", "t1", **there).strip() == job
    short = job[:8]
    assert short[:6] in run("jobs", **there)
    run("pause", short, **there)
    run("resume", short, **there)
    assert "was sent before" in (
        run("signal", short, "paid", "-i", "paid.json", **there)
        + run("signal", short, "paid", "-i", "paid.json", **there)
    )
    for _ in range(100):
        if json.loads(run("jobs", "--parked", "--json", **there)):
            break
    step = next(
        line["step"]
        for line in json.loads(run("trace", short, "--json", **there))["lines"]
        if "approval" in line["what"]
    )
    run("approve", short, str(step), "--why", "called", **there)
    for _ in range(100):
        told = json.loads(run("trace", short, "--json", **there))
        if told["status"] == "completed":
            break
    assert told["status"] == "completed"
    shown = run("trace", short, **there)
    assert "look_up" in shown
    assert shown.endswith(f'\nresult     {{"paid": {2**70}, "yes": true}}\n')
    assert shown == run("--tenant", "acme", "trace", short)
    ended = json.loads(run("--tenant", "acme", "trace", short, "--json"))
    assert told == ended
    assert ended["result"] == {"paid": 2**70, "yes": True}
    told = run("export", short, "-o", "e.zip", **there)
    assert "self-consistent (unsigned)" in told
    assert "no evidence zip" in run("export", short, "-o", "desk_agent.py", code=2, **there)
    assert (folder / "desk_agent.py").read_text() == AGENT
    assert "self-consistent" in run("verify", "e.zip", code=3)
    run("--tenant", "acme", "erase", short, f"{ended['events']}/result", "--why", "x")
    shown = run("trace", short, **there)
    assert shown.endswith("\nresult     (erased)\n")
    assert shown == run("--tenant", "acme", "trace", short)
    second = run("submit", "desk", "-i", "in.json", **there).strip()
    assert "asked to end" in run("cancel", second, **there)
    assert "the newest 1; --limit N shows more" in run("jobs", "--limit", "1", **there)
    assert "newest" not in run("jobs", **there)
    assert "not in doubt" in run("resolve", short, "1", "--as", "failed", "--why", "x", code=2, **there)


def test_what_the_token_does_not_allow_is_said_in_one_line(place: dict[str, Any]) -> None:
    """No token, another tenant's job, a role without the right, an address without https, a tenant besides."""
    run, url = place["run"], place["url"]
    admin = {"AETHERIS_URL": url, "AETHERIS_TOKEN": place["tokens"]["acme", "admin"]}
    (place["folder"] / "in.json").write_text('"x"')
    job = run("submit", "desk", "-i", "in.json", **admin).strip()
    cases = [
        (("jobs",), {"AETHERIS_URL": url}, 1, "AETHERIS_TOKEN"),
        (("trace", job), {"AETHERIS_URL": url, "AETHERIS_TOKEN": place["tokens"]["other", "admin"]}, 1, "not yours"),
        (("cancel", job), {"AETHERIS_URL": url, "AETHERIS_TOKEN": place["tokens"]["acme", "auditor"]}, 1, "job:stop"),
        (("jobs",), {"AETHERIS_URL": "http://api.example", "AETHERIS_TOKEN": "x"}, 2, "https"),
        (("jobs",), {"AETHERIS_URL": "http://127.0.0.1:1", "AETHERIS_TOKEN": "x"}, 2, "can't reach"),
        (("--tenant", "other", "jobs"), admin, 2, "--tenant and AETHERIS_URL"),
        (("trace", "zzzz"), admin, 2, "no job starts with"),
    ]
    for words, environ, code, said in cases:
        told = run(*words, code=code, **environ)
        assert said in told, told
        assert "Traceback" not in told
        assert len(told.strip().splitlines()) == 1


def test_the_audit_log_is_read_checked_exported_and_verified(place: dict[str, Any]) -> None:
    """By the auditor over the API and by the operator on the database: the same chain; signed by who has a key."""
    run, folder = place["run"], place["folder"]
    auditor = {"AETHERIS_URL": place["url"], "AETHERIS_TOKEN": place["tokens"]["acme", "auditor"]}
    assert "view_audit" in run("audit", **auditor) + run("audit", **auditor)
    assert json.loads(run("audit", "--check", "--json", **auditor))["sound"] is True
    head = json.loads(run("audit", "-o", "audit.jsonl", "--json", **auditor))["head"]
    assert "self-consistent" in run("verify", "audit.jsonl", code=3)
    run("verify", "audit.jsonl", "--head", head, code=3)
    assert "signed by acme (given by you)" in run("verify", "audit.jsonl", "--trust", "acme.pub")
    assert "not in this chain" in run("verify", "audit.jsonl", "--head", "0" * 64, code=1)
    assert json.loads(run("--tenant", "acme", "audit", "--check", "--json"))["entries"] > 1
    lines = (folder / "audit.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "cut.jsonl").write_bytes(b"".join(lines[:2] + lines[3:]))
    assert "audit entry 3" in run("verify", "cut.jsonl", code=1)
    (folder / "empty.jsonl").write_bytes(b"")
    run("verify", "empty.jsonl", code=1)
    run("verify", "none.jsonl", code=2)


def test_the_workbench_reads_through_the_api(place: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """`wb.open(URL)`: jobs, checks, one job's steps and its evidence, of the token's tenant alone; no free SQL."""
    run = place["run"]
    run("mirror")
    monkeypatch.setenv("AETHERIS_TOKEN", place["tokens"]["acme", "admin"])
    desk = wb.open(place["url"])
    assert {row["tenant_id"] for row in desk.jobs.rows} == {"acme"}
    assert "read through http://127.0.0.1" in repr(desk)
    assert desk.check().passed
    job = desk.jobs.where(status="completed")[0]
    assert "look_up" in repr(job.steps)
    assert job.export(place["folder"] / "desk.zip").verdict.exit_code == 3
    with pytest.raises(Refused, match="named queries"):
        desk.sql("select 1")
    monkeypatch.setenv("AETHERIS_TOKEN", place["tokens"]["other", "admin"])
    assert len(wb.open(place["url"]).jobs) == 0
    monkeypatch.setenv("AETHERIS_TOKEN", "nonsense")
    with pytest.raises(Denied, match="AETHERIS_TOKEN"):
        wb.open(place["url"])


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x", "http://api.example", "https://u:p@x", "x", "http://[", "http://localhost:x", "http://localhost:99999",
        "https://" + "a" * 300, "http://localhost/a b", "http://localhost/\u00e9", "https://x?y", "https://x#y",
    ],
)  # fmt: skip
def test_an_address_that_would_give_the_token_away_is_refused(url: str) -> None:
    """In the clear, or in the address; and what is no address at all."""
    with pytest.raises(Refused):
        Api(url, "t")
