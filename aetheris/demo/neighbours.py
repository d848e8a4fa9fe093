"""Two tenants side by side behind one API, and one of them trying everything on the other; or a dozen of them.

The API is a process of its own with development tokens; whoever asks here has
a token and nothing else. The notebooks on tenancy and on acceptance show what
comes of it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aetheris as ae
from aetheris.domain.errors import Refused, Unusable
from aetheris.domain.rows import Rows
from aetheris.forensics.remote import Api
from aetheris.forensics.source import open_source
from aetheris.runtime.facade import System

TENANTS = ("acme", "bolt")
#: Who else may live there.
OTHERS = ("cobalt", "dune", "ember", "fjord", "gale", "harbor", "iris", "juniper", "kelp", "larch")
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
class Crossing:
    """One thing that a tenant tried on another's job, and the answer's status; `request` is its id on the record."""

    tenant: str
    whose: str
    act: str
    status: int
    request: str


@dataclass(frozen=True, slots=True)
class Tried:
    """What acme saw and got, and what stands on record of it."""

    listed: Rows  # tenant, jobs listed, of whom
    matrix: Rows  # act, own, bolt's, made up for bolt, no id
    same_answer: bool  # bolt's job and a made-up one: alike to the byte but for the request's id
    other_doors: Rows  # what was tried, answer
    crossings: list[Crossing]
    walls: str  # "up", or what a role that serves tenants is refused for
    lake: Path

    @property
    def tenants(self) -> int:
        """How many live there."""
        return len(self.listed)

    @property
    def across(self) -> Rows:
        """How often each thing was tried on another tenant's job, and the answers."""
        rows = [
            [act, len(found), ", ".join(sorted({str(c.status) for c in found}))]
            for act in dict.fromkeys(c.act for c in self.crossings)
            if (found := [c for c in self.crossings if c.act == act])
        ]
        return Rows(["tried on another's job", "times", "answers"], rows)

    def on_record(self, audit: Iterable[Mapping[str, Any]]) -> int:
        """Return how many crossings stand in `audit` (rows of tenancy/audit): refused, in the chain of who tried."""
        refused = {(r["tenant_id"], r["request_id"]) for r in audit if r["status"] == 403 and not r["success"]}
        return sum((c.tenant, c.request) in refused for c in self.crossings)


def run(folder: Path, tenants: int = len(TENANTS)) -> Tried:
    """Serve so many tenants from `folder`, let acme try everything of bolt's, mirror, and return what came of it.

    Where there are more than these two (up to 12), acme tries each act on a job of
    every other tenant too, and each of them on acme's.
    """
    names = (*TENANTS, *OTHERS)[:tenants]
    with _served(folder, names) as api:
        jobs = {t: [_submit(api[t], f"a note of {t}") for _ in range(JOBS)] for t in names}
        made_up = _made_up(folder)
        acme = api["acme"]
        targets = (jobs["acme"][0], jobs["bolt"][0], made_up, "nobody")
        matrix = [
            [what, *(acme.answer(method, f"/api/jobs/{job}{path}", body)[0] for job in targets)]
            for what, method, path, body in ACTS
        ]
        bodies = [_without_id(acme.answer("GET", f"/api/jobs/{job}")[1]) for job in targets[1:3]]
        listed = [
            [t, len(found := _listed(api[t])), ", ".join(sorted({_whose(j, jobs) for j in found}))] for t in names
        ]
        _command(folder, "mirror")
        doors = _doors(acme)
        crossings = _crossings(api, jobs)
        _command(folder, "mirror")
    return Tried(
        Rows(["tenant", "jobs listed", "whose"], listed),
        Rows(["acme tries to", "own", "bolt's", "made up for bolt", "no id"], matrix),
        bodies[0] == bodies[1],
        Rows(["acme tries", "answer"], doors),
        crossings,
        _walls(folder),
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


def _crossings(api: Mapping[str, Api], jobs: Mapping[str, Sequence[str]]) -> list[Crossing]:
    """Let acme try every act on a job of each of OTHERS, and each of them on acme's."""
    pairs = [pair for other in api if other in OTHERS for pair in (("acme", other), (other, "acme"))]
    found = []
    for tenant, whose in pairs:
        for n, (act, method, path, body) in enumerate(ACTS):
            request = f"{tenant}-at-{whose}-{n}"
            way = f"/api/jobs/{jobs[whose][0]}{path}"
            status, _, _ = api[tenant].answer(method, way, body, {"X-Request-ID": request})
            found.append(Crossing(tenant, whose, act, status, request))
    return found


def _walls(folder: Path) -> str:
    """Return "up" if whoever opens the store as the app is let in, else what is said instead."""
    try:
        System(home=folder / "home").close()
    except Refused as refused:
        return str(refused)
    return "up"


def _submit(api: Api, text: str) -> str:
    return str(api.post("/api/jobs", {"agent": "note", "input": text})["job_id"])


def _listed(api: Api, query: str = "") -> list[str]:
    return [j["job_id"] for j in json.loads(api.answer("GET", f"/api/jobs{query}")[1])["jobs"]]


def _whose(job: str, jobs: Mapping[str, Sequence[str]]) -> str:
    return next(tenant for tenant, own in jobs.items() if job in own)


def _without_id(body: bytes) -> dict[str, Any]:
    return {k: v for k, v in json.loads(body).items() if k != "request_id"}


def _made_up(folder: Path) -> str:
    """Return a well-formed id of bolt's of which there is no job."""
    with System(home=folder / "home", tenant="bolt") as system:
        return system.operator.submitter.mint()


@contextmanager
def _served(folder: Path, names: Sequence[str]) -> Iterator[dict[str, Api]]:
    words = ["serve", "aetheris.demo.neighbours:note", "--dev-tokens", "--port", "0", "--json"]
    server = subprocess.Popen(
        _words(*words), env=_environ(folder), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert server.stdout is not None
        url = next((line.split('"')[3] for line in server.stdout if '"url":' in line), "")
        if not url:
            raise Unusable("the API did not start; run `aetheris serve` to see why")
        with ThreadPoolExecutor(2) as threads:  # each token is a process of its own
            tokens = list(threads.map(lambda tenant: _token(folder, tenant), names))
        yield {name: Api(url, token) for name, token in zip(names, tokens, strict=True)}
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
