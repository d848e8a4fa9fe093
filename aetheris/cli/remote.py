"""Commands against an API by its URL: AETHERIS_URL says where, AETHERIS_TOKEN who.

Without AETHERIS_URL the same commands work on the database itself, for
operators who have its connection string.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aetheris.cli.rows import MORE, short_ids
from aetheris.cli.screen import Screen, ago, size
from aetheris.cli.shapes import JOBS, MADE, SENT, held
from aetheris.domain import ids
from aetheris.domain.errors import Corrupt, Refused, Unusable
from aetheris.evidence import LIMITS, arriving, format, keep_other_than_package, land, open_package

if TYPE_CHECKING:
    from aetheris.forensics.remote import Api


def remote() -> Api | None:
    """Return the API that AETHERIS_URL (or AETHERIS_API_URL) names, or None. Errors: Refused."""
    url = os.environ.get("AETHERIS_URL") or os.environ.get("AETHERIS_API_URL")
    if not url:
        return None
    if click.get_current_context().find_root().get_parameter_source("tenant") not in _UNSAID:
        raise Refused("--tenant and AETHERIS_URL don't go together: over the API the token says which tenant")
    from aetheris.forensics.remote import Api  # brings DuckDB, which speaking to a database doesn't need

    return Api(url)


_UNSAID = (click.core.ParameterSource.DEFAULT, click.core.ParameterSource.DEFAULT_MAP, None)


def full_id(api: Api, job: str) -> str:
    """Return the one job whose id starts so. Errors: Refused when none or several do."""
    if not job.isascii() or not job.isalnum():
        raise Refused(f"no job starts with {job!r}: `aetheris jobs` lists them")
    if len(job) == ids.LENGTH:
        return job
    found = held(api, api.get("/api/jobs", prefix=job.lower(), limit=2), JOBS)["jobs"]
    if not found:
        raise Refused(f"no job starts with {job!r}: `aetheris jobs` lists them")
    if len(found) > 1:
        raise Refused(
            f"several jobs start with {job!r} ({', '.join(j['job_id'][:12] for j in found)}): type more of it"
        )
    return str(found[0]["job_id"])


def act(api: Api, job: str, verb: str, body: dict[str, Any]) -> tuple[str, Any]:
    """Do `verb` to the one job that starts so; return its id and whether it was sent (or the new job)."""
    found = full_id(api, job)
    told = held(api, api.post(f"/api/jobs/{found}/{verb}", body), MADE if verb == "retry" else SENT)
    return found, told["job_id"] if verb == "retry" else told["sent"]


def show_jobs(api: Api, screen: Screen, agent: str | None, words: list[str], limit: int) -> None:
    """List jobs, as `aetheris jobs` does."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while len(found) < limit:
        size = min(200, limit - len(found))
        answer = api.get("/api/jobs", agent=agent, status=words or None, limit=size, cursor=cursor)
        page = held(api, answer, JOBS)
        found += page["jobs"]
        if (cursor := page["next"]) is None or not page["jobs"]:
            break
    screen.json([{"job": j["job_id"], **{k: v for k, v in j.items() if k != "job_id"}} for j in found])
    if not found:
        screen.line("no jobs")
        return
    short = short_ids([j["job_id"] for j in found])
    screen.table(
        ["JOB", "AGENT", "STATUS", "EVENTS", "AGE", "KEY", "WAITS FOR"],
        [
            [
                short[j["job_id"]],
                j["agent"],
                j["status"],
                str(j["events"]),
                ago(datetime.fromisoformat(j["created_at"])),
                j["key"] or "",
                j["waits_for"],
            ]
            for j in found
        ],
        right=(3, 4),
    )
    if cursor is not None:
        screen.line(f"the newest {limit:,}; {MORE}", style="dim")


def export(api: Api, screen: Screen, job: str, output: Path | None) -> None:
    """Fetch a job's evidence and write it. Errors: Refused when it can't be written there."""
    found = full_id(api, job)
    out = output or Path(f"evidence-{found[:8]}.zip")
    keep_other_than_package(out)
    with arriving(out) as partial:
        with partial.open("wb") as file:
            headers = api.download(f"/api/jobs/{found}/export", file, limit=LIMITS.package_bytes)
        try:
            package = open_package(partial)
        except (Corrupt, Unusable) as error:
            raise Unusable(f"{api.url} sent no evidence zip ({error}); nothing was written") from None
        count = partial.stat().st_size
        land(partial, out)
    signed = "" if format.SEAL_DSSE in package else " (unsigned)"
    sealed = "" if format.SEAL in package else ", unsealed: the job has not ended"
    screen.fact("evidence", f"{out}, {size(count)}: {headers.get('x-verdict', '')}{signed}{sealed}")
    screen.json({"file": str(out), "bytes": count, "sha256": headers.get("x-content-sha256", "")})


def submit(api: Api, screen: Screen, target: str, value: Any, key: str | None) -> None:
    """Submit a job of an agent that the API serves: by its name, or as MODULE:AGENT."""
    name = target.rpartition(":")[2]
    told = held(api, api.post("/api/jobs", {"agent": name, "input": value}, key=key), MADE)
    screen.line(told["job_id"])
    screen.json({"job": told["job_id"]})
