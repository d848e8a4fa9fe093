"""`keys`: those that seals are signed with, and those of the deployment itself."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import click
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from aetheris.cli.connect import open_database, refuse_over_api
from aetheris.cli.main import Listing, json_option
from aetheris.cli.screen import Screen
from aetheris.domain.errors import Refused
from aetheris.evidence.dsse import new_signer
from aetheris.store.keys import KINDS
from aetheris.store.keys import rotate as rotated
from aetheris.store.migrate import migrate

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")


@click.group(cls=Listing)
def keys() -> None:
    """Make keys that seals are signed with (new), and the deployment's own anew (rotate).

    \b
    Example:  aetheris keys new acme-2026
    """


@keys.command()
@click.argument("name")
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="Where to.")
@json_option
def new(name: str, out: Path, screen: Screen) -> None:
    """Write NAME.key (yours alone) and NAME.pub (give it to whoever verifies).

    \b
    Example:  aetheris keys new acme-2026
    """
    if not _NAME.match(name):
        raise Refused(f"{name[:80]!r} can't name a key: letters, digits, dots and dashes")
    private, public = out / f"{name}.key", out / f"{name}.pub"
    for path in (private, public):
        if path.exists():
            raise Refused(f"{path} is there already: a key is never overwritten; choose another name")
    signer, secret = new_signer(name)
    pem = Ed25519PublicKey.from_public_bytes(signer.public.raw).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    out.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret + "\n")
    public.write_bytes(pem)
    screen.fact("private", f"{private}: AETHERIS_EVIDENCE_SIGNING_PRIVATE_KEY, and security.evidence_signing.enabled")
    screen.fact("public", f"{public}: `aetheris verify e.zip --trust {public}`")
    screen.json({"private": str(private), "public": str(public), "keyid": signer.public.keyid})


@keys.command()
@click.argument("kind", type=click.Choice(KINDS))
@json_option
def rotate(kind: str, screen: Screen) -> None:
    """Make a new key of this KIND the one in use; running processes learn of it within half a minute.

    \b
    Example:  aetheris keys rotate job_id
    """
    refuse_over_api()
    database = open_database()
    try:
        asyncio.run(migrate(database))
        number = asyncio.run(rotated(database, kind))
    finally:
        database.close()
    screen.fact("key", f"{kind} {number} is in use; the ones before stay, and verify what they made")
    screen.json({"kind": kind, "key_id": number})
