"""What a person may do to a job: send, approve, cancel, pause, resume, resolve, retry.

Each is looked at before it is sent, so that what can have no effect is refused
with words and nothing is written; it is looked at again by the lease holder,
who makes an event of it, with who and why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from psycopg_pool import AsyncConnectionPool

from aetheris.domain import events
from aetheris.domain.encode import body_bytes
from aetheris.domain.errors import Denied, Refused
from aetheris.domain.events import Event
from aetheris.domain.jobs import JobStatus
from aetheris.domain.ledger import Transition
from aetheris.runtime.context import check_key
from aetheris.runtime.submit import Submitter
from aetheris.runtime.waits import approval_key
from aetheris.store import history, inbox, jobs, leases
from aetheris.store.database import Connection, as_tenant
from aetheris.store.history import Record
from aetheris.store.jobs import JobRow
from aetheris.store.signals import announce

Outcome = Literal["done", "failed", "not_done"]
PAYLOAD_BYTES_LIMIT = 1024 * 1024
WHY_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Operator:
    """One person's hands on one tenant's jobs. `job` is an id or the unique start of one."""

    pool: AsyncConnectionPool[Connection]
    submitter: Submitter

    @property
    def tenant(self) -> str:
        """Whose jobs."""
        return self.submitter.tenant

    async def signal(self, job: str, key: str, payload: Any = None) -> bool:
        """Send the signal `key`; False when it was sent before (a key arrives exactly once).

        It may come before the job waits for it. Errors: Refused when the job
        has ended, or the payload isn't JSON of at most 1 MiB.
        """
        check_key(key)
        body = body_bytes(payload)
        if len(body) > PAYLOAD_BYTES_LIMIT:
            raise Refused(f"a signal's payload has at most {PAYLOAD_BYTES_LIMIT:,} bytes, not {len(body):,}")
        return await self._send(job, "signal", key, body)

    async def approve(self, job: str, step: int, *, approved: bool, why: str = "", role: str = "operator") -> bool:
        """Answer the request for approval of `step`, as somebody of `role`.

        Errors: Refused when no such request is open, or its time is over;
        Denied when it is for another role.
        """
        async with as_tenant(self.pool, self.tenant) as connection:
            row, recorded = await self._read(connection, job)
        asked = _open_approvals(recorded)
        if step not in asked:
            there = ", ".join(map(str, sorted(asked))) or "none"
            raise Refused(f"job {row.job[:8]}: no approval is open at step {step} (open: {there})")
        until = asked[step].data.get("expires_at")
        if until is not None and self.submitter.clock.now_us() > until:
            raise Refused(f"job {row.job[:8]}: the approval at step {step} has expired: it counts as a no")
        wanted = asked[step].data.get("role")
        if wanted and role not in (wanted, "admin"):
            raise Denied(
                f"job {row.job[:8]}: the approval at step {step} is for the role {wanted}, not {role}"
                f" (--role {wanted}, or a token that has it)"
            )
        payload = {"decision": "approved" if approved else "rejected", "role": role, "why": _why(why)}
        return await self._send(row.job, "approval", approval_key(step), body_bytes(payload))

    async def cancel(self, job: str, why: str = "") -> bool:
        """Ask the job to end: its code gets Cancelled where it waits. False when that was asked before."""
        return await self._send(job, "cancel", "cancel", body_bytes({"why": _why(why)}))

    async def pause(self, job: str, why: str = "") -> None:
        """Let the job rest once the calls under way have ended, until `resume`."""
        await self._send(job, "pause", "", body_bytes({"why": _why(why)}))

    async def resume(self, job: str, why: str = "") -> None:
        """Let a paused or parked job go on. A result that was not confirmed is then used as recorded."""
        await self._send(job, "resume", "", body_bytes({"why": _why(why)}))

    async def resolve(
        self, job: str, step: int, outcome: Outcome, *, why: str, result: Any = None, worker_gone: bool = False
    ) -> bool:
        """End the doubt about the call of `step`: it was done (with `result`), it failed, or it did not happen.

        `not_done` makes the call again; it is refused while the worker that
        began it is not known to be gone, unless `worker_gone` says so.
        Errors: Refused when the call is not in doubt, or without a `why`.
        """
        if not why.strip():
            raise Refused("resolve needs a reason: what do you know, and from where?")
        async with as_tenant(self.pool, self.tenant) as connection:
            row = await jobs.find(connection, self.tenant, job)
            ledger = await history.load_ledger(connection, self.tenant, row.job)
            last = _in_doubt(row, ledger, step)
            began = next(t for t in ledger if (t.step, t.attempt, t.status) == (step, last.attempt, "started"))
            shown = outcome != "not_done" or await leases.holder_gone(connection, self.tenant, row.job, began.epoch)
        if not shown and not worker_gone:
            raise Refused(
                f"job {row.job[:8]}: the worker that began step {step} is not known to be gone: it might still do it. "
                "Make sure, then say so (--worker-gone)"
            )
        gone = "shown" if shown else "said"
        payload = {"as": outcome, "result": result, "why": _why(why), "worker_gone": gone}
        return await self._send(row.job, "resolve", f"{step}/{last.attempt}", body_bytes(payload))

    async def retry(self, job: str) -> str:
        """Submit a failed or cancelled job anew, with the same input, and return the new job's id.

        The new run names the old one in its first event; asking twice is the
        same new run. Errors: Refused unless the job has failed or was cancelled.
        """
        async with as_tenant(self.pool, self.tenant) as connection:
            row = await jobs.find(connection, self.tenant, job)
            if row.status not in (JobStatus.FAILED, JobStatus.CANCELLED):
                raise Refused(f"job {row.job[:8]} is {row.status.word}: only a failed or cancelled job is run again")
            recorded = (await history.load(connection, [(self.tenant, row.job)], [2**62]))[self.tenant, row.job]
            bodies = _input_of(row, recorded)
            new = self.submitter.genesis(
                self.submitter.mint(),
                row.agent,
                row.agent_version,
                self.submitter.clock.now_us(),
                bodies,
                {"retry_of": row.job},
                key=f"retry/{row.job}",
                capabilities=row.capabilities,
            )
            again = await jobs.submit(connection, new)
        await announce(self.pool)
        return again

    async def _send(self, job: str, kind: str, key: str, payload: bytes) -> bool:
        async with as_tenant(self.pool, self.tenant) as connection:
            row = await jobs.find(connection, self.tenant, job)
            by = self.submitter.by
            return await inbox.send(connection, self.tenant, row.job, kind=kind, key=key, by=by, payload=payload)

    async def _read(self, connection: Connection, job: str) -> tuple[JobRow, Record]:
        row = await jobs.find(connection, self.tenant, job)
        found = await history.load(connection, [(self.tenant, row.job)], [1])
        return row, found[self.tenant, row.job]


def _open_approvals(recorded: Record) -> dict[int, Event]:
    asked: dict[int, Event] = {}
    for line in recorded.lines:
        event = events.read(line)
        if event.type == "approval_requested":
            asked[event.step] = event
        elif event.type == "approval_completed":
            asked.pop(event.step, None)
    return asked


def _in_doubt(row: JobRow, ledger: list[Transition], step: int) -> Transition:
    """Return the transition by which the call of `step` is in doubt. Errors: Refused."""
    of_step = [t for t in ledger if t.step == step]
    if not of_step:
        raise Refused(f"job {row.job[:8]} has no call {step}: `aetheris trace {row.job[:8]}` shows its calls")
    last = of_step[-1]
    if last.status == "unknown":
        return last
    name = f"call {step} ({last.tool_name})"
    if last.status == "started" and last.effect == "once":
        raise Refused(f"job {row.job[:8]}: {name} is under way, or its job is not yet taken over: not in doubt")
    raise Refused(f"job {row.job[:8]}: {name} is {last.status}, not in doubt: there is nothing to resolve")


def _input_of(row: JobRow, recorded: Record) -> list[tuple[str, bytes]]:
    genesis = events.read(recorded.lines[0])
    bodies = []
    for name in genesis.cells:
        cell = recorded.cells.get((1, name))
        if cell is None or cell.body is None:
            raise Refused(f"job {row.job[:8]}: its {name} was erased, so it can't be run again; submit it anew")
        bodies.append((name, cell.body))
    return bodies


def _why(text: str) -> str:
    if len(text) > WHY_LIMIT:
        raise Refused(f"a reason has at most {WHY_LIMIT:,} characters, not {len(text):,}")
    return text
