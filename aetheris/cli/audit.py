"""`audit`: who looked and who acted, the chain's check, the chain as a file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aetheris.cli.connect import with_system
from aetheris.cli.main import json_option
from aetheris.cli.remote import remote
from aetheris.cli.screen import Screen, plural
from aetheris.cli.shapes import AUDIT, CHECKED, held
from aetheris.domain import events
from aetheris.domain.errors import Corrupt, Unusable
from aetheris.evidence import arriving, audit_file, audit_statement, dsse, keep_other_than_chain
from aetheris.runtime.audit_export import AuditExport, audit_export
from aetheris.runtime.sealing import KEY_MISSING, lacks_key, signer_here
from aetheris.runtime.system import AsyncSystem
from aetheris.store import audit as chain
from aetheris.store.database import as_tenant

if TYPE_CHECKING:
    from aetheris.forensics.remote import Api


@click.command()
@click.option("--check", "checking", is_flag=True, help="Check the whole chain instead of listing it.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the whole chain to this file (.jsonl), and beside it, where there is a key, who says so (.jsonl.dsse).",
)
@click.option("--limit", type=click.IntRange(1, 1000), default=30, show_default=True, help="Show this many.")
@json_option
def audit(checking: bool, output: Path | None, limit: int, screen: Screen) -> None:
    """List who looked and who acted, newest first; check the chain; or export it for `aetheris verify`.

    \b
    Example:  aetheris audit -o audit.jsonl && aetheris verify audit.jsonl
    """
    if output is not None and output.suffix != ".jsonl":
        raise click.UsageError("-o: an audit chain is a file named *.jsonl")
    if checking:
        told = _checked()
        screen.fact("audit", f"{told['entries']:,} entries, sound, head {told['head']}")
        screen.json(told)
    elif output is not None:
        keep_other_than_chain(output)
        made = _here(output) if (api := remote()) is None else _fetched(api, output)
        beside = str(audit_statement.signature_path(output)) if made.is_signed else None
        unsigned = " (unsigned)" if beside is None else ""
        screen.fact("audit", f"{output}, {plural(made.lines, 'line')}, head {made.head}{unsigned}")
        if beside is not None:
            screen.fact("signature", beside)
        elif made.lacks_key:
            screen.fact("signature", f"none: {KEY_MISSING}", style="yellow")
        screen.json({"file": str(output), "bytes": made.size, "head": made.head, "signature": beside})
    else:
        entries = _listed(limit)
        screen.json(entries)
        screen.table(["ENTRY", "AT", "WHO", "ACTION", "WHAT", "", "FROM"], [_row(e) for e in entries], right=(0,))


def _row(e: dict[str, Any]) -> list[str]:
    at = datetime.fromtimestamp(e["at"] / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")
    what = f"{e['resource_type']} {e['resource_id'][:12]}".strip()
    outcome = "" if e["success"] else f"refused {e['data'].get('status', '')}".strip()
    return [str(e["seq"]), at, e["by"], e["action"], what, outcome, str(e["data"].get("client_ip", ""))]


def _listed(limit: int) -> list[dict[str, Any]]:
    if (api := remote()) is not None:
        found: list[dict[str, Any]] = held(api, api.get("/api/audit", limit=limit), AUDIT)["entries"]
        return found

    async def work(system: AsyncSystem) -> list[dict[str, Any]]:
        async with as_tenant(system.operator.pool, system.tenant) as connection:
            rows = await chain.newest(connection, system.tenant, limit=limit)
        return [_view(row.line) for row in rows]

    return with_system(work)


def _view(line: bytes) -> dict[str, Any]:
    e = events.read(line)
    named = {name: e.data.get(name, default) for name, default in _NAMED.items()}
    rest = {k: v for k, v in e.data.items() if k not in _NAMED}
    return {"seq": e.seq, "at": e.at, "action": e.type, "by": e.by, **named, "data": rest}


_NAMED: dict[str, Any] = {"success": True, "resource_type": "", "resource_id": ""}


def _checked() -> dict[str, Any]:
    if (api := remote()) is not None:
        told: dict[str, Any] = held(api, api.get("/api/audit/verify"), CHECKED)
        return told

    async def work(system: AsyncSystem) -> dict[str, Any]:
        async with as_tenant(system.operator.pool, system.tenant) as connection:
            head = await chain.verify(connection, system.tenant)
        return {"tenant": system.tenant, "entries": head.seq, "head": head.leaf.hex(), "sound": True}

    return with_system(work)


@dataclass(frozen=True, slots=True)
class _Made:
    """An export that was written, and whether a key is configured here that can't be had."""

    lines: int
    size: int
    head: str
    is_signed: bool
    lacks_key: bool = False


def _here(output: Path) -> _Made:
    async def work(system: AsyncSystem) -> tuple[AuditExport, bool]:
        keys = system.config.security.evidence_signing
        signer = signer_here(keys)
        async with as_tenant(system.operator.pool, system.tenant) as connection:
            return await audit_export(connection, system.tenant, signer), lacks_key(keys)

    made, keyless = with_system(work)
    audit_file.deliver(made.lines, made.signature, output)
    return _Made(made.head.seq, len(made.lines), made.head.leaf.hex(), made.signature is not None, keyless)


def _fetched(api: Api, output: Path) -> _Made:
    with arriving(output) as partial:
        with partial.open("wb") as file:
            headers = api.download("/api/audit/export", file)
        try:
            head = audit_file.end_of(partial)
        except (Corrupt, Unusable) as error:
            raise Unusable(f"{api.url} sent no whole audit chain ({error}); nothing was written") from None
        if head.leaf.hex() != headers.get("x-head"):
            raise Unusable(f"{api.url} sent an audit chain that ends elsewhere than it says; nothing was written")
        signature = sent_signature(headers.get("x-signature"), api.url)
        size = partial.stat().st_size
        audit_file.land(partial, signature, output)
    return _Made(head.seq, size, head.leaf.hex(), signature is not None)


def sent_signature(sent: str | None, url: str) -> bytes | None:
    """Return the signature that came with an export, if one did. Errors: Unusable, where it is none."""
    if sent is None:
        return None
    try:
        signature = dsse.from_base64(sent, "the signature")
        audit_statement.of_envelope(signature)
    except Corrupt as error:
        raise Unusable(f"{url} sent a signature that can't be read ({error}); nothing was written") from None
    return signature
