"""`aetheris mirror --follow`, with what it does hourly or daily done every few seconds.

    python -m tests.soak.mirror LAKE

The command itself, its constants changed before it begins. Retention is whole
days for good reasons; here the collector is told that it is a day later, less
SOAK_RETENTION_SECONDS, so that one day of retention is that short.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from aetheris.cli.allocators import for_a_long_life

ROUND_SECONDS, SEAL_SECONDS, ERASE_SECONDS, COMPACT_SECONDS = 4.0, 2.0, 10.0, 20.0
DAYS = 1


def run(folder: str) -> None:
    """Be `aetheris mirror --follow --lake folder`."""
    for_a_long_life()  # as the command line does, before anything that imports pyarrow
    from aetheris.cli import lake
    from aetheris.cli.main import main
    from aetheris.runtime import housekeeping
    from aetheris.runtime.collection import Collector

    def collector(*given: Any, **named: Any) -> Collector:
        later = timedelta(days=DAYS) - timedelta(seconds=float(os.environ["SOAK_RETENTION_SECONDS"]))
        return Collector(*given, **named, as_of=datetime.now(UTC) + later)

    grace = float(os.environ["SOAK_GRACE_SECONDS"])
    housekeeping.SEAL_SECONDS = SEAL_SECONDS
    housekeeping.ERASE_SECONDS = ERASE_SECONDS
    housekeeping.COMPACT_SECONDS = COMPACT_SECONDS
    housekeeping.Collector = collector  # type: ignore[assignment, misc]
    housekeeping.compact = partial(housekeeping.compact, grace_seconds=grace)
    lake.follow = partial(lake.follow, seconds=ROUND_SECONDS)
    sys.argv = ["aetheris", "mirror", "--follow", "--lake", folder]
    main()


if __name__ == "__main__":
    run(sys.argv[1])
