"""`main`: the main job's figures, each from a run against an embedded PostgreSQL of its own."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import aetheris as ae
from aetheris.domain import events, ledger, merkle
from aetheris.domain.errors import Corrupt
from aetheris.domain.jobs import JobStatus
from aetheris.evidence.verify import verify
from aetheris.forensics.checks import run_checks
from aetheris.forensics.session import Session
from aetheris.lake import open_lake
from aetheris.runtime.mirror import Mirror
from aetheris.store.append import JobKey
from benchmarks import ceiling

JOBS = 100
STEPS = 100
ONE_STEP_JOBS = 200
SHA_EVENTS = 200_000


@ae.tool
async def bump(n: int) -> int:
    """The cheapest effect there is: what remains is the runtime's own cost."""
    return n + 1


@ae.agent(version="1")
async def bumper(ctx: ae.Context, steps: int) -> int:
    """Make `steps` once calls, one after the other."""
    n = 0
    for _ in range(steps):
        n = await ctx.call(bump, n=n)
    return n
