"""Two tenants side by side behind one API, and one of them trying everything on the other.

The API is a process of its own with development tokens; whoever asks here has
a token and nothing else. The notebook on tenancy shows what comes of it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aetheris as ae
from aetheris.domain.errors import Unusable
from aetheris.domain.rows import Rows
from aetheris.forensics.remote import Api
from aetheris.forensics.source import open_source
from aetheris.runtime.facade import System

TENANTS = ("acme", "bolt")
JOBS = 3
#: What one may try on a job: what it is called, method, path below it, body.
ACTS: tuple[tuple[str, str, str, dict[str, Any] | None], ...] = (
    ("look at it", "GET", "", None),
    ("read its events", "GET", "/events", None),
    ("read its trace", "GET", "/trace", None),
    ("replay it", "GET", "/replay", None),
    ("export it", "POST", "/export", {}),
    ("signal it", "POST", "/signal", {"correlation_key": "thanks"}),
    ("stop it", "POST", "/stop", {}),
    ("who looked at it", "GET", "/audit-log", None),
)


@ae.tool(effect="none")
async def write_down(text: str) -> str:
    """Keep a text."""
    return text


@ae.agent
async def note(ctx: ae.Context, text: str) -> str:
    """Write a text down, and wait to be paid for it."""
    await ctx.call(write_down, text=text)
    await ctx.wait_signal("paid")
    return "paid"


@dataclass(frozen=True, slots=True)
class Tried:
    """What acme saw and got, and what stands on record of it."""

    listed: Rows  # tenant, jobs listed, of whom
    matrix: Rows  # act, own, bolt's, made up for bolt, no id
    same_answer: bool  # bolt's job and a made-up one: alike to the byte but for the request's id
    other_doors: Rows  # what was tried, answer
    lake: Path


def run(folder: Path) -> Tried:
    """Serve two tenants from `folder`, let acme try everything of bolt's, mirror, and return what came of it."""
    with _served(folder) as api:
        ours, theirs = ([_submit(api[t], f"a note of {t}") for _ in range(JOBS)] for t in TENANTS)
        made_up = _made_up(folder)
        acme = api["acme"]
        targets = (ours[0], theirs[0], made_up, "nobody")
        matrix = [
            [what, *(acme.answer(method, f"/api/jobs/{job}{path}", body)[0] for job in targets)]
            for what, method, path, body in ACTS
        ]
        bodies = [_without_id(acme.answer("GET", f"/api/jobs/{job}")[1]) for job in targets[1:3]]
        listed = [
            [t, len(found := _listed(api[t])), ", ".join(sorted({_whose(j, ours) for j in found}))] for t in TENANTS
        ]
        _command(folder, "mirror")
        doors = _doors(acme)
        _command(folder, "mirror")
    return Tried(
        Rows(["tenant", "jobs listed", "whose"], listed),
        Rows(["acme tries to", "own", "bolt's", "made up for bolt", "no id"], matrix),
        bodies[0] == bodies[1],
        Rows(["acme tries", "answer"], doors),
        folder / "home" / "lake",
    )


def files_of(lake: Path, tenant: str) -> list[str]:
    """Return whose rows a forensics session that was opened for `tenant` finds, over all tables."""
    with open_source(lake, tenant=tenant) as session:
        found = [session.query("trace/jobs").rows, session.query("tenancy/audit").rows]
    return sorted({row["tenant_id"] for rows in found for row in rows})


def _doors(acme: Api) -> list[list[Any]]:
    """Return what other ways in come to."""
    query = {"parameters": {"tenant_id": "bolt"}}
    asked = acme.post("/api/forensics/queries/tenancy/audit", query)["row_count"]
    return [
        ["a header that names bolt", acme.answer("GET", "/api/jobs", None, {"X-Tenant-ID": "bolt"})[0]],
        ["bolt in the query string", "own jobs" if len(_listed(acme, "?tenant=bolt")) == JOBS else "others"],
        ["support access nobody granted", acme.answer("GET", "/api/jobs", None, {"X-Support-Tenant": "bolt"})[0]],
        ["bolt's audit log from the lake", f"{asked} rows" if asked else "nothing"],
        ["no token", Api(acme.url, "").answer("GET", "/api/jobs")[0]],
    ]


def _submit(api: Api, text: str) -> str:
    return str(api.post("/api/jobs", {"agent": "note", "input": text})["job_id"])


def _listed(api: Api, query: str = "") -> list[str]:
    return [j["job_id"] for j in json.loads(api.answer("GET", f"/api/jobs{query}")[1])["jobs"]]


def _whose(job: str, ours: list[str]) -> str:
    return TENANTS[0] if job in ours else TENANTS[1]


def _without_id(body: bytes) -> dict[str, Any]:
    return {k: v for k, v in json.loads(body).items() if k != "request_id"}


def _made_up(folder: Path) -> str:
    """Return a well-formed id of bolt's of which there is no job."""
    with System(home=folder / "home", tenant="bolt") as system:
        return system.operator.submitter.mint()


@contextmanager
def _served(folder: Path) -> Iterator[dict[str, Api]]:
    words = ["serve", "aetheris.demo.neighbours:note", "--dev-tokens", "--port", "0", "--json"]
    server = subprocess.Popen(
        _words(*words), env=_environ(folder), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert server.stdout is not None
        url = next((line.split('"')[3] for line in server.stdout if '"url":' in line), "")
        if not url:
            raise Unusable("the API did not start; run `aetheris serve` to see why")
        yield {t: Api(url, _token(folder, t)) for t in TENANTS}
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def _token(folder: Path, tenant: str) -> str:
    return str(json.loads(_command(folder, "--tenant", tenant, "token", "--role", "admin", "--json"))["token"])


def _command(folder: Path, *words: str) -> str:
    return subprocess.run(_words(*words), env=_environ(folder), capture_output=True, text=True, check=True).stdout


def _words(*words: str) -> list[str]:
    return [sys.executable, "-m", "aetheris", *words]


def _environ(folder: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AETHERIS_")}
    return {**kept, "AETHERIS_HOME": str(folder / "home")}
