"""Cells: what may be sensitive, kept beside the line and bound to it by a salted commitment.

    commit = SHA-256("aetheris/cell/v1\\0" || salt(32) || u64be(len name) || name
                     || u64be(seq) || u64be(len job) || job || body)

The commitment stands in the event line; salt and body are stored beside and
can be erased while the chain still verifies. No unsalted digest of a body is
kept anywhere: after erasure it could be guessed.

A cell's name is its path: `args`, `result`, or `args/passenger/email` for a
field that is a cell of its own. In its parent's body the field's place holds
`{"$cell": "args/passenger/email"}`; a value that already looks like that gets
one more `$` when stored and loses it when read.

A cell named `artifact/...` is a file: its body is any bytes. Every other body
is JSON.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import Any, NamedTuple

from aetheris.domain.errors import Corrupt

SALT_BYTES = 32
ARTIFACT_PREFIX = "artifact/"
_DOMAIN = b"aetheris/cell/v1\0"
_ESCAPED = re.compile(r"\$+cell\Z")


class Cell(NamedTuple):
    """One cell as stored. `salt` and `body` are both None once erased."""

    seq: int
    name: str
    salt: bytes | None
    body: bytes | None


def new_salt() -> bytes:
    """Return 32 random bytes from the operating system."""
    return os.urandom(SALT_BYTES)


def commitment(job: str, seq: int, name: str, salt: bytes, body: bytes) -> bytes:
    """Return the 32-byte commitment that an event line carries for this cell.

    Errors: Corrupt when the salt is not 32 bytes.
    """
    if len(salt) != SALT_BYTES:
        raise Corrupt(f"a salt of {len(salt)} bytes, not {SALT_BYTES}")
    name_bytes, job_bytes = name.encode(), job.encode()
    return hashlib.sha256(
        b"".join(
            (
                _DOMAIN,
                salt,
                len(name_bytes).to_bytes(8, "big"),
                name_bytes,
                seq.to_bytes(8, "big"),
                len(job_bytes).to_bytes(8, "big"),
                job_bytes,
                body,
            )
        )
    ).digest()


def child_name(parent: str, *path: str) -> str:
    """Return the cell name of the field at `path` inside cell `parent`.

    Segments are escaped as in RFC 6901 (`~0`, `~1`) and percent-encoded
    outside printable ASCII, since a line's keys are ASCII.
    """
    return "/".join((parent, *(_segment(part) for part in path)))


def reference(name: str) -> dict[str, str]:
    """Return what stands in the parent's body in place of cell `name`."""
    return {"$cell": name}


def escape(value: Any) -> Any:
    """Return `value` so that nothing of the user's can be read as a reference."""
    if type(value) is dict:
        return escape_key({key: escape(item) for key, item in value.items()})
    if type(value) is list:
        return [escape(item) for item in value]
    return value


def escape_key(value: dict[str, Any]) -> dict[str, Any]:
    """Return `value` with its key escaped, if it has one key alone and that looks like a reference's."""
    if len(value) == 1:
        key, item = next(iter(value.items()))
        if _ESCAPED.match(key):
            return {"$" + key: item}
    return value


def assemble(name: str, bodies: dict[str, Any], missing: Any = None) -> Any:
    """Return cell `name`'s value with the cells it refers to put back in place.

    `bodies` maps names to parsed bodies; a referred cell that is not there
    (redacted, erased) becomes `missing`.
    """
    return _fill(bodies[name], bodies, missing, name)


def _fill(value: Any, bodies: dict[str, Any], missing: Any, inside: str) -> Any:
    if type(value) is dict:
        if len(value) == 1:
            key, item = next(iter(value.items()))
            if key == "$cell" and type(item) is str:
                # A child's name extends its parent's, so a forged ring can't loop.
                if not item.startswith(inside + "/"):
                    raise Corrupt(f"cell {inside} refers to {item[:80]}, which is not inside it")
                return _fill(bodies[item], bodies, missing, item) if item in bodies else missing
            if _ESCAPED.match(key):
                return {key[1:]: _fill(item, bodies, missing, inside)}
        return {key: _fill(item, bodies, missing, inside) for key, item in value.items()}
    if type(value) is list:
        return [_fill(item, bodies, missing, inside) for item in value]
    return value


def _segment(part: str) -> str:
    part = part.replace("~", "~0").replace("/", "~1").replace("%", "%25")
    return "".join(c if "!" <= c <= "~" else "".join(f"%{b:02X}" for b in c.encode()) for c in part)
