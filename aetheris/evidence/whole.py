"""Files that appear whole or not at all: made under a name of their own in the same folder, then renamed."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from aetheris.domain.errors import Refused
from aetheris.domain.plain import printable

#: A small second file that goes with another: where it lies, and its bytes; None is that there be none.
Beside = tuple[Path, bytes | None]


def write_whole(path: Path, data: bytes, *, beside: Beside | None = None) -> None:
    """Write `data` to `path`, all or nothing, and what belongs beside it. Errors: Refused when it can't be there."""
    with arriving(path) as partial:
        partial.write_bytes(data)
        land(partial, path, beside=beside)


@contextlib.contextmanager
def arriving(path: Path) -> Iterator[Path]:
    """Yield an empty file, to fill and judge before it lands at `path`. If it does not, nothing of it stays.

    Errors: Refused when it can't be written there.
    """
    # In the same folder, so that the last step is one rename; what goes to a device or pipe is not renamed.
    folder = Path(tempfile.gettempdir()) if _is_device(path) else path.parent
    partial = folder / f".{path.name}.{secrets.token_hex(4)}.partial"
    try:
        partial.open("xb").close()
        yield partial
    except OSError as error:
        raise Refused(f"can't write {printable(str(path))}: {error.strerror or error}; nothing was written") from None
    finally:  # Ctrl-C too leaves nothing behind
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def land(partial: Path, path: Path, *, beside: Beside | None = None) -> None:
    """Put what has arrived at `path`, and with it a second file.

    The second goes first. A signature without its file is nothing, and the next
    export replaces it; a file without its signature looks like one that nobody
    signed. If the first then can't be written, what stood there is put back; a
    power cut between the two leaves a pair that doesn't verify, never one that
    passes for another. A device or pipe is written to, for a rename would
    replace it. Errors: OSError.
    """
    with _swapped(*beside) if beside else contextlib.nullcontext():
        if _is_device(path):
            with partial.open("rb") as source, path.open("wb") as out:
                shutil.copyfileobj(source, out)
            return
        _sync(partial)
        partial.replace(path)
    _sync(path.parent)


def _is_device(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


@contextlib.contextmanager
def _swapped(path: Path, data: bytes | None) -> Iterator[None]:
    old = path.read_bytes() if path.is_file() else None
    _place(path, data)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError, Refused):
            _place(path, old)
        raise


def _place(path: Path, data: bytes | None) -> None:
    if data is None:
        path.unlink(missing_ok=True)
        return
    with arriving(path) as partial:
        partial.write_bytes(data)
        land(partial, path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
