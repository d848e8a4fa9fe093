"""Submitting: a job's first event is made here, and nothing after it."""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aetheris.domain import ids
from aetheris.domain.errors import Refused
from aetheris.domain.events import FORMAT
from aetheris.runtime import tracing
from aetheris.runtime.agents import Agent
from aetheris.runtime.clock import Clock
from aetheris.runtime.joblog import make_event
from aetheris.store.jobs import Submission

#: SHA-256 of the canonical form of an empty configuration: nothing is set.
EMPTY_CONFIG_SHA256 = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
#: A job under such a key would stand in the place of a child that its parent waits for.
_OWN_KEYS = re.compile(rf"(child|continue|retry)/[0-9a-z]{{{ids.LENGTH}}}(/|\Z)")


@dataclass(frozen=True, slots=True)
class Submitter:
    """Who submits for which tenant, with what configuration in force."""

    tenant: str
    keys: Mapping[int, bytes]
    clock: Clock
    by: str
    config_sha256: str = EMPTY_CONFIG_SHA256

    def prepare(
        self,
        agent: Agent,
        value: Any,
        *,
        key: str | None,
        goal: str = "",
        job: str = "",
        parent: str | None = None,
        links: Mapping[str, Any] | None = None,
        timeout_seconds: float | None = None,
        traceparent: str = "",
    ) -> Submission:
        """Return the job's row and genesis, ready to be written. Errors: Refused for a bad input.

        `traceparent` is the submitter's W3C trace context; without one, that of the span that this runs in.
        """
        if key is not None and not job and _OWN_KEYS.match(key):
            raise Refused(f"key {key[:60]!r} is one that a job's child, next run or retry gets by itself: use another")
        bodies = agent.input_cells(value) if agent.takes_input else ()
        now = self.clock.now_us()
        bound: dict[str, Any] = dict(links or {})
        if parent is not None:
            bound["parent"] = parent
        if traceparent := tracing.checked(traceparent) or tracing.current():
            bound["traceparent"] = traceparent
        if (limit := timeout_seconds if timeout_seconds is not None else agent.timeout_seconds) is not None:
            if limit <= 0:
                raise Refused(f"a job's timeout must be above 0 seconds, not {limit:g}")
            bound["expires_at"] = now + int(limit * 1e6)
        return self.genesis(
            job or self.mint(),
            agent.name,
            agent.version,
            now,
            bodies,
            bound,
            key=key,
            goal=goal,
            parent=parent,
            capabilities=agent.asks,
        )

    def mint(self) -> str:
        """Return a fresh job id."""
        key_id = max(self.keys)
        return ids.mint(self.tenant, key_id, self.keys[key_id])

    def genesis(
        self,
        job: str,
        agent: str,
        version: str,
        now_us: int,
        bodies: Sequence[tuple[str, bytes]],
        links: Mapping[str, Any],
        *,
        key: str | None,
        goal: str = "",
        parent: str | None = None,
        capabilities: Sequence[str] = (),
    ) -> Submission:
        """Return a job's row and first event; `links` is what binds it to others, and its deadline."""
        data = {
            **links,
            "agent": agent,
            "agent_version": version,
            "config_sha256": self.config_sha256,
            "format": FORMAT,
            "job": job,
            "tenant": self.tenant,
        }
        _, line, leaf, made = make_event(
            job=job,
            seq=1,
            prev=None,
            at=now_us,
            by=self.by,
            epoch=0,
            type="job_created",
            step=0,
            data=data,
            bodies=bodies,
        )
        return Submission(
            self.tenant,
            job,
            agent,
            version,
            leaf,
            line,
            made,
            key=key,
            goal=goal,
            parent=parent,
            capabilities=capabilities,
        )


def whoami() -> str:
    """Return the actor of this process: "user/NAME"."""
    try:
        return f"user/{getpass.getuser()}"
    except (OSError, KeyError):
        return f"user/{os.getuid()}"
