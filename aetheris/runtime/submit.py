"""Submitting: a job's first event is made here, and nothing after it."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aetheris.domain import ids
from aetheris.domain.events import FORMAT
from aetheris.runtime.agents import Agent
from aetheris.runtime.clock import Clock
from aetheris.runtime.joblog import make_event
from aetheris.store.jobs import Submission

#: SHA-256 of the canonical form of an empty configuration: nothing is set.
EMPTY_CONFIG_SHA256 = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@dataclass(frozen=True, slots=True)
class Submitter:
    """Who submits for which tenant, with what configuration in force."""

    tenant: str
    keys: Mapping[int, bytes]
    clock: Clock
    by: str
    config_sha256: str = EMPTY_CONFIG_SHA256

    def prepare(self, agent: Agent, value: Any, *, key: str | None, goal: str = "") -> Submission:
        """Return the job's row and genesis, ready to be written. Errors: Refused for a bad input."""
        key_id = max(self.keys)
        job = ids.mint(self.tenant, key_id, self.keys[key_id])
        data = {
            "agent": agent.name,
            "agent_version": agent.version,
            "config_sha256": self.config_sha256,
            "format": FORMAT,
            "job": job,
            "tenant": self.tenant,
        }
        _, line, leaf, made = make_event(
            job=job,
            seq=1,
            prev=None,
            at=self.clock.now_us(),
            by=self.by,
            epoch=0,
            type="job_created",
            step=0,
            data=data,
            bodies=agent.input_cells(value) if agent.takes_input else (),
        )
        return Submission(
            self.tenant, job, agent.name, agent.version, leaf, line, made, key=key, goal=goal, capabilities=agent.asks
        )


def whoami() -> str:
    """Return the actor of this process: "user/NAME"."""
    try:
        return f"user/{getpass.getuser()}"
    except (OSError, KeyError):
        return f"user/{os.getuid()}"
