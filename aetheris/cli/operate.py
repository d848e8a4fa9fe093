"""What a person does to a job: signal, approve, cancel, pause, resume, resolve, retry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import click

from aetheris.cli.connect import with_system
from aetheris.cli.main import json_option
from aetheris.cli.remote import act, remote
from aetheris.cli.screen import Screen
from aetheris.cli.submit import read_json
from aetheris.runtime.operator import Outcome
from aetheris.runtime.system import AsyncSystem

T = TypeVar("T")
ROLES = ["admin", "operator", "auditor", "user"]


def _act(
    job: str, work: Callable[[AsyncSystem, str], Awaitable[T]], verb: str, body: dict[str, Any]
) -> tuple[str, T | Any]:
    """Find the one job that starts so, do `work` to it (over an API: `verb`), and return its id and what came of it."""
    if (api := remote()) is not None:
        return act(api, job, verb, body)

    async def done(system: AsyncSystem) -> tuple[str, T]:
        row = await system.find(job)
        return row.job, await work(system, row.job)

    return with_system(done)


def _said(screen: Screen, job: str, action: str, text: str, **facts: Any) -> None:
    screen.line(f"{job[:8]} {text}")
    screen.json({"job": job, "action": action, **facts})


@click.command()
@click.argument("job")
@click.argument("key")
@click.option("-i", "--input", "source", help="JSON file with the payload, or - for standard input.")
@json_option
def signal(job: str, key: str, source: str | None, screen: Screen) -> None:
    """Send a signal to a job. Each key arrives exactly once, also before the job waits for it.

    \b
    Example:  aetheris signal 7kq2 payment-received -i receipt.json
    """
    payload = read_json(source) if source is not None else None
    full, new = _act(
        job,
        lambda system, found: system.operator.signal(found, key, payload),
        "signal",
        {"correlation_key": key, "payload": payload},
    )
    _said(screen, full, "signal", f"signal {key} {'sent' if new else 'was sent before; nothing changed'}", sent=new)


@click.command()
@click.argument("job")
@click.argument("step", type=click.IntRange(1))
@click.option("--reject", is_flag=True, help="Say no.")
@click.option("--why", default="", help="The reason, for the record.")
@click.option("--role", type=click.Choice(ROLES), default="operator", show_default=True, help="Speak as this role.")
@json_option
def approve(job: str, step: int, reject: bool, why: str, role: str, screen: Screen) -> None:
    """Answer a job's request for approval at STEP. `aetheris jobs --parked` lists what is open.

    \b
    Example:  aetheris approve 7kq2 4 --why "called the customer"
    """
    full, new = _act(
        job,
        lambda s, found: s.operator.approve(found, step, approved=not reject, why=why, role=role),
        "approve",
        {"step": step, "approved": not reject, "why": why},
    )
    word = "rejected" if reject else "approved"
    _said(screen, full, word, f"step {step} {word}" if new else f"step {step} has an answer already", sent=new)


@click.command()
@click.argument("job")
@click.option("--why", default="", help="The reason, for the record.")
@json_option
def cancel(job: str, why: str, screen: Screen) -> None:
    """Ask a job to end. Its code may clean up; a call in doubt is resolved first.

    \b
    Example:  aetheris cancel 7kq2 --why "customer left"
    """
    full, new = _act(job, lambda system, found: system.operator.cancel(found, why), "stop", {"why": why})
    _said(screen, full, "cancel", "is asked to end" if new else "was asked to end before", sent=new)


@click.command()
@click.argument("job")
@click.option("--why", default="", help="The reason, for the record.")
@json_option
def pause(job: str, why: str, screen: Screen) -> None:
    """Let a job rest once its calls under way have ended, until `aetheris resume`.

    \b
    Example:  aetheris pause 7kq2 --why audit
    """
    full, _ = _act(job, lambda system, found: system.operator.pause(found, why), "pause", {"why": why})
    _said(screen, full, "pause", f"rests from its next step on; `aetheris resume {full[:8]}` lets it go on")


@click.command()
@click.argument("job")
@click.option("--why", default="", help="The reason, for the record.")
@json_option
def resume(job: str, why: str, screen: Screen) -> None:
    """Let a paused or parked job go on.

    Of a job in doubt the tool's confirm is asked again; a recorded result that
    the world did not confirm is used as it is recorded.

    \b
    Example:  aetheris resume 7kq2
    """
    full, _ = _act(job, lambda system, found: system.operator.resume(found, why), "resume", {"why": why})
    _said(screen, full, "resume", "goes on")


@click.command()
@click.argument("job")
@click.argument("step", type=click.IntRange(1))
@click.option(
    "--as",
    "outcome",
    type=click.Choice(["done", "failed", "not-done"]),
    required=True,
    help="It took effect; it failed; or it did not happen and is to be made again.",
)
@click.option("--result", "source", help="JSON file with the call's result (with --as done), or -.")
@click.option("--why", required=True, help="What you know, and from where. Stays on record.")
@click.option("--worker-gone", is_flag=True, help="You made sure that the worker which began the call is gone.")
@json_option
def resolve(job: str, step: int, outcome: str, source: str | None, why: str, worker_gone: bool, screen: Screen) -> None:
    """End the doubt about a call that started and whose end nobody recorded.

    \b
    Example:  aetheris resolve 7kq2 4 --as done --result receipt.json \\
                  --why "bank statement 2026-11-23, line 4"
    """
    if source is not None and outcome != "done":
        raise click.UsageError(f"--result goes with --as done, not with --as {outcome}")
    result = read_json(source) if source is not None else None
    word = cast(Outcome, outcome.replace("-", "_"))
    full, new = _act(
        job,
        lambda system, found: system.operator.resolve(
            found, step, word, why=why, result=result, worker_gone=worker_gone
        ),
        "resolve",
        {"step": step, "outcome": word, "why": why, "result": result, "worker_gone": worker_gone},
    )
    text = f"step {step} resolved as {outcome}" if new else f"step {step} was resolved before; nothing changed"
    _said(screen, full, "resolve", text, sent=new)


@click.command()
@click.argument("job")
@json_option
def retry(job: str, screen: Screen) -> None:
    """Run a failed or cancelled job anew, with the same input, and print the new job's id.

    \b
    Example:  aetheris retry 7kq2
    """
    full, new = _act(job, lambda system, found: system.operator.retry(found), "retry", {})
    screen.line(new)
    screen.json({"job": new, "action": "retry", "retry_of": full})
