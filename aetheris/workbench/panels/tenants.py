"""The tenants panel: who has which jobs, what was asked, what was refused, and whether the audit chain holds."""

from __future__ import annotations

from collections import Counter

import ipywidgets as widgets

from aetheris.domain.rows import Rows
from aetheris.workbench import look
from aetheris.workbench.charts.tenants import requests
from aetheris.workbench.desk import Desk
from aetheris.workbench.panels.base import Panel, choice, plural, show, text
from aetheris.workbench.panels.trace import NO_JOBS, NO_JOBS_TYPE

REFUSED_SHOWN = 20


class TenantPanel(Panel):
    """A tenant, its requests as a figure, and who was refused. `tenant`, `refused` and `code` say what is shown."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._breaks = desk.query("tenancy/audit_breaks").rows
        tenants = desk.tenants
        self.tenant_choice = choice([(name, name) for name in tenants], "tenant")
        self._jobs, self._figure, self._refused = text(), widgets.Output(), text()
        #: The requests that were refused, newest first.
        self.refused = Rows([], [])
        super().__init__(self.tenant_choice, self._jobs, self._figure, self._refused)
        self.tenant_choice.observe(self._chosen, names="value")
        if not tenants:
            self.tenant_choice.layout.display = "none"
            self._jobs.value = look.missing(NO_JOBS, *NO_JOBS_TYPE)
            return
        self._chosen()

    def _summary(self) -> str:
        if self.tenant is None:
            return "tenant panel: no tenants"
        jobs, refused = plural(len(self._own_jobs()), "job"), plural(len(self.refused), "request")
        return f"tenant panel: {self.tenant}, {jobs}, {refused} refused"

    @property
    def tenant(self) -> str | None:
        """Whose rows are shown."""
        value: str | None = self.tenant_choice.value
        return value

    @property
    def rows_shown(self) -> int:
        """How many refused requests are on this tenant's chain."""
        return len(self.refused)

    @property
    def code(self) -> str:
        """What was chosen by hand, as code."""
        return f"lake.query('tenancy/audit', tenant_id={self.tenant!r})"

    def _own_jobs(self) -> list[str]:
        return [r["status"] for r in self._desk.jobs.rows if r["tenant_id"] == self.tenant]

    def _chosen(self, _: object = None) -> None:
        jobs = Counter(self._own_jobs())
        asked = self._desk.query("tenancy/actions", tenant_id=self.tenant).rows
        entries = self._desk.query("tenancy/audit", tenant_id=self.tenant).rows
        shown = ["happened_at", "actor", "action", "resource_id", "status", "client_ip"]
        no = [r for r in reversed(entries) if r["success"] is False]
        self.refused = Rows(
            ["at (UTC)", *shown[1:]],
            [[f"{r['happened_at']:%Y-%m-%d %H:%M:%S}", *(r[n] for n in shown[1:])] for r in no],
        )
        broken = [b for b in self._breaks if b["tenant_id"] == self.tenant]
        self._jobs.value = look.page(
            look.table(Rows(["jobs", "count"], sorted(jobs.items())), "this tenant has no job in this record"),
            look.say(f"✕ its audit chain is broken at entry {broken[0]['seq']}: {broken[0]['rule']}", "bad")
            if broken
            else look.say(f"● its audit chain holds, entries: {len(entries):,}", "good")
            if entries
            else look.say(
                "It has no audit chain here: requests come on one where an API serves them (`aetheris serve`)."
            ),
        )
        show(self._figure, requests(asked, f"{self.tenant}: what was asked") if asked else None)
        first = Rows(self.refused.headings, self.refused.rows[:REFUSED_SHOWN])
        more = f", the latest {REFUSED_SHOWN} of {len(no):,}" if len(no) > REFUSED_SHOWN else ""
        self._refused.value = look.page(look.heading(f"refused{more}"), look.table(first, "no request was refused"))
