"""Panels: ipywidgets over the charts, in one look.

Each says as values what it shows, and, when empty, what is missing and what to type.
"""

from aetheris.workbench.panels.doubt import DoubtPanel
from aetheris.workbench.panels.evidence import EvidencePanel
from aetheris.workbench.panels.limits import LimitPanel
from aetheris.workbench.panels.replay import ReplayPanel
from aetheris.workbench.panels.tenants import TenantPanel
from aetheris.workbench.panels.trace import TracePanel

__all__ = ["DoubtPanel", "EvidencePanel", "LimitPanel", "ReplayPanel", "TenantPanel", "TracePanel"]
