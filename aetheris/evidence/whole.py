"""Files that appear whole or not at all: made under a name of their own in the same folder, then renamed."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from aetheris.domain.errors import Refused
from aetheris.domain.plain import printable


def write_whole(path: Path, data: bytes, *, beside: tuple[Path, bytes | None] | None = None) -> None:
    """Write `data` to `path`, all or nothing, and with it a small second file, `beside`: None is that there be none.

    The second goes first. A signature without its file is nothing, and the next
    export replaces it; a file without its signature looks like one that nobody
    signed. If the first then can't be written, what stood there is put back; a
    power cut between the two leaves a pair that doesn't verify, never one that
    passes for another.

    Errors: Refused when it can't be written there.
    """
    try:
        with _made(path, data) as made, _swapped(*beside) if beside else contextlib.nullcontext():
            made.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise Refused(f"can't write {printable(str(path))}: {error.strerror}; nothing was written") from None


@contextlib.contextmanager
def _made(path: Path, data: bytes) -> Iterator[Path]:
    # In the same folder, so that the last step is one rename.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield partial
    except BaseException:  # Ctrl-C too leaves nothing behind
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _swapped(path: Path, data: bytes | None) -> Iterator[None]:
    old = path.read_bytes() if path.is_file() else None
    _place(path, data)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            _place(path, old)
        raise


def _place(path: Path, data: bytes | None) -> None:
    if data is None:
        path.unlink(missing_ok=True)
        return
    with _made(path, data) as made:
        made.replace(path)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
